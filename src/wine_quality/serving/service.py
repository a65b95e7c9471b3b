"""What the routes work with: the model that answers, the log that keeps what it answered."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pandas as pd

from wine_quality.database.errors import DatabaseError, DatabaseUnavailableError
from wine_quality.errors import WineQualityError
from wine_quality.modelling.loading import BrokenVersionError
from wine_quality.serving.challenger import Challenger
from wine_quality.serving.group_prediction import TOGETHER_ROWS, UnpredictedBatch
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.live import LiveView
from wine_quality.serving.log_queue import LogQueue
from wine_quality.serving.model_watcher import ModelEvent, ModelWatcher
from wine_quality.serving.prediction_batch import (
    LoggedBatch,
    PredictionBatch,
    RequestConflictError,
)
from wine_quality.serving.problems import ProblemError, unavailable
from wine_quality.serving.served_model import ServedModel
from wine_quality.serving.settings import ServiceSettings
from wine_quality.serving.telemetry import Metrics
from wine_quality.serving.wine_requests import Wines
from wine_quality.wines import MEASUREMENT_NAMES, QUALITY

DEFAULT_SOURCE = "api"
_LABEL_WRITERS = 2


class Service:
    """The parts of one process, on `app.state`.

    Args:
        settings: Limits and names.
        log: Where predictions and labels are kept.
        queue: Writes predictions to the log.
        watcher: Has the model.
        metrics: Where all is counted.
        live: The live page's figures.
        challenger: Answers beside the champion; None if it is asked for nothing.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        log: InferenceLog,
        queue: LogQueue,
        watcher: ModelWatcher,
        metrics: Metrics,
        live: LiveView,
        challenger: Challenger | None = None,
    ) -> None:
        self.settings = settings
        self.log = log
        self.queue = queue
        self.watcher = watcher
        self.metrics = metrics
        self.live = live
        self.challenger = challenger
        # Threads of their own: where the database hangs, those of the other requests do not.
        self.label_writers = ThreadPoolExecutor(_LABEL_WRITERS, "labels")

    def model(self) -> ServedModel:
        """The version that answers now.

        Raises:
            ProblemError: 503 if there is none.
        """
        if self.watcher.model is None:
            raise unavailable(self.watcher.trouble, 5)
        return self.watcher.model

    def check_ready(self) -> None:
        """Check that there is a model and that the log takes its answers.

        Raises:
            ProblemError: 503 if not.
        """
        self.model()
        if self.queue.trouble:
            raise unavailable("The inference log cannot be written to.")

    async def predict(
        self, wines: Wines, caller: str, client: str | None, request_id: str | None, started: float
    ) -> LoggedBatch:
        """Predict n wines and log them; they are on disk when this returns.

        Args:
            wines: Checked wines.
            caller: Who asks, if the request does not say.
            client: Whose requests are all answered by the same version; None if nobody knows.
            request_id: Idempotency key.
            started: `time.perf_counter()` at the request's arrival.

        Raises:
            ProblemError: 409, 422 or 503.
        """
        model = self.model()
        asked = UnpredictedBatch(
            model=model,
            wines=wines,
            received_at=datetime.now(UTC),
            started=started,
            source=wines.source or caller or DEFAULT_SOURCE,
            request_id=request_id,
        )
        try:
            batch = await self._answer(asked, client)
            handed_in = time.perf_counter()
            logged = await self.queue.append(batch)
        except BrokenVersionError:
            raise unavailable("The model did not answer: promote another version.", 30) from None
        except RequestConflictError:
            raise ProblemError(
                409, "This idempotency key was used for other wines: give each request its own."
            ) from None
        except DatabaseError as error:
            raise log_refuses(error) from None
        except WineQualityError as error:
            raise ProblemError(422, str(error)) from None
        if not logged.repeated:
            self.metrics.predicted(logged.model_versions[0], len(wines))
            if self.challenger is not None:
                waited = 1000 * (time.perf_counter() - handed_in)
                self.challenger.waited(waited, len(wines))
                self.challenger.shadow(logged, wines)
        for _, column in wines.implausible:
            self.metrics.implausible(MEASUREMENT_NAMES[column])
        return logged

    async def _answer(
        self, asked: UnpredictedBatch, client: str | None
    ) -> PredictionBatch | UnpredictedBatch:
        """The request with its predictions, or without where they are made by the log's thread."""
        if self.challenger is not None:
            answered = await self.challenger.answer(asked, client)
            if answered is not None:
                return answered
        # a large request is computed beside the log's thread, and holds up no small one there
        small = len(asked) <= TOGETHER_ROWS
        return asked if small else await asyncio.to_thread(asked.predict)

    async def write_labels(self, labels: Sequence[tuple[UUID, float, datetime | None]]) -> int:
        """Write labels, all or none.

        Args:
            labels: Prediction, quality and moment; one without a moment is new only if it says
                something new.

        Returns:
            How many were new.

        Raises:
            UnknownPredictionsError: If a prediction is not in the log.
            DatabaseError: If they could not be written.
        """
        loop = asyncio.get_running_loop()
        new = await loop.run_in_executor(self.label_writers, _write_labels, self.log, labels)
        self.metrics.labelled(new)
        return new

    def warnings(self) -> list[str]:
        """What is amiss though the service can predict and log."""
        trouble = self.challenger.trouble if self.challenger is not None else ""
        return [trouble] if trouble else []

    def describe_model(self) -> dict[str, Any] | None:
        """The version that answers, as JSON knows it (`schemas.ModelAnswer`); None without one."""
        described = _described(self.watcher)
        return described and {**described, "challenger": self.describe_challenger()}

    def describe_challenger(self) -> dict[str, Any] | None:
        """The challenger, as JSON knows it (`schemas.ChallengerAnswer`)."""
        if self.challenger is None:
            return None
        watcher = self.challenger.watcher
        return {
            "shadow_share": self.settings.shadow_share,
            "canary_share": self.settings.canary_share,
            "trouble": self.challenger.trouble,
            "version": _described(watcher),
            "events": [_plain(event) for event in watcher.events],
        }


