"""The challenger's thread: answers for canary requests first, then shadow answers for the log.

Shadow answers are computed some hundred wines at a time, about a second after the wines were
answered, and written together. They are the first that the service gives up.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Literal
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from wine_quality.errors import WineQualityError
from wine_quality.serving.group_prediction import Asked, UnpredictedBatch, answer_together
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.log_writing import ShadowAnswers
from wine_quality.serving.prediction_batch import PredictionBatch
from wine_quality.serving.served_model import ServedModel
from wine_quality.serving.wine_requests import Wines

logger = logging.getLogger(__name__)

Fate = Literal["written", "dropped", "failed"]
"""What became of a wine that was to have a shadow answer: dropped before the challenger saw it, or
failed, because the challenger did not answer or the log did not take it."""

GATHER_S = 1.0
"""Seconds that wines wait for others: while shadow answers are written, the log's own rows wait."""
GROUP_ROWS = 64
"""Wines in one call for shadow answers; a canary request waits for one of these at most."""
REST = 3.0
"""Rest after each call, in times of what it took: a long burst takes a core from requests."""
WRITE_ROWS = 500
"""Shadow answers in one transaction; a commit of the log waits for one of these at most."""
MOST_REQUESTS = 64
"""Canary requests that may wait."""
STALLED_S = 1.0
"""Seconds after which a call that has not returned keeps canary requests away."""
CLOSE_S = 2.0
"""Seconds that closing waits for shadow answers; what still waits then is dropped."""


