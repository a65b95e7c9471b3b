"""The prediction service within this process."""

from collections.abc import Mapping
from typing import Any, Self

import pandas as pd

from wine_quality.database.errors import DatabaseError
from wine_quality.errors import WineQualityError
from wine_quality.parameters import Parameters
from wine_quality.serving.moments import Moments
from wine_quality.serving.predictor import ModelDescription, PredictionService
from wine_quality.traffic.backends.base import (
    Backend,
    BackendContext,
    Health,
    log_may_come_back,
    read_config,
)


class InProcessBackend(Backend):
    """The prediction service within this process: no server, no port."""

    settings_type = Parameters

    def __init__(self, service: PredictionService) -> None:
        """Take a service.

        Args:
            service: Answers and logs.
        """
        self._service = service

    @classmethod
    def from_config(cls, config: Mapping[str, Any], context: BackendContext) -> Self:
        """Make a service of the run's champion and log; there is nothing to set."""
        read_config(Parameters, config, "in_process")
        if context.predictor is None or context.log is None:
            raise WineQualityError(
                "The backend in_process needs a champion and an inference log: train a model "
                "first, or choose another backend."
            )
        return cls(PredictionService(context.predictor, context.log))

    @log_may_come_back()
    def predict(
        self, wines: pd.DataFrame, *, event_time: Moments, source: str, request_id: str
    ) -> pd.DataFrame:
        """Have a batch predicted; its rows are on disk when this returns."""
        return self._service.predict(
            wines, event_time=event_time, source=source, request_id=request_id
        )

    @log_may_come_back()
    def submit_ground_truth(self, labels: pd.DataFrame) -> int:
        """Write labels into the inference log."""
        return self._service.submit_ground_truth(labels)

    def describe_model(self) -> ModelDescription:
        """Name the loaded model version."""
        return self._service.predictor.description

    def check_health(self) -> Health:
        """Ready if the inference log can be written to."""
        try:
            self._service.log.open()
        except DatabaseError as error:
            return Health(ready=False, reason=str(error))
        return Health(ready=True)
