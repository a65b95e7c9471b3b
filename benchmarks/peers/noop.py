"""A FastAPI endpoint that does nothing: what the framework and the server cost by themselves."""

from fastapi import FastAPI

app = FastAPI()


@app.post("/predict")
async def predict() -> dict[str, float]:
    return {"prediction": 6.0}
