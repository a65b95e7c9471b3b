"""The challenger beside the champion: which requests it answers, and which it shadows.

Both are decided by numbers that stand in the log or in the request, so that they are the same in
every worker and after every restart.
"""

import time
from dataclasses import replace
from hashlib import blake2b
from uuid import UUID, uuid4

from wine_quality.serving.challenger_thread import (
    ChallengerThread,
    NoCanaryAnswerError,
    Shadow,
)
from wine_quality.serving.group_prediction import TOGETHER_ROWS, UnpredictedBatch
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.log_queue import LogQueue
from wine_quality.serving.model_watcher import ModelWatcher
from wine_quality.serving.prediction_batch import LoggedBatch, PredictionBatch
from wine_quality.serving.served_model import ServedModel
from wine_quality.serving.settings import ServiceSettings
from wine_quality.serving.telemetry import Metrics
from wine_quality.serving.wine_requests import Wines

SAID_S = 30.0
"""Seconds for which it is said that shadow answers were dropped."""
_LIMIT_SHARE = 1 / 3
"""Of a request's time that it may wait for the challenger: the champion has to answer after it."""
_WEIGHT = 1 / 16
"""Of one request's time in the smoothed one."""


def is_canary(client: str, share: float) -> bool:
    """Tell whether a client is answered by the challenger.

    It is the same for a client every time; the clients of a share are among those of any greater
    one.

    Args:
        client: Who asks.
        share: Share of the clients, 0 to 1.
    """
    digest = blake2b(client.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def is_shadowed(prediction_id: UUID, share: float) -> bool:
    """Tell whether a request is to have shadow answers, by the first of its predictions.

    Args:
        prediction_id: Version 7, whose last 32 bits are random.
        share: Share of the requests, 0 to 1.
    """
    return (prediction_id.int & 0xFFFFFFFF) < share * 2**32


class Challenger:
    """The challenger of one process.

    Args:
        settings: Its shares and limits.
        watcher: Has the version.
        log: Where shadow answers go.
        queue: Writes predictions to the log; while it is in trouble there are no shadow answers.
        metrics: Where the fate of shadow answers is counted.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        watcher: ModelWatcher,
        log: InferenceLog,
        queue: LogQueue,
        metrics: Metrics,
    ) -> None:
        self.settings = settings
        self.watcher = watcher
        self._queue = queue
        self._metrics = metrics
        self._thread = ChallengerThread(
            log,
            settings.shadow_rows,
            settings.time_limit_s * _LIMIT_SHARE,
            settings.retry_refused_s,
            metrics.shadowed,
        )
        self._smoothed_ms = 0.0
        self._dropped_at = -SAID_S

    @property
    def trouble(self) -> str:
        """Why the challenger's answers are missing, in words; empty if none are."""
        model = self.watcher.model
        if model is None:
            return self.watcher.trouble
        if trouble := self._thread.trouble(model):
            return trouble
        if time.monotonic() - self._dropped_at < SAID_S:
            return "Shadow answers were dropped: the service has too much to do."
        return ""

    async def start(self) -> None:
        """Load the challenger, and begin to work."""
        self._thread.start()
        await self.watcher.start()

    async def close(self) -> bool:
        """Stop; whether all has come to its end."""
        await self.watcher.close()
        return await self._thread.close()

    def waited(self, ms: float, n: int) -> None:
        """Take note of the milliseconds for which a request of n wines waited for the log."""
        # many wines take their time on the quietest day
        of_small = ms / max(1.0, n / TOGETHER_ROWS)
        self._smoothed_ms += _WEIGHT * (of_small - self._smoothed_ms)

    async def answer(self, asked: UnpredictedBatch, client: str | None) -> PredictionBatch | None:
        """Have the challenger answer a request, if it is one of its share.

        Args:
            asked: The request, for the champion.
            client: Who asks; each request of one that is not known is a client of its own.

        Returns:
            Its answer; None if the champion has to answer.

        Raises:
            WineQualityError: If the request id cannot be used.
        """
        share = self.settings.canary_share
        if not share or not is_canary(client or uuid4().hex, share):
            return None
        model = self._other_than(asked.model.version)
        if model is None:
            return None
        try:
            return await self._thread.answer(replace(asked, model=model))
        except NoCanaryAnswerError:
            self._metrics.canary_fell_back()
            return None

    def shadow(self, logged: LoggedBatch, wines: Wines) -> None:
        """Have the challenger say something of wines that were answered; never waits.

        Args:
            logged: What was answered.
            wines: The wines.
        """
        if not is_shadowed(logged.prediction_ids[0], self.settings.shadow_share):
            return
        model = self._other_than(logged.model_versions[0])
        if model is None:
            return
        if (
            self._smoothed_ms > self.settings.shadow_slow_ms
            or self._queue.trouble
            or not self._thread.shadow(Shadow(model, wines, logged.prediction_ids))
        ):
            self._dropped_at = time.monotonic()
            self._metrics.shadowed("dropped", len(wines))

    def _other_than(self, version: str) -> ServedModel | None:
        """The challenger, unless it is this version: just promoted, or the one that answered."""
        model = self.watcher.model
        return None if model is None or model.version == version else model
