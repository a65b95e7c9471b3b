"""Group commit: requests wait together for one transaction that puts them all on disk.

A task of the event loop gathers requests and hands them, a group at a time, to a thread that
commits. A group takes all that came while the last commit was under way, and goes on as long as
every turn of the event loop brings another request: a commit costs the interpreter as much as two
requests do, however many rows it has. Under little load a request has a commit to itself.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from wine_quality.errors import WineQualityError
from wine_quality.serving.inference_log import (
    InferenceLog,
    LoggedBatch,
    PredictionBatch,
)
from wine_quality.serving.log_database import LogUnavailableError

logger = logging.getLogger(__name__)

GROUP_ROWS = 2_000
"""A commit takes no further request once it has as many rows: nobody should wait for ever."""
GATHER_S = 0.005
"""Seconds after which a group is committed though every turn still brings a request."""
PROBE_S = 0.5
"""Seconds between two looks whether a lost database has come back."""
_CLOSED = "The inference log is no longer written to: the service is stopping or must be restarted."
_FAILED = "The predictions could not be handed to the inference log."


class QueueFullError(LogUnavailableError):
    """More wines wait for the log than may."""


@dataclass(frozen=True)
class Commit:
    """One group commit, for the metrics: only what was logged."""

    requests: int
    rows: int
    seconds: float


@dataclass(frozen=True)
class _Waiting:
    batch: PredictionBatch
    answer: "asyncio.Future[LoggedBatch]"


_Result = LoggedBatch | Exception


class LogQueue:
    """Writes predictions for one event loop.

    Args:
        log: Where to.
        max_rows: How many wines may wait; who comes then is turned away at once.
        on_commit: Called in the event loop after each commit; what it raises is logged.
    """

    def __init__(
        self,
        log: InferenceLog,
        max_rows: int = 20_000,
        on_commit: Callable[[Commit], None] = lambda _: None,
    ) -> None:
        self._log = log
        self._max_rows = max_rows
        self._on_commit = on_commit
        self._waiting: deque[_Waiting] = deque()
        self._rows = 0
        self._trouble = ""
        self._closing = False
        # set while there is something to do: a request waits, or the end has come
        self._work = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    @property
    def rows(self) -> int:
        """How many wines wait."""
        return self._rows

    @property
    def trouble(self) -> str:
        """Why the log cannot be written to at the moment; empty if it can."""
        return self._trouble or (_CLOSED if self._is_closed else "")

    @property
    def _is_closed(self) -> bool:
        # a writer that has come to an end answers nobody, however it came to it
        return self._closing or (self._writer is not None and self._writer.done())

    def start(self) -> None:
        """Begin to write; call it in the event loop."""
        self._writer = asyncio.get_running_loop().create_task(self._write())

    async def append(self, batch: PredictionBatch) -> LoggedBatch:
        """Write a request's predictions; they are on disk when this returns.

        Raises:
            RequestConflictError: If the request id came before with other wines.
            LogUnavailableError: If too many wait, the database cannot be reached, or the queue is
                closed. The rows of the batch are then either all in the log or none, and were not
                acknowledged.
            InferenceLogError: If the log cannot be used as it stands.
        """
        if self._writer is None:
            raise RuntimeError("the queue has not been started")
        if self.trouble:
            raise LogUnavailableError(self.trouble)
        n = len(batch.rows)
        if self._rows and self._rows + n > self._max_rows:
            raise QueueFullError("The inference log is behind: try again in a second.")
        answer: asyncio.Future[LoggedBatch] = self._writer.get_loop().create_future()
        self._rows += n
        self._waiting.append(_Waiting(batch, answer))
        self._work.set()
        return await answer

    async def close(self) -> None:
        """Write all that waits, then stop."""
        self._closing = True
        self._work.set()
        if self._writer is not None:
            await self._writer

    async def _write(self) -> None:
        # a thread of its own: where the database hangs, nothing else has to wait for it
        try:
            with ThreadPoolExecutor(1, "inference-log") as thread:
                while self._waiting or not self._closing:
                    if self._waiting:
                        await self._gather()
                        await self._commit(self._next_group(), thread)
                    elif self._trouble:
                        await self._probe(thread)
                    else:
                        await self._work.wait()
                        self._work.clear()
        finally:
            # only who is cut off, as by a cancellation, leaves somebody waiting
            _answer(self._waiting, _refusals(_CLOSED, len(self._waiting)))

    async def _gather(self) -> None:
        deadline = time.perf_counter() + GATHER_S
        before = 0
        while before < len(self._waiting) and time.perf_counter() < deadline:
            before = len(self._waiting)
            await asyncio.sleep(0)

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        rows = 0
        while self._waiting and rows < GROUP_ROWS:
            group.append(self._waiting.popleft())
            rows += len(group[-1].batch.rows)
        return group

    async def _commit(self, group: Sequence[_Waiting], thread: ThreadPoolExecutor) -> None:
        # who has hung up or given up is not written: nobody would learn of it
        wanted = [w for w in group if not w.answer.cancelled()]
        start = time.perf_counter()
        # whatever happens on the way to the log, nobody waits for ever
        results: Sequence[_Result] = _refusals(self._trouble or _FAILED, len(wanted))
        try:
            if wanted and not self._trouble:
                results = await asyncio.get_running_loop().run_in_executor(
                    thread, self._append, [w.batch for w in wanted]
                )
        except Exception:
            logger.exception(_FAILED)
        finally:
            self._rows -= sum(len(w.batch.rows) for w in group)
            _answer(wanted, results)
        logged = [
            len(w.batch.rows)
            for w, result in zip(wanted, results, strict=True)
            if isinstance(result, LoggedBatch)
        ]
        if logged:
            self._report(Commit(len(logged), sum(logged), time.perf_counter() - start))

    def _report(self, commit: Commit) -> None:
        try:
            self._on_commit(commit)
        except Exception:
            # a figure that is missing must not take the log down
            logger.exception("A commit could not be reported")

    def _append(self, batches: Sequence[PredictionBatch]) -> Sequence[_Result]:
        try:
            return self._log.append_many(batches)
        except WineQualityError as error:
            logger.error("The inference log cannot be written to", extra={"reason": str(error)})  # noqa: TRY400
            self._trouble = str(error)
            return _refusals(self._trouble, len(batches))
        except Exception as error:
            # A batch that the database does not take must not take the others down.
            if len(batches) > 1:
                return [self._append_one(batch) for batch in batches]
            logger.exception("A batch of predictions could not be logged")
            return [error]

    def _append_one(self, batch: PredictionBatch) -> _Result:
        # once the database is lost nobody waits for it any more
        if self._trouble:
            return LogUnavailableError(self._trouble)
        return self._append([batch])[0]

    async def _probe(self, thread: ThreadPoolExecutor) -> None:
        """Look after a while whether a lost database has come back."""
        self._work.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._work.wait(), PROBE_S)
        try:
            await asyncio.get_running_loop().run_in_executor(thread, self._log.check)
        except WineQualityError as error:
            self._trouble = str(error)
        except Exception as error:
            reason = f"The inference log cannot be looked at: {error!r}"
            if reason != self._trouble:
                logger.exception("The inference log cannot be looked at")
            self._trouble = reason
        else:
            logger.warning("The inference log can be written to again")
            self._trouble = ""


def _answer(wanted: Collection[_Waiting], results: Sequence[_Result]) -> None:
    for waiting, result in zip(wanted, results, strict=True):
        if waiting.answer.done():
            continue
        if isinstance(result, LoggedBatch):
            waiting.answer.set_result(result)
        else:
            waiting.answer.set_exception(result)


def _refusals(reason: str, n: int) -> list[_Result]:
    """One error for each: an error that is raised twice drags its first traceback along."""
    return [LogUnavailableError(reason) for _ in range(n)]
