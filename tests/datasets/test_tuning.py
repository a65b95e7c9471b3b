import mlflow
import pytest
from kedro.io import DatasetError
from mlflow import MlflowClient

from wine_quality.datasets import StudyDataset
from wine_quality.modelling.tuning import FinishedTrial, Study

TRIAL = FinishedTrial(
    candidate="forest",
    study="forest-0123-abcd",
    number=4,
    state="complete",
    settings={"n_estimators": 7, "max_features": 0.25},
    value=0.65,
    values=(0.7, 0.65),
    seconds=1.5,
)


@pytest.fixture
def study():
    url = "postgresql+psycopg://someone:secret@host/studies"
    return StudyDataset(candidate="forest", credentials={"url": url})


def test_a_study_is_that_of_its_candidate(study):
    loaded = study.load()
    assert isinstance(loaded, Study)
    assert loaded.candidate == "forest"
    assert study.exists()


def test_a_study_does_not_tell_its_password(study):
    assert "secret" not in str(study)


def test_a_study_cannot_be_saved(study):
    with pytest.raises(DatasetError, match="read only"):
        study.save("anything")


def test_a_trial_is_a_run_within_the_pipelines_run(study, experiment_id):
    with mlflow.start_run(experiment_id=experiment_id) as parent:
        study.load().watch(TRIAL)
        assert mlflow.active_run().info.run_id == parent.info.run_id
    client = MlflowClient()
    (run,) = client.search_runs(
        [experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    )
    assert run.info.run_name == "forest trial 4"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"n_estimators": "7", "max_features": "0.25"}
    assert run.data.metrics == {"value": 0.65, "seconds": 1.5, "running_value": 0.65}
    assert {
        "candidate": "forest",
        "trial": "4",
        "state": "complete",
    }.items() <= run.data.tags.items()
    history = client.get_metric_history(run.info.run_id, "running_value")
    assert [(metric.step, metric.value) for metric in history] == [(0, 0.7), (1, 0.65)]


def test_without_a_run_a_trial_is_not_tracked(study, experiment_id):
    before = len(MlflowClient().search_runs([experiment_id]))
    study.load().watch(TRIAL)
    assert len(MlflowClient().search_runs([experiment_id])) == before