def log_refuses(error: DatabaseError) -> ProblemError:
    """The problem of a log that cannot be written to: one that may pass by itself, or another."""
    if isinstance(error, DatabaseUnavailableError):
        return unavailable(
            "The inference log cannot be written to: nothing was acknowledged, try again."
        )
    return ProblemError(
        500,
        "The inference log cannot be used as it stands: nothing was acknowledged, and trying again "
        "does not help; the service's own log says why.",
    )


def _described(watcher: ModelWatcher) -> dict[str, Any] | None:
    """The version that a watcher holds (`schemas.VersionAnswer`); None without one."""
    model = watcher.model
    if model is None:
        return None
    return {
        "name": model.name,
        "version": model.version,
        "alias": watcher.alias,
        "runtime": model.runtime,
        "runtime_reason": model.runtime_reason,
        "verified": model.verified,
        "metrics": dict(model.metrics),
        "registered_at": model.registered_at,
        "since": model.loaded_at,
        "refused": _plain(watcher.refused),
        "events": [_plain(event) for event in watcher.events],
    }


def _plain(event: ModelEvent | None) -> dict[str, Any] | None:
    return None if event is None else asdict(event)


def _write_labels(log: InferenceLog, labels: Sequence[tuple[UUID, float, datetime | None]]) -> int:
    known = log.newest_labels([name for name, _, moment in labels if moment is None])
    now = datetime.now(UTC)
    fresh = [
        (name, quality, moment or now)
        for name, quality, moment in labels
        if moment is not None or known.get(name) != quality
    ]
    if not fresh:
        return 0
    columns = ["prediction_id", QUALITY, "labelled_at"]
    return log.append_ground_truth(pd.DataFrame(fresh, columns=columns))
