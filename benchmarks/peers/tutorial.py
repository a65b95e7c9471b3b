"""The tutorial's service: a pickled forest, a synchronous endpoint, a frame a request, no log."""

import os
import pickle
from pathlib import Path

import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = pickle.loads(Path(os.environ["BENCHMARK_PICKLE"]).read_bytes())


class Wine(BaseModel):
    """A wine, as the tutorial sends it."""

    type: str
    fixed_acidity: float
    volatile_acidity: float
    citric_acid: float
    residual_sugar: float
    chlorides: float
    free_sulfur_dioxide: float
    total_sulfur_dioxide: float
    density: float
    pH: float  # noqa: N815
    sulphates: float
    alcohol: float


@app.post("/predict")
def predict(wine: Wine) -> dict[str, float]:
    return {"prediction": float(model.predict(pd.DataFrame([wine.model_dump()]))[0])}
