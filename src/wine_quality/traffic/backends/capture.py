"""What the backends share whose hosts log nothing: the client writes the log.

The servers among them speak MLflow's scoring protocol. Source: MLflow documentation, "Deploy MLflow
Model as a Local Inference Server", the form ``dataframe_split``.
"""

import time
from abc import abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray

from wine_quality.errors import WineQualityError
from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.moments import Moments, utc_moments
from wine_quality.serving.prediction_batch import PredictionBatch
from wine_quality.serving.predictor import (
    ModelDescription,
    answer_frame,
    check_predictions,
    check_wines,
)
from wine_quality.traffic.backends.base import (
    Backend,
    BackendContext,
    Health,
    log_may_come_back,
)
from wine_quality.wines import MEASUREMENT_NAMES, TYPE


class CapturingBackend(Backend):
    """A backend that writes down itself what its server answers.

    The log is asked for the request before the server is, and has the last word: of two answers to
    one request only the first is kept, and given to both.
    """

    def __init__(self, model: ModelDescription, log: InferenceLog) -> None:
        """Take what every such backend needs.

        Args:
            model: Which model the server answers with.
            log: Where its answers are kept.
        """
        self._model = model
        self._log = log

    @abstractmethod
    def _ask(
        self, inputs: pd.DataFrame, prediction_ids: Sequence[UUID], request_id: str
    ) -> NDArray[np.float64]:
        """Have the server predict n checked wines; shape (n,)."""

    @abstractmethod
    def _server_health(self) -> Health:
        """Whether the server can answer; may raise ``WineQualityError``."""

    @log_may_come_back()
    def predict(
        self, wines: pd.DataFrame, *, event_time: Moments, source: str, request_id: str
    ) -> pd.DataFrame:
        """Have a batch predicted, and log it; its rows are on disk when this returns."""
        received_at, start = datetime.now(UTC), time.perf_counter()
        inputs = check_wines(wines)
        moments = utc_moments(event_time, len(inputs), "event_time")
        if inputs.empty:
            return answer_frame(wines.index, [], [], [])
        logged = self._log.find_request(request_id, inputs)
        if logged is None:
            prediction_ids = uuid7_batch(len(inputs))
            answer = self._ask(inputs, prediction_ids, request_id)
            logged = self._log.append_predictions(
                PredictionBatch.from_frame(
                    inputs,
                    check_predictions(answer, len(inputs), self._model),
                    prediction_ids=prediction_ids,
                    event_time=moments,
                    received_at=received_at,
                    model_version=self._model.version,
                    source=source,
                    latency_ms=1000 * (time.perf_counter() - start),
                    request_id=request_id,
                )
            )
        return answer_frame(
            wines.index, logged.prediction_ids, logged.predictions, logged.model_versions
        )

    @log_may_come_back()
    def submit_ground_truth(self, labels: pd.DataFrame) -> int:
        """Write labels into the inference log."""
        return self._log.append_ground_truth(labels)

    def describe_model(self) -> ModelDescription:
        """Name the model version that the log is told."""
        return self._model

    def check_health(self) -> Health:
        """Ready if the server is, and the log can be written to."""
        try:
            self._log.open()
            return self._server_health()
        except WineQualityError as error:
            return Health(ready=False, reason=str(error))


def lent_log(context: BackendContext, backend: str) -> InferenceLog:
    """The run's inference log.

    Raises:
        WineQualityError: If the run lends none.
    """
    if context.log is None:
        raise WineQualityError(
            f"The backend {backend} needs an inference log to write its predictions into: lend it "
            "one, or choose another backend."
        )
    return context.log


def encode_wines(inputs: pd.DataFrame) -> bytes:
    """Write wines in MLflow's scoring protocol.

    Args:
        inputs: Frame of the twelve inputs, n rows; what is missing becomes null.
    """
    measurements = inputs[list(MEASUREMENT_NAMES)].to_numpy(dtype="float64", na_value=np.nan)
    rows = [
        [kind, *values] for kind, values in zip(inputs[TYPE], measurements.tolist(), strict=True)
    ]
    return orjson.dumps({"dataframe_split": {"columns": [TYPE, *MEASUREMENT_NAMES], "data": rows}})


def decode_predictions(said: bytes, where: str) -> NDArray[np.float64]:
    """Read an answer in MLflow's scoring protocol.

    Args:
        said: The answer's body.
        where: Who answered, for an error message.

    Returns:
        Predictions, shape (n,).

    Raises:
        WineQualityError: If it is no such answer.
    """
    try:
        content: Any = orjson.loads(said)
        return np.array(content["predictions"], dtype="float64").reshape(-1)
    except (ValueError, TypeError, KeyError) as error:
        raise WineQualityError(
            f"{where} does not answer with predictions in MLflow's scoring protocol: see that it "
            "serves the wine-quality model."
        ) from error
