"""What every backend is: the interface, what a run lends it, and what may go wrong for a while."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import pandas as pd
from pydantic import ValidationError

from wine_quality.database.errors import DatabaseUnavailableError
from wine_quality.errors import WineQualityError
from wine_quality.parameters import Parameters
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.moments import Moments
from wine_quality.serving.predictor import ModelDescription, Predictor

_C = TypeVar("_C", bound=Parameters)


class BackendUnavailableError(WineQualityError):
    """What may pass by itself: the server is away, too slow or busy. Asking again may help.

    Everything else that a backend raises has to be corrected first, and a ``RefusedBatchError`` is
    about the request itself, so that nothing can be.

    Attributes:
        retry_after: Seconds to wait before asking again, where the server named them.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        """Say what is away.

        Args:
            message: One line: what is wrong, and what to do.
            retry_after: Seconds to wait, if known.
        """
        super().__init__(message)
        self.retry_after = retry_after


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

    A method that cannot do what it is asked raises ``WineQualityError``: ``RefusedBatchError``
    where the request itself is wrong, and ``BackendUnavailableError`` where asking again may help;
    it does not ask again by itself.
    One backend is used by several threads at once.
    """

    settings_type: ClassVar[type[Parameters] | None] = None
    """What describes its settings, for them to be checked before a run begins; None: nothing."""

    @classmethod
    def check_config(cls, config: Mapping[str, Any], name: str) -> None:
        """Refuse settings that cannot be right, before anything runs.

        Args:
            config: Its settings, as they stand in the parameters.
            name: Its name in an error message.

        Raises:
            WineQualityError: If a setting is wrong, or a package is missing.
        """
        if cls.settings_type is not None:
            read_config(cls.settings_type, config, name)

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


@contextmanager
def log_may_come_back() -> Iterator[None]:
    """Say that a backend is away while the inference log is that it writes to itself.

    Raises:
        BackendUnavailableError: If the log's database does not answer now.
    """
    try:
        yield
    except DatabaseUnavailableError as error:
        raise BackendUnavailableError(str(error)) from error


def read_config(kind: type[_C], config: Mapping[str, Any], backend: str) -> _C:
    """Read a backend's settings.

    Args:
        kind: What it can be told.
        config: What it is told.
        backend: Its name in an error message.

    Returns:
        The settings.

    Raises:
        WineQualityError: If a setting is missing, wrong or not known; it names all of them.
    """
    try:
        return kind.model_validate(dict(config))
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}"
            for e in error.errors(include_url=False)
        )
        raise WineQualityError(
            f"The backend {backend} cannot be set up like that ({mistakes}). It knows the settings "
            f"{', '.join(kind.model_fields) or 'none at all'}."
        ) from None
