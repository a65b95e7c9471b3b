"""Inference logs and services to test with.

Logs are SQLite files always, and PostgreSQL where a server is named.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wine_quality.modelling.registry import ModelRegistry, TrainedModel
from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.prediction_batch import PredictionBatch
from wine_quality.serving.settings import ServiceSettings
from wine_quality.wines import MEASUREMENTS, WINE_TYPES

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

MakeWines = Callable[..., pd.DataFrame]
MakeBatch = Callable[..., PredictionBatch]


@pytest.fixture(params=["sqlite", "postgresql"])
def log_url(request: pytest.FixtureRequest, tmp_path: Path, postgres_schema) -> Iterator[str]:
    """URL of a log that nobody has written to yet, one for each kind of database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/logs/inference.db"
        return
    with postgres_schema("run the inference log's tests on PostgreSQL too") as url:
        yield url


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


@dataclass(frozen=True)
class Registered:
    """A registered model for the service to find, and what it should answer."""

    tracking_uri: str
    experiment: str
    registry: ModelRegistry
    wines: pd.DataFrame
    model: Any
    onnx: bytes

    def add(
        self,
        onnx: str = "yes",
        tags: Mapping[str, str | None] | None = None,
        content: bytes | None = None,
        alias: str = "champion",
    ) -> str:
        """Register a version more and give it an alias, with tags and ONNX file changed."""
        import mlflow
        from mlflow import MlflowClient

        tags = {"onnx": onnx, **(tags or {})}
        scores = {"held_out_mae": "0.5", "held_out_wines": "0123456789abcdef"}
        with mlflow.start_run(experiment_id=self.experiment), TemporaryDirectory() as folder:
            made = self.registry.register(TrainedModel(self.model, self.wines, scores))
            if content is not None:
                path = Path(folder) / "model.onnx"
                path.write_bytes(content)
                mlflow.log_artifact(str(path), artifact_path="onnx")
        client = MlflowClient(self.tracking_uri)
        for key, value in tags.items():
            if value is None:
                client.delete_model_version_tag(made.name, made.version, key)
            else:
                client.set_model_version_tag(made.name, made.version, key, value)
        self.registry.set_alias(alias, made.version)
        return made.version


@pytest.fixture
def registered(
    registry: ModelRegistry,
    _tracking_server: tuple[str, str],
    trained: tuple[pd.DataFrame, Any, bytes],
) -> Registered:
    """A registered model of the test's own, without versions."""
    return Registered(*_tracking_server, registry, *trained)


@pytest.fixture
def settings(tmp_path: Path, registered: Registered) -> ServiceSettings:
    """Settings for a service with a registry and a log of the test's own."""
    return ServiceSettings(
        tracking_uri=registered.tracking_uri,
        registered_model=registered.registry.name,
        log_url=f"sqlite:///{tmp_path}/log.db",
        reload_s=0.2,
        retry_refused_s=0.1,
    )


@pytest.fixture
def serve(start_services) -> Iterator[Callable[[ServiceSettings], Any]]:
    """Starts services as processes, and stops them after the test."""
    with start_services() as start:
        yield start
