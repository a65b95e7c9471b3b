"""Inference logs to test with: always a SQLite file, and PostgreSQL where one is named."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.inference_log import InferenceLog, PredictionBatch
from wine_quality.wines import MEASUREMENTS, WINE_TYPES

POSTGRES = "WINE_QUALITY_TEST_POSTGRES_URL"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

MakeWines = Callable[..., pd.DataFrame]
MakeBatch = Callable[..., PredictionBatch]


@pytest.fixture(params=["sqlite", "postgresql"])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a log that nobody has written to yet, one for each kind of database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/logs/inference.db"
        return
    server = os.environ.get(POSTGRES)
    if not server:
        pytest.skip(f"set {POSTGRES} to run the inference log's tests on PostgreSQL too")
    schema = f"test_{uuid4().hex}"
    url = sa.make_url(server).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    yield url.update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(
        hide_password=False
    )
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
    engine.dispose()


@pytest.fixture
def log(log_url: str) -> Iterator[InferenceLog]:
    """A log that nobody has written to yet."""
    with InferenceLog(log_url) as log:
        yield log


@pytest.fixture
def make_wines() -> MakeWines:
    """Makes n plausible wines; the seed says which."""

    def make(n: int, seed: int = 0) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        return pd.DataFrame(
            {
                "type": rng.choice(WINE_TYPES, n),
                **{m.name: rng.uniform(*m.plausible, n) for m in MEASUREMENTS},
            }
        )

    return make


@pytest.fixture
def make_batch(make_wines: MakeWines) -> MakeBatch:
    """Makes a batch of n predictions, or of those of the wines given."""

    def make(wines: int | pd.DataFrame = 1, **changes: object) -> PredictionBatch:
        frame = make_wines(wines) if isinstance(wines, int) else wines
        arguments = {
            "prediction_ids": uuid7_batch(len(frame)),
            "event_time": NOON,
            "received_at": NOON,
            "model_version": "1",
            "source": "test",
            "latency_ms": 1.5,
            **changes,
        }
        return PredictionBatch.from_frame(frame, np.linspace(3, 8, len(frame)), **arguments)

    return make
