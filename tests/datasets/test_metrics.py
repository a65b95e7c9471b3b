import math

import mlflow
import pytest
from mlflow import MlflowClient

from wine_quality.datasets import MetricsDataset

METRICS = {
    "all": {"rmse": 0.7, "n": 120},
    "red": {"rmse": 0.8, "r2": math.nan, "name": "red", "seen": True},
}


@pytest.fixture
def dataset(tmp_path):
    return MetricsDataset(prefix="held_out", filepath=str(tmp_path / "metrics.json"))


def test_finite_numbers_are_logged_by_their_path(dataset, experiment_id):
    with mlflow.start_run(experiment_id=experiment_id) as run:
        dataset.save(METRICS)
    assert MlflowClient().get_run(run.info.run_id).data.metrics == {
        "held_out.all.rmse": 0.7,
        "held_out.all.n": 120,
        "held_out.red.rmse": 0.8,
    }
    assert dataset.load()["all"] == METRICS["all"]


def test_without_a_run_there_is_the_file_alone(dataset, experiment_id):
    dataset.save({"rmse": 0.5})
    assert dataset.load() == {"rmse": 0.5}
    assert mlflow.active_run() is None
