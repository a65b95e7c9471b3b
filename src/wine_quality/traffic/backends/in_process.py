"""The champion within this process: no server, no port."""

from collections.abc import Mapping, Sequence
from typing import Any, Self
from uuid import UUID

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.errors import WineQualityError
from wine_quality.parameters import Parameters
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.predictor import Predictor
from wine_quality.traffic.backends.base import BackendContext, Health, read_config
from wine_quality.traffic.backends.capture import CapturingBackend


class InProcessBackend(CapturingBackend):
    """Answers with the champion itself; ready whenever the inference log can be written to."""

    settings_type = Parameters

    def __init__(self, predictor: Predictor, log: InferenceLog) -> None:
        """Take a champion and a log."""
        super().__init__(predictor.description, log)
        self._predictor = predictor

    @classmethod
    def from_config(cls, config: Mapping[str, Any], context: BackendContext) -> Self:
        """Take the run's champion and log; there is nothing to set."""
        read_config(Parameters, config, "in_process")
        if context.predictor is None or context.log is None:
            raise WineQualityError(
                "The backend in_process needs a champion and an inference log: train a model "
                "first, or choose another backend."
            )
        return cls(context.predictor, context.log)

    def _ask(
        self, inputs: pd.DataFrame, prediction_ids: Sequence[UUID], request_id: str
    ) -> NDArray[np.float64]:
        return self._predictor.predict_checked(inputs)

    def _server_health(self) -> Health:
        return Health(ready=True)
