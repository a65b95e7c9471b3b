"""What tests of several packages share: wines, a registry of their own, a runner of pipelines."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import settings
from kedro.io import AbstractDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner
from pandas.testing import assert_frame_equal

from wine_quality.modelling.registry import ModelRegistry
from wine_quality.traffic.synthetic import draw_wines

# read by libraries when they are imported
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")

# a busy machine is no failure
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

RunPipeline = Callable[[Pipeline, Mapping[str, Any]], dict[str, Any]]


@pytest.fixture(scope="session")
def _drawn_wines() -> pd.DataFrame:
    return draw_wines(240, 11, duplicates=True, missing=True)


@pytest.fixture
def labelled_wines(_drawn_wines: pd.DataFrame) -> pd.DataFrame:
    """240 wines of both types, with quality, some exact duplicates and some missing values."""
    return _drawn_wines.copy()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real files, with the subfolders uci and kaggle."""
    folder = os.environ.get("WINE_QUALITY_DATA")
    if not folder or not all((Path(folder) / name).is_dir() for name in ("uci", "kaggle")):
        pytest.skip("WINE_QUALITY_DATA names no folder with the real files in uci/ and kaggle/")
    return Path(folder)


@pytest.fixture(scope="session")
def _tracking_server(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A tracking database and the id of its experiment; making its tables takes seconds."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    experiment = MlflowClient(uri).create_experiment(
        "tests", artifact_location=(folder / "artifacts").as_uri()
    )
    return uri, experiment


@pytest.fixture
def experiment_id(_tracking_server: tuple[str, str]) -> Iterator[str]:
    """Has MLflow write to a database of the tests, and names the experiment for their runs."""
    import mlflow
    from mlflow.tracking._tracking_service import utils

    uri, experiment = _tracking_server
    with utils._use_tracking_uri(uri):
        yield experiment
        while mlflow.active_run():
            mlflow.end_run("FAILED")


@pytest.fixture
def registry(experiment_id: str) -> ModelRegistry:
    """A registered model without versions."""
    return ModelRegistry(f"wine-{uuid4().hex}")


class _Kept(MemoryDataset):
    """A memory dataset that outlives the run, and hands out the very object that was saved."""

    def __init__(self, *data: Any) -> None:
        super().__init__(*data, copy_mode="assign")

    def _release(self) -> None:
        pass


@pytest.fixture(scope="session")
def run_pipeline() -> RunPipeline:
    """Runs a pipeline on a tiny catalog.

    Takes the pipeline and its inputs, values or datasets by name (outputs may have datasets, too);
    gives all that the run has made, by name. Asserts that no node changed an input.
    """

    def run(pipeline: Pipeline, inputs: Mapping[str, Any]) -> dict[str, Any]:
        given = {
            name: value if isinstance(value, AbstractDataset) else _Kept(value)
            for name, value in inputs.items()
        }
        made = {name: _Kept() for name in sorted(pipeline.datasets() - given.keys())}
        before = {
            name: value.copy() for name, value in inputs.items() if isinstance(value, pd.DataFrame)
        }
        SequentialRunner().run(pipeline, DataCatalog({**given, **made}))
        for name, frame in before.items():
            assert_frame_equal(inputs[name], frame)
        return {name: dataset.load() for name, dataset in made.items()}

    return run


@pytest.fixture(scope="session")
def postgres_schema():
    """Opens a schema of its own in the PostgreSQL that the tests were given, and drops it again."""

    @contextmanager
    def open_schema(purpose):
        server = os.environ.get("WINE_QUALITY_TEST_POSTGRES_URL")
        if not server:
            pytest.skip(f"set WINE_QUALITY_TEST_POSTGRES_URL to {purpose}")
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

    return open_schema
