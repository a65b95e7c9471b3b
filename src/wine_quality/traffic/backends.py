"""Where traffic goes: whatever hosts the model, behind one interface."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import pandas as pd

from wine_quality.errors import WineQualityError
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.log_database import InferenceLogError
from wine_quality.serving.moments import Moments
from wine_quality.serving.predictor import ModelDescription, PredictionService, Predictor


@dataclass(frozen=True)
class Health:
    """Whether a backend can answer.

    Attributes:
        ready: Whether it can.
        reason: Why not, in words; empty if it can.
    """

    ready: bool
    reason: str = ""


@dataclass(frozen=True)
class BackendContext:
    """What a run can lend a backend; each takes what it needs.

    Attributes:
        predictor: The loaded champion.
        log: The inference log of this environment.
    """

    predictor: Predictor | None = None
    log: InferenceLog | None = None


class Backend(ABC):
    """Hosts the model, or reaches what hosts it.

    A method that cannot do what it is asked raises ``WineQualityError``.
    """

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any], context: BackendContext) -> Self:
        """Make a backend.

        Args:
            config: Its settings, as they stand in the parameters.
            context: What the run lends.

        Returns:
            A backend, ready for use.

        Raises:
            WineQualityError: If a setting is wrong or something needed is missing.
        """

    @abstractmethod
    def predict(
        self, wines: pd.DataFrame, *, event_time: Moments, source: str, request_id: str
    ) -> pd.DataFrame:
        """Have the quality of a batch of wines predicted, and logged.

        Args:
            wines: Frame with the twelve inputs, n rows; other columns are not passed on.
            event_time: When the wines were measured: one moment, or n.
            source: Who asks, for example ``simulation``.
            request_id: Idempotency key: repeating a batch under its key writes nothing twice.

        Returns:
            Frame with the index of ``wines`` and the columns ``prediction_id``, ``prediction`` and
            ``model_version``.
        """

    @abstractmethod
    def submit_ground_truth(self, labels: pd.DataFrame) -> int:
        """Hand in what tasters said of wines that were predicted; all of it, or nothing.

        Args:
            labels: Frame with ``prediction_id``, ``quality`` and ``labelled_at``.

        Returns:
            How many labels were new.
        """

    @abstractmethod
    def describe_model(self) -> ModelDescription:
        """Name the model that answers."""

    @abstractmethod
    def check_health(self) -> Health:
        """Say whether the backend can answer; raises nothing."""


class InProcessBackend(Backend):
    """The prediction service within this process: no server, no port."""

    def __init__(self, service: PredictionService) -> None:
        """Take a service.

        Args:
            service: Answers and logs.
        """
        self._service = service

    @classmethod
    def from_config(cls, config: Mapping[str, Any], context: BackendContext) -> Self:
        """Make a service of the run's champion and log; there is nothing to set."""
        if config:
            raise WineQualityError(
                f"The backend in_process has no setting {', '.join(map(str, config))}: leave its "
                "config empty."
            )
        if context.predictor is None or context.log is None:
            raise WineQualityError(
                "The backend in_process needs a champion and an inference log: train a model "
                "first, or choose another backend."
            )
        return cls(PredictionService(context.predictor, context.log))

    def predict(
        self, wines: pd.DataFrame, *, event_time: Moments, source: str, request_id: str
    ) -> pd.DataFrame:
        """Have a batch predicted; its rows are on disk when this returns."""
        return self._service.predict(
            wines, event_time=event_time, source=source, request_id=request_id
        )

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
        except InferenceLogError as error:
            return Health(ready=False, reason=str(error))
        return Health(ready=True)


BACKENDS: Mapping[str, type[Backend]] = MappingProxyType({"in_process": InProcessBackend})
"""The backends that have a short name."""


def create_backend(name: str, config: Mapping[str, Any], context: BackendContext) -> Backend:
    """Make a backend by its short name or its class path.

    Args:
        name: A key of ``BACKENDS``, or the path of a subclass of ``Backend``, like
            ``our_team.backends.OurBackend``.
        config: Its settings.
        context: What the run lends.

    Returns:
        The backend.

    Raises:
        WineQualityError: If there is no such backend, or it refuses its settings.
    """
    return _backend_class(name).from_config(config, context)


def _backend_class(name: str) -> type[Backend]:
    if name in BACKENDS:
        return BACKENDS[name]
    module, _, attribute = name.rpartition(".")
    if not module:
        raise WineQualityError(
            f"There is no backend {name!r}: choose {' or '.join(BACKENDS)}, or give the path of a "
            "class, like our_team.backends.OurBackend."
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    # Importing runs somebody's module, which may fail in any way.
    except Exception as error:
        raise WineQualityError(
            f"The backend {name!r} cannot be imported ({type(error).__name__}: {error}): check the "
            "path, and that its package is installed."
        ) from error
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise WineQualityError(
            f"{name!r} is no backend: give a subclass of {Backend.__module__}.{Backend.__name__}."
        )
    return found
