"""Metrics: a JSON file, and metrics of the MLflow run that wrote it."""

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from kedro_datasets.json import JSONDataset


class MetricsDataset(JSONDataset):
    """A `JSONDataset` whose numbers saving also logs to the active MLflow run.

    Args:
        prefix: First part of the metrics' names; the keys on the way to a number are the others,
            joined by dots.
        settings: The arguments of `JSONDataset`.
    """

    def __init__(self, *, prefix: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._prefix = prefix

    def save(self, data: Mapping[str, Any]) -> None:
        """Write the file, and log the finite numbers in it where an MLflow run is active."""
        import mlflow

        super().save(data)
        if mlflow.active_run():
            mlflow.log_metrics(dict(_numbers(self._prefix, data)))


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(f"{name}.{key}", inner)
    elif isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        yield name, float(value)