class NoCanaryAnswerError(WineQualityError):
    """The challenger does not answer a request, or not in time."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """Wines that were answered, and the version that is to say something of them too.

    Attributes:
        model: The challenger.
        wines: n wines.
        prediction_ids: Of the n predictions that were given.
    """

    model: ServedModel
    wines: Wines
    prediction_ids: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class _Request:
    batch: UnpredictedBatch
    answer: "asyncio.Future[PredictionBatch]"


_Job = Shadow | _Request | None
"""None is the end."""


class ChallengerThread:
    """Has a challenger answer, for one event loop, without anybody waiting for it but canaries.

    Args:
        log: Where shadow answers go.
        most_waiting: How many wines may wait for shadow answers.
        limit_s: Seconds that a canary request waits for its answer.
        retry_s: Seconds for which a version that does not answer is left alone.
        on_fate: Called with the fate of some wines and their number, in any thread.
    """

    def __init__(
        self,
        log: InferenceLog,
        most_waiting: int,
        limit_s: float,
        retry_s: float,
        on_fate: Callable[[Fate, int], None] = lambda *_: None,
    ) -> None:
        self._log = log
        self._most_waiting = most_waiting
        self._limit_s = limit_s
        self._retry_s = retry_s
        self._on_fate = on_fate
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        # each of these is written by the event loop alone
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        self._offered = self._requests = 0
        self._closed = False
        self._close_by = math.inf
        # and these by the thread
        self._finished = 0
        self._called_at = math.inf
        self._broken: tuple[ServedModel | None, float] = (None, 0.0)
        self._log_trouble = ""

    # what happens in the event loop

    def start(self) -> None:
        """Begin to work; call it once, in the event loop."""
        if self._loop is not None:
            raise RuntimeError("the challenger's thread has been started before")
        self._loop = asyncio.get_running_loop()
        # whatever a model does, the process's end does not wait for it
        Thread(target=self._run, name="challenger", daemon=True).start()

    def trouble(self, model: ServedModel) -> str:
        """Why a version's answers are missing at the moment; empty if they are not."""
        if self._is_broken(model):
            return "The challenger does not answer: see the log."
        if self._is_stalled():
            return "The challenger takes too long."
        if self._ended.is_set():
            return "The challenger's thread has come to an end: restart the service."
        return self._log_trouble

    def shadow(self, shadow: Shadow) -> bool:
        """Take wines for shadow answers if there is room for them; never waits.

        Returns:
            Whether they were taken.
        """
        n = len(shadow.wines)
        waiting = self._offered - self._finished
        if (waiting and waiting + n > self._most_waiting) or not self._works(shadow.model):
            return False
        self._offered += n
        self._jobs.put(shadow)
        return True

    async def answer(self, batch: UnpredictedBatch) -> PredictionBatch:
        """Have the challenger answer a request.

        Args:
            batch: The request, for the challenger.

        Raises:
            NoCanaryAnswerError: If it did not, or not in time.
            WineQualityError: If the request id cannot be used.
        """
        if (
            self._loop is None
            or not self._works(batch.model)
            or self._is_stalled()
            or self._requests >= MOST_REQUESTS
        ):
            raise NoCanaryAnswerError("The challenger is behind, or does not answer.")
        answer: asyncio.Future[PredictionBatch] = self._loop.create_future()
        self._requests += 1
        self._jobs.put(_Request(batch, answer))
        try:
            await asyncio.wait([answer], timeout=self._limit_s)
        finally:
            self._requests -= 1
            # the thread passes over what nobody waits for
            answer.cancel()
        if answer.cancelled():
            raise NoCanaryAnswerError(f"The challenger took longer than {self._limit_s:g} s.")
        return answer.result()

    async def close(self) -> bool:
        """Write the shadow answers that wait, for `CLOSE_S` at most, and stop.

        Returns:
            Whether the thread has ended: if not, a model or a commit hangs.
        """
        self._closed = True
        if self._loop is None:
            return True
        self._close_by = time.monotonic() + CLOSE_S
        self._jobs.put(None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S + STALLED_S):
                await self._ended.wait()
        return self._ended.is_set()

    def _works(self, model: ServedModel) -> bool:
        return not (self._closed or self._ended.is_set() or self._is_broken(model))

    def _is_broken(self, model: ServedModel) -> bool:
        broken, until = self._broken
        return broken is model and time.monotonic() < until

    def _is_stalled(self) -> bool:
        return time.monotonic() - self._called_at > STALLED_S

    # what happens in the thread

    def _run(self) -> None:
        try:
            self._work()
        except Exception:
            logger.exception("The challenger's thread has come to an end")
        finally:
            self._tell(self._ended.set)

    def _work(self) -> None:
        waiting: deque[Shadow] = deque()
        said: list[ShadowAnswers] = []
        due = math.inf
        ending = False
        while waiting or not ending:
            jobs = self._next_jobs(due)
            ending = ending or None in jobs
            waiting.extend(job for job in jobs if isinstance(job, Shadow))
            self._answer([job for job in jobs if isinstance(job, _Request)])
            now = time.monotonic()
            if waiting:
                due = min(due, now if ending else now + GATHER_S)
            if now < due:
                continue
            if now > self._close_by:
                self._finish("dropped", sum(len(shadow.wines) for shadow in waiting))
                waiting.clear()
            else:
                said += self._say(_next_group(waiting))
            if not waiting or sum(map(len, said)) >= WRITE_ROWS:
                self._write(said)
                said = []
            end = time.monotonic()
            # who comes after the last waits for others again
            due = end + REST * (end - now) if waiting else math.inf

    def _next_jobs(self, due: float) -> Sequence[_Job]:
        """All that has come, having waited for the first until shadow answers are due."""
        jobs: list[_Job] = []
        wait = None if math.isinf(due) else max(0.0, due - time.monotonic())
        with contextlib.suppress(Empty):
            jobs.append(self._jobs.get(timeout=wait))
            while True:
                jobs.append(self._jobs.get_nowait())
        return jobs

    def _call(self, asked: Sequence[Asked]) -> Sequence[NDArray[np.float64] | Exception]:
        """Have the challenger answer; it is left alone for a while if it answers nothing."""
        self._called_at = time.monotonic()
        answers = answer_together(asked)
        self._called_at = math.inf
        failures = [answer for answer in answers if isinstance(answer, Exception)]
        if len(failures) == len(asked):
            model = asked[0].model
            if self._broken[0] is not model:
                logger.error(
                    "ALERT: the challenger does not answer",
                    extra={"version": model.version, "reason": str(failures[0])},
                )
            self._broken = (model, time.monotonic() + self._retry_s)
        return answers

    def _answer(self, requests: Sequence[_Request]) -> None:
        # who has given up was answered by the champion
        requests = [request for request in requests if not request.answer.done()]
        if not requests:
            return
        answers = self._call([request.batch for request in requests])
        for request, answer in zip(requests, answers, strict=True):
            found: PredictionBatch | Exception
            if isinstance(answer, Exception):
                found = NoCanaryAnswerError(str(answer))
            else:
                try:
                    found = request.batch.predicted(answer)
                except Exception as error:
                    found = error
            self._tell(_settle, request.answer, found)

    def _say(self, group: Sequence[Shadow]) -> list[ShadowAnswers]:
        """Have one version say something of some wines."""
        version, now = group[0].model.version, datetime.now(UTC)
        said = []
        for shadow, answer in zip(group, self._call(group), strict=True):
            if isinstance(answer, Exception):
                self._finish("failed", len(shadow.wines))
            else:
                said.append(ShadowAnswers(shadow.prediction_ids, version, answer, now))
        return said

    def _write(self, said: Sequence[ShadowAnswers]) -> None:
        if not said:
            return
        n = sum(map(len, said))
        try:
            self._log.append_shadows(said)
        # whatever it is, nobody was promised these rows
        except Exception as error:
            if not self._log_trouble:
                logger.error("Shadow answers cannot be logged", extra={"reason": str(error)})  # noqa: TRY400
            self._log_trouble = "Shadow answers cannot be logged: see the log."
            self._finish("failed", n)
        else:
            self._log_trouble = ""
            self._finish("written", n)

    def _finish(self, fate: Fate, n: int) -> None:
        self._finished += n
        self._on_fate(fate, n)

    def _tell(self, callback: Callable[..., object], *arguments: object) -> None:
        if self._loop is not None:
            # an event loop that has been closed waits for nothing any more
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(callback, *arguments)


def _next_group(waiting: deque[Shadow]) -> Sequence[Shadow]:
    """Take wines for one version: up to `GROUP_ROWS`, or those of one larger request."""
    group = [waiting.popleft()]
    rows = len(group[0].wines)
    while waiting and waiting[0].model is group[0].model:
        rows += len(waiting[0].wines)
        if rows > GROUP_ROWS:
            break
        group.append(waiting.popleft())
    return group


def _settle(answer: "asyncio.Future[PredictionBatch]", found: PredictionBatch | Exception) -> None:
    if answer.done():
        return
    if isinstance(found, Exception):
        answer.set_exception(found)
    else:
        answer.set_result(found)
