"""Group commit: requests wait together for one transaction that puts them all on disk.

The event loop hands batches to one writer thread. While a commit is under way others gather, and
the next commit takes them all; under little load a request has a commit to itself.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
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
PROBE_S = 0.5
"""Seconds between two looks whether a lost database has come back."""


class QueueFullError(LogUnavailableError):
    """More wines wait for the log than may."""


@dataclass(frozen=True)
class Commit:
    """One group commit, for the metrics."""

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
        on_commit: Called in the event loop after each commit.
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
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        # the event loop alone counts, so that no lock is needed
        self._rows = 0
        self._trouble = ""
        self._thread = threading.Thread(target=self._write, name="inference-log", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def rows(self) -> int:
        """How many wines wait."""
        return self._rows

    @property
    def trouble(self) -> str:
        """Why the log cannot be written to at the moment; empty if it can."""
        return self._trouble

    def start(self) -> None:
        """Begin to write; call it in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def append(self, batch: PredictionBatch) -> LoggedBatch:
        """Write a request's predictions; they are on disk when this returns.

        Raises:
            RequestConflictError: If the request id came before with other wines.
            LogUnavailableError: If too many wait, or the database cannot be reached. The rows of
                the batch are then either all in the log or none, and were not acknowledged.
            InferenceLogError: If the log cannot be used as it stands.
        """
        if self._loop is None:
            raise RuntimeError("the queue has not been started")
        if self._trouble:
            raise LogUnavailableError(self._trouble)
        n = len(batch.rows)
        if self._rows and self._rows + n > self._max_rows:
            raise QueueFullError("The inference log is behind: try again in a second.")
        answer: asyncio.Future[LoggedBatch] = self._loop.create_future()
        self._rows += n
        self._queue.put(_Waiting(batch, answer))
        return await answer

    async def close(self) -> None:
        """Write all that waits, then stop."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        # the last answers were handed over before the thread ended
        await asyncio.sleep(0)

    def _write(self) -> None:
        while True:
            group, last = self._next_group()
            if group:
                self._commit(group)
            elif self._trouble and not last:
                self._probe()
            if last:
                return

    def _next_group(self) -> tuple[list[_Waiting], bool]:
        """What waits, and whether nothing will come after it."""
        group: list[_Waiting] = []
        rows = 0
        try:
            item = self._queue.get(timeout=PROBE_S if self._trouble else None)
            while item is not None:
                group.append(item)
                rows += len(item.batch.rows)
                if rows >= GROUP_ROWS:
                    return group, False
                item = self._queue.get_nowait()
        except queue.Empty:
            return group, False
        return group, True

    def _commit(self, group: Sequence[_Waiting]) -> None:
        # who has hung up or given up is not written: nobody would learn of it
        wanted = [w for w in group if not w.answer.cancelled()]
        start = time.perf_counter()
        results: Sequence[_Result] = []
        if self._trouble:
            results = _refusals(self._trouble, len(wanted))
        elif wanted:
            results = self._append([w.batch for w in wanted])
        rows = sum(len(w.batch.rows) for w in wanted)
        commit = Commit(len(wanted), rows, time.perf_counter() - start)
        self._hand_over(group, wanted, results, commit)

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
                return [self._append([batch])[0] for batch in batches]
            logger.exception("A batch of predictions could not be logged")
            return [error]

    def _hand_over(
        self,
        group: Sequence[_Waiting],
        wanted: Sequence[_Waiting],
        results: Sequence[_Result],
        commit: Commit,
    ) -> None:
        def answer() -> None:
            self._rows -= sum(len(w.batch.rows) for w in group)
            for waiting, result in zip(wanted, results, strict=True):
                if waiting.answer.done():
                    continue
                if isinstance(result, LoggedBatch):
                    waiting.answer.set_result(result)
                else:
                    waiting.answer.set_exception(result)
            if wanted:
                self._on_commit(commit)

        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(answer)

    def _probe(self) -> None:
        try:
            self._log.check()
        except WineQualityError as error:
            self._trouble = str(error)
        else:
            logger.warning("The inference log can be written to again")
            self._trouble = ""


def _refusals(reason: str, n: int) -> list[_Result]:
    """One error for each: an error that is raised twice drags its first traceback along."""
    return [LogUnavailableError(reason) for _ in range(n)]
