"""A candidate's cross-validation scores: a JSON file, and a nested MLflow run of its own."""

from math import isfinite
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
        """Write the file; log settings, metrics and curve where an MLflow run is active."""
        import mlflow
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        super().save(data)
        parent = mlflow.active_run()
        if parent is None:
            return
        with mlflow.start_run(
            run_name=self._candidate,
            nested=True,
            experiment_id=parent.info.experiment_id,
            tags={"candidate": self._candidate, "settings": data["tuned"]},
        ) as run:
            mlflow.log_params(_flat(data["settings"]))
            metrics = {f"cv_{name}": value for name, value in data["metrics"].items()}
            mlflow.log_metrics({name: value for name, value in metrics.items() if isfinite(value)})
            now = int(run.info.start_time)
            series = {CURVE: data["curve"], ROUNDS: data["rounds"]}
            history = [
                Metric(key, value, now, step)
                for key, values in series.items()
                for step, value in enumerate(values)
            ]
            for start in range(0, len(history), BATCH):
                MlflowClient().log_batch(run.info.run_id, metrics=history[start : start + BATCH])


CURVE = "held_back_rmse"
"""Error of the first fold's boosting on its held-back wines; the step is the round."""
ROUNDS = "rounds"
"""How many rounds early stopping chose; the step is the fold."""
BATCH = 1000
"""As many metrics as MLflow takes at once."""


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    inner: dict[str, Any] = settings["settings"]
    plain = {key: value for key, value in settings.items() if key != "settings"} | inner
    stopping = plain.pop("early_stopping", None) or {}
    return plain | {f"early_stopping.{key}": value for key, value in stopping.items()}
