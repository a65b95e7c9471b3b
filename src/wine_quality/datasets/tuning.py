"""The studies of the candidates, whose trials are tracked."""

from typing import Any

from kedro.io import AbstractDataset, DatasetError

from wine_quality.database.addresses import without_password
from wine_quality.modelling.tuning import FinishedTrial, Study


class StudyDataset(AbstractDataset[Any, Study]):
    """A candidate's study, whose trials become runs nested in the active MLflow run; load only.

    Args:
        candidate: Name of the candidate.
        credentials: `url` of the database.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self,
        *,
        candidate: str,
        credentials: dict[str, str],
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._candidate = candidate
        self._url = credentials["url"]
        self.metadata = metadata

    def load(self) -> Study:
        """Return the study; its database is opened when it is searched."""
        return Study(self._candidate, self._url, watch=log_trial)

    def save(self, data: Any) -> None:
        """Refuse: what searches a study writes to it."""
        raise DatasetError("A study is read only: what searches it writes to its database.")

    def _exists(self) -> bool:
        # it is made when it is first used
        return True

    def _describe(self) -> dict[str, Any]:
        return {"candidate": self._candidate, "database": without_password(self._url)}


def log_trial(trial: FinishedTrial) -> None:
    """Log a trial as a run nested in the active MLflow run, if there is one."""
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    parent = mlflow.active_run()
    if parent is None:
        return
    with mlflow.start_run(
        run_name=f"{trial.candidate} trial {trial.number}",
        nested=True,
        experiment_id=parent.info.experiment_id,
        tags={
            "candidate": trial.candidate,
            "study": trial.study,
            "trial": str(trial.number),
            "state": trial.state,
        },
    ) as run:
        numbers = {"seconds": trial.seconds}
        if trial.value is not None:
            numbers["value"] = trial.value
        history = [("running_value", value, step) for step, value in enumerate(trial.values)]
        now = int(run.info.start_time)
        MlflowClient().log_batch(
            run.info.run_id,
            metrics=[
                Metric(key, value, now, step)
                for key, value, step in [*((k, v, 0) for k, v in numbers.items()), *history]
            ],
            params=[Param(key, str(value)) for key, value in trial.settings.items()],
        )
