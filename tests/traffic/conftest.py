"""What the tests of traffic share: wines, and a service that logs what it answers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.predictor import Predictor
from wine_quality.traffic.backends import InProcessBackend
from wine_quality.wines import MEASUREMENTS, WINE_TYPES


class HalfOfAlcohol:
    def predict(self, wines: pd.DataFrame) -> np.ndarray:
        return wines["alcohol"].to_numpy() / 2


@pytest.fixture(scope="session")
def make_wines() -> Callable[..., pd.DataFrame]:
    """Makes so many plausible wines; a share of the measurements may be missing."""

    def make(n: int, seed: int = 0, missing: float = 0.0) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        wines = pd.DataFrame(
            {
                "type": rng.choice(WINE_TYPES, n),
                **{m.name: rng.uniform(*m.plausible, n) for m in MEASUREMENTS},
                "quality": rng.integers(3, 9, n),
            }
        )
        for m in MEASUREMENTS:
            wines.loc[rng.random(n) < missing, m.name] = np.nan
        return wines

    return make


@pytest.fixture
def log(tmp_path: Path) -> InferenceLog:
    return InferenceLog(f"sqlite:///{tmp_path}/inference.db")


@pytest.fixture
def backend(log: InferenceLog) -> InProcessBackend:
    return InProcessBackend(Predictor(HalfOfAlcohol(), "wine-quality", "3"), log)
