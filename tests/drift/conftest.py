"""A population of wines from which the drift tests draw references and windows."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from apprise import NotifyBase
from requests.adapters import HTTPAdapter

from wine_quality.drift.reference import Reference
from wine_quality.wines import PREDICTION, QUALITY, TYPE

CENTRES_AND_SPREADS = {
    "fixed_acidity": (7.2, 0.15),
    "volatile_acidity": (0.3, 0.35),
    "citric_acid": (0.3, 0.35),
    "residual_sugar": (5.0, 0.6),
    "chlorides": (0.05, 0.4),
    "free_sulfur_dioxide": (30.0, 0.5),
    "total_sulfur_dioxide": (115.0, 0.35),
    "density": (0.9947, 0.003),
    "pH": (3.2, 0.05),
    "sulphates": (0.53, 0.25),
    "alcohol": (10.5, 0.11),
}

DrawWines = Callable[[int, int], pd.DataFrame]


@pytest.fixture(scope="session")
def draw_wines() -> DrawWines:
    """Draw n log-normal wines under a seed: inputs, quality and a model's prediction."""

    def draw(n: int, seed: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        common = rng.normal(size=n)
        wines = {TYPE: np.where(rng.random(n) < 0.25, "red", "white")}
        for name, (centre, spread) in CENTRES_AND_SPREADS.items():
            wines[name] = centre * np.exp(spread * (0.5 * common + 0.87 * rng.normal(size=n)))
        quality = np.clip(np.rint(5.8 + 0.9 * rng.normal(size=n)), 3, 9)
        guess = 5.8 + 0.5 * (quality - 5.8) + 0.4 * rng.normal(size=n)
        return pd.DataFrame({**wines, QUALITY: quality, PREDICTION: guess})

    return draw


@pytest.fixture(scope="session")
def as_log() -> Callable[..., pd.DataFrame]:
    """Spread wines over consecutive days, `per_day` of them on each."""

    def log(wines: pd.DataFrame, per_day: int | None = None) -> pd.DataFrame:
        day = np.arange(len(wines)) // (per_day or max(len(wines), 1))
        moments = pd.Timestamp("2026-03-01T08:00", tz="UTC") + pd.to_timedelta(day, unit="D")
        ids = [f"id-{i}" for i in range(len(wines))]
        return wines.assign(prediction_id=ids, event_time=moments, model_version="3")

    return log


@pytest.fixture(scope="session")
def held_out(draw_wines: DrawWines) -> pd.DataFrame:
    return draw_wines(1500, 1)


@pytest.fixture(scope="session")
def reference(held_out: pd.DataFrame) -> Reference:
    return Reference.from_wines(held_out)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, postgres_schema) -> Iterator[str]:
    """An empty database of either kind, for what monitoring keeps."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/store/monitoring.db"
        return
    with postgres_schema("keep profiles and verdicts in PostgreSQL too") as url:
        yield url


@pytest.fixture
def reroute(monkeypatch):
    """Has requests to any host come to a server of the tests."""

    def to(address: str) -> None:
        send = HTTPAdapter.send

        def send_there(self, request, **options):
            request.url = address + request.url.split("://", 1)[1].partition("/")[2]
            return send(self, request, **options)

        monkeypatch.setattr(HTTPAdapter, "send", send_there)
        # services ask to be sent a message a second at most
        monkeypatch.setattr(NotifyBase, "throttle", lambda *_, **__: None)

    return to
