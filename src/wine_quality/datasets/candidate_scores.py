"""A candidate's cross-validation scores: a JSON file, and a nested MLflow run of its own."""

from typing import Any

from kedro_datasets.json import JSONDataset


class CandidateScoresDataset(JSONDataset):
    """A `JSONDataset` of scores that saving also logs as a run nested in the pipeline's run.

    Args:
        candidate: Name of the candidate and of the nested run.
        settings: The arguments of `JSONDataset`.
    """

    def __init__(self, *, candidate: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._candidate = candidate

    def save(self, data: dict[str, Any]) -> None:
        """Write the file, and log settings and metrics where an MLflow run is active."""
        import mlflow

        super().save(data)
        parent = mlflow.active_run()
        if parent is None:
            return
        with mlflow.start_run(
            run_name=self._candidate,
            nested=True,
            experiment_id=parent.info.experiment_id,
            tags={"candidate": self._candidate},
        ):
            mlflow.log_params(_flat(data["settings"]))
            mlflow.log_metrics({f"cv_{name}": value for name, value in data["metrics"].items()})


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    inner: dict[str, Any] = settings["settings"]
    return {key: value for key, value in settings.items() if key != "settings"} | inner
