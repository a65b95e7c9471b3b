import json

import mlflow
import pytest
from mlflow import MlflowClient

from wine_quality.datasets import CandidateScoresDataset

SCORES = {
    "settings": {
        "estimator": "sklearn.tree.DecisionTreeRegressor",
        "settings": {"max_depth": 3},
        "scale": False,
        "early_stopping": {"rounds": 30, "held_back_share": 0.15},
    },
    "tuned": "tuned, best of 12 trials",
    "metrics": {"rmse": 0.7, "accuracy_within_0.5": 0.6},
    "folds": [{"repeat": 0, "fold": 0, "rmse": 0.7, "accuracy_within_0.5": 0.6}],
    "rounds": [2, 4],
    "curve": [0.9, 0.8, 0.85],
}


@pytest.fixture
def dataset(tmp_path):
    return CandidateScoresDataset(
        candidate="decision_tree", filepath=str(tmp_path / "decision_tree.json")
    )


def nested_runs(experiment_id, parent):
    return MlflowClient().search_runs(
        [experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    )


def test_scores_come_back_as_they_were_saved(dataset, tmp_path):
    assert not dataset.exists()
    dataset.save(SCORES)
    assert dataset.exists()
    assert dataset.load() == SCORES
    assert json.loads((tmp_path / "decision_tree.json").read_text()) == SCORES


def test_a_candidate_is_a_run_within_the_pipelines_run(dataset, experiment_id):
    with mlflow.start_run(experiment_id=experiment_id) as parent:
        dataset.save(SCORES)
        assert mlflow.active_run().info.run_id == parent.info.run_id
    (run,) = nested_runs(experiment_id, parent)
    assert run.info.run_name == "decision_tree"
    assert run.info.status == "FINISHED"
    assert run.data.tags["candidate"] == "decision_tree"
    assert run.data.params == {
        "estimator": "sklearn.tree.DecisionTreeRegressor",
        "max_depth": "3",
        "scale": "False",
        "early_stopping.rounds": "30",
        "early_stopping.held_back_share": "0.15",
    }
    assert run.data.tags["settings"] == "tuned, best of 12 trials"
    assert run.data.metrics == {
        "cv_rmse": 0.7,
        "cv_accuracy_within_0.5": 0.6,
        "held_back_rmse": 0.85,
        "rounds": 4,
    }
    client = MlflowClient()
    for key, values in (("held_back_rmse", [0.9, 0.8, 0.85]), ("rounds", [2, 4])):
        history = client.get_metric_history(run.info.run_id, key)
        assert [(metric.step, metric.value) for metric in history] == list(enumerate(values))
    assert MlflowClient().get_run(parent.info.run_id).data.metrics == {}


def test_without_a_run_nothing_is_tracked(dataset, experiment_id):
    before = len(MlflowClient().search_runs([experiment_id]))
    dataset.save(SCORES)
    assert len(MlflowClient().search_runs([experiment_id])) == before
