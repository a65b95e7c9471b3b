"""Our prediction service over HTTP."""

import os
from collections.abc import Mapping
from typing import Any, Self, TypeVar

import numpy as np
import orjson
import pandas as pd
from pydantic import BaseModel, Field, HttpUrl, ValidationError

from wine_quality.errors import RefusedBatchError, WineQualityError
from wine_quality.parameters import Parameters
from wine_quality.serving.labels import read_labels, unknown_predictions
from wine_quality.serving.moments import Moments, utc_moments
from wine_quality.serving.prediction_batch import RequestConflictError
from wine_quality.serving.predictor import ModelDescription, answer_frame, check_wines
from wine_quality.serving.problems import Problem
from wine_quality.serving.schemas import (
    GroundTruthAnswer,
    HealthAnswer,
    ModelAnswer,
    Prediction,
    PredictionBatchAnswer,
)
from wine_quality.traffic.backends.base import (
    Backend,
    BackendContext,
    Health,
    read_config,
)
from wine_quality.traffic.backends.http import HttpServer, RefusedError
from wine_quality.wines import INPUTS

_A = TypeVar("_A", bound=BaseModel)


class ServiceConfig(Parameters):
    """Where the service is."""

    url: HttpUrl = Field(HttpUrl("http://127.0.0.1:8000"), description="Address of the service")
    api_key_variable: str | None = Field(
        None, min_length=1, description="Environment variable that holds the API key"
    )
    rows_per_request: int = Field(
        1_000, ge=1, description="A larger batch goes in several requests; see the service's limit"
    )
    timeout_s: float = Field(30.0, gt=0, description="Seconds until an answer has to be there")
    connections: int = Field(16, ge=1, description="Most connections at once")


class ServiceBackend(Backend):
    """The prediction service over HTTP, which keeps the inference log itself.

    A batch larger than ``rows_per_request`` goes in several requests, whose keys are made of the
    batch's: all of its wines, or those of some requests, are logged when one of them fails, and
    repeating the batch completes it. The size is a setting, and not what the service says that it
    takes, so that a repeated batch is cut as the first time.
    """

    settings_type = ServiceConfig

    def __init__(self, server: HttpServer, rows_per_request: int) -> None:
        """Take a server.

        Args:
            server: Where the service is.
            rows_per_request: Most wines or labels in a request.
        """
        self._server = server
        self._rows = rows_per_request

    @classmethod
    def check_config(cls, config: Mapping[str, Any], name: str) -> None:
        """See that the variable of the key is set, too."""
        super().check_config(config, name)
        _headers(ServiceConfig.model_validate(dict(config)))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], context: BackendContext) -> Self:
        """Reach a service by ``ServiceConfig``; nothing is asked of it yet."""
        settings = read_config(ServiceConfig, config, "service")
        server = HttpServer(
            settings.url,
            name="the prediction service ('just serve')",
            timeout_s=settings.timeout_s,
            connections=settings.connections,
            headers=_headers(settings),
        )
        return cls(server, settings.rows_per_request)

    def predict(
        self, wines: pd.DataFrame, *, event_time: Moments, source: str, request_id: str
    ) -> pd.DataFrame:
        """Have a batch predicted; its rows are on the service's disk when this returns."""
        inputs = check_wines(wines)
        moments = utc_moments(event_time, len(inputs), "event_time")
        columns = [inputs[name].tolist() for name in INPUTS]
        names = (*INPUTS, "event_time")
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, moments, strict=True)]
        answered: list[Prediction] = []
        for start in range(0, len(rows), self._rows):
            part = rows[start : start + self._rows]
            key = f"{request_id}:{start}" if start else request_id
            answered += self._predict({"wines": part, "source": source}, key, len(part))
        return answer_frame(
            wines.index,
            [answer.prediction_id for answer in answered],
            [answer.prediction for answer in answered],
            [answer.model_version for answer in answered],
        )

    def _predict(self, content: Mapping[str, Any], key: str, n: int) -> list[Prediction]:
        # orjson writes NaN, which JSON does not know, as the null that it stands for
        body = orjson.dumps(content)
        try:
            said = self._server.post("/predict/batch", body, {"Idempotency-Key": key})
        except RefusedError as error:
            raise self._refusal(error, key) from error
        answer = self._read(PredictionBatchAnswer, said)
        if (
            len(answer.predictions) != n
            or not np.isfinite([prediction.prediction for prediction in answer.predictions]).all()
        ):
            raise self._stranger()
        return answer.predictions

    def submit_ground_truth(self, labels: pd.DataFrame) -> int:
        """Hand labels in; those beyond ``rows_per_request`` in requests of their own."""
        checked, malformed = read_labels(labels)
        if malformed:
            raise unknown_predictions(malformed, len(labels))
        new = 0
        for start in range(0, len(checked), self._rows):
            part = checked[start : start + self._rows]
            try:
                said = self._server.post("/ground-truth", orjson.dumps({"labels": part}))
            except RefusedError as error:
                raise self._refusal(error, labelled=len(part)) from error
            new += self._read(GroundTruthAnswer, said).new
        return new

    def describe_model(self) -> ModelDescription:
        """Ask the service for its model version."""
        try:
            answer = self._read(ModelAnswer, self._server.get("/model"))
        except RefusedError as error:
            raise self._refusal(error) from error
        return ModelDescription(answer.name, answer.version)

    def check_health(self) -> Health:
        """Ready if the service says so, and knows the API key."""
        try:
            self._read(HealthAnswer, self._server.get("/health/ready"))
            self._server.get("/model")
        except RefusedError as error:
            # a key that may write, and not read, is enough for traffic
            if error.status != 403:
                return Health(ready=False, reason=str(self._refusal(error)))
        except WineQualityError as error:
            return Health(ready=False, reason=str(error))
        return Health(ready=True)

    def _read(self, kind: type[_A], said: bytes) -> _A:
        try:
            return kind.model_validate_json(said)
        except ValidationError as error:
            raise self._stranger() from error

    def _stranger(self) -> WineQualityError:
        return WineQualityError(
            f"What answers at {self._server.url} is no wine-quality service: correct the backend's "
            "url."
        )

    def _refusal(
        self, error: RefusedError, request_id: str = "", labelled: int = 0
    ) -> WineQualityError:
        """What a refusal means, in the words of all backends."""
        try:
            problem = Problem.model_validate_json(error.body)
        except ValidationError:
            return self._stranger()
        url = self._server.url
        if error.status == 401:
            return WineQualityError(
                f"The service at {url} does not know the API key: name the environment variable "
                "that holds a valid one in the backend's api_key_variable."
            )
        if error.status == 403:
            return WineQualityError(
                f"The API key does not allow this at {url} ({problem.detail}): use one with the "
                "scope that is needed."
            )
        if problem.unknown:
            return unknown_predictions(problem.unknown, labelled)
        if error.status == 409:
            return RequestConflictError(request_id)
        if error.status == 413:
            return WineQualityError(
                f"The service at {url} takes no requests of that size ({problem.detail}): lower "
                f"the backend's rows_per_request, which is {self._rows}."
            )
        if error.status == 422:
            return RefusedBatchError(str(error))
        return error


def _headers(settings: ServiceConfig) -> dict[str, str]:
    if not settings.api_key_variable:
        return {}
    key = os.environ.get(settings.api_key_variable)
    if not key:
        raise WineQualityError(
            f"The environment variable {settings.api_key_variable} holds no API key: set it, or "
            "leave api_key_variable out for a service without keys."
        )
    return {"X-API-Key": key}
