"""A server that was started with `mlflow models serve`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Self
from uuid import UUID

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, HttpUrl

from wine_quality.errors import WineQualityError
from wine_quality.parameters import Parameters
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.predictor import ModelDescription, Predictor
from wine_quality.traffic.backends.base import (
    BackendContext,
    Health,
    read_config,
)
from wine_quality.traffic.backends.capture import (
    CapturingBackend,
    decode_predictions,
    encode_wines,
    lent_log,
)
from wine_quality.traffic.backends.http import HttpServer, RefusedError
from wine_quality.wines import QUALITY_STEP, TYPE, WINE_EXAMPLE, WINE_TYPES

_VERSION = re.compile(rb"\d+\.\d+\S*\s*")
_TOLERANCE = 1e-6 * QUALITY_STEP
"""Quality points by which the same model may answer otherwise in another process."""


class MlflowServerConfig(Parameters):
    """Where the server is, and what it serves."""

    url: HttpUrl = Field(HttpUrl("http://127.0.0.1:5001"), description="Address of the server")
    registered_model: str = Field("wine-quality", description="Name of the model in the registry")
    version: str | None = Field(
        None,
        min_length=1,
        # 3 is a number on the command line and in YAML
        coerce_numbers_to_str=True,
        description="Version that it serves; the champion, if not given",
    )
    timeout_s: float = Field(30.0, gt=0, description="Seconds until an answer has to be there")
    connections: int = Field(16, ge=1, description="Most connections at once")


class MlflowServerBackend(CapturingBackend):
    """A server of MLflow's, which says neither which version it serves nor keeps any answer.

    The version in the log is therefore the run's champion, which the server has to answer like, or
    the one that the settings name.
    """

    settings_type = MlflowServerConfig

    def __init__(
        self,
        server: HttpServer,
        model: ModelDescription,
        log: InferenceLog,
        champion: Predictor | None,
    ) -> None:
        """Take a server.

        Args:
            server: Where it is.
            model: Which model it serves.
            log: Where its answers are kept.
            champion: Whom it has to answer like; None if that is not known.
        """
        super().__init__(model, log)
        self._server = server
        self._champion = champion

    @classmethod
    def from_config(cls, config: Mapping[str, Any], context: BackendContext) -> Self:
        """Reach a server by ``MlflowServerConfig``; nothing is asked of it yet."""
        settings = read_config(MlflowServerConfig, config, "mlflow_server")
        log = lent_log(context, "mlflow_server")
        if settings.version is not None:
            champion, model = None, ModelDescription(settings.registered_model, settings.version)
        elif context.predictor is not None:
            champion, model = context.predictor, context.predictor.description
        else:
            raise WineQualityError(
                "The backend mlflow_server cannot say which model version answers: set its "
                "version, or train a champion first."
            )
        server = HttpServer(
            settings.url,
            name="the server ('just serve-mlflow')",
            timeout_s=settings.timeout_s,
            connections=settings.connections,
            headers={},
        )
        return cls(server, model, log, champion)

    def _ask(
        self, inputs: pd.DataFrame, prediction_ids: Sequence[UUID], request_id: str
    ) -> NDArray[np.float64]:
        said = self._server.post("/invocations", encode_wines(inputs))
        return decode_predictions(said, f"The server at {self._server.url}")

    def _server_health(self) -> Health:
        url = self._server.url
        try:
            self._server.get("/ping")
            version = self._server.get("/version")
        except RefusedError:
            version = b""
        if not _VERSION.fullmatch(version):
            return Health(
                False, f"What answers at {url} is no MLflow model server: correct the url."
            )
        if self._champion is not None and not self._answers_like(self._champion):
            return Health(
                False,
                f"The server at {url} answers otherwise than the champion, version "
                f"{self._model.version}: start it anew, or set the backend's version to the one "
                "that it serves.",
            )
        return Health(ready=True)

    def _answers_like(self, champion: Predictor) -> bool:
        wines = pd.DataFrame([{**WINE_EXAMPLE, TYPE: kind} for kind in WINE_TYPES])
        answer = self._ask(wines, [], "")
        expected = champion.predict(wines)
        return answer.shape == expected.shape and np.allclose(
            answer, expected, rtol=0, atol=_TOLERANCE
        )
