"""Group commit: requests wait together for one transaction that puts them all on disk.

The event loop gathers requests and hands them, a group at a time, to a thread that commits. A group
takes all that came while the last commit was under way, and goes on as long as every turn of the
event loop brings another request: a commit costs the interpreter as much as two requests do,
however many rows it has. Under little load a request has a commit to itself.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

from wine_quality.database.errors import DatabaseError, DatabaseUnavailableError
from wine_quality.serving.group_prediction import UnpredictedBatch, predict_together
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.prediction_batch import LoggedBatch, PredictionBatch

logger = logging.getLogger(__name__)

GROUP_ROWS = 2_000
"""A commit takes no further request once it has as many rows: nobody should wait for ever."""
GATHER_S = 0.005
"""Seconds after which a group is committed though every turn still brings a request."""
PROBE_S = 0.5
"""Seconds between two looks whether a lost database has come back."""
STALLED_S = 5.0
"""Seconds after which a commit that has not returned is trouble: nobody else is made to wait."""
CLOSE_S = 10.0
"""Seconds that closing waits for the last commits."""
_CLOSED = "The inference log is no longer written to: the service is stopping or must be restarted."


class QueueFullError(DatabaseUnavailableError):
    """More wines wait for the log than may."""


@dataclass(frozen=True)
class Commit:
    """One group commit, for the metrics: only what was logged."""

    requests: int
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Waiting:
    batch: PredictionBatch | UnpredictedBatch
    answer: "asyncio.Future[LoggedBatch]"


_Group = Sequence[_Waiting]


@dataclass(frozen=True, slots=True)
class _Handed:
    group: _Group
    at: float


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
        # the event loop's: who waits, and whom the writer has in hand
        self._waiting: deque[_Waiting] = deque()
        self._handed: deque[_Handed] = deque()
        self._gathering = False
        self._rows = 0
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        # the writer's: None is the end
        self._groups: SimpleQueue[_Group | None] = SimpleQueue()
        self._trouble: DatabaseError | None = None

    @property
    def rows(self) -> int:
        """How many wines wait."""
        return self._rows

    @property
    def trouble(self) -> str:
        """Why the log cannot be written to at the moment; empty if it can."""
        return str(self._refusal() or "")

    def _refusal(self) -> DatabaseError | None:
        if trouble := self._trouble:
            return _again(trouble)
        # a writer that has come to an end answers nobody, however it came to it
        if self._closed or self._ended.is_set():
            return DatabaseUnavailableError(_CLOSED)
        seconds = time.perf_counter() - self._handed[0].at if self._handed else 0.0
        if seconds > STALLED_S:
            return DatabaseUnavailableError(
                f"The inference log's database has not answered for {seconds:.0f} s."
            )
        return None

    def start(self) -> None:
        """Begin to write; call it once, in the event loop."""
        if self._loop is not None:
            raise RuntimeError("the queue has been started before")
        self._loop = asyncio.get_running_loop()
        # A thread of its own: where the database hangs, nothing else has to wait for it, not even
        # the process's end.
        Thread(target=self._write, name="inference-log", daemon=True).start()

    async def append(self, batch: PredictionBatch | UnpredictedBatch) -> LoggedBatch:
        """Write a request's predictions; they are on disk when this returns.

        Args:
            batch: With its predictions; or without, and those of a group are computed together.

        Raises:
            BrokenVersionError: If the model did not answer.
            RequestConflictError: If the request id came before with other wines.
            DatabaseUnavailableError: If too many wait, the database cannot be reached, or the queue
                is closed. The rows of the batch are then either all in the log or none, and were
                not acknowledged.
            DatabaseError: If the log cannot be used as it stands; nothing was written then.
        """
        if self._loop is None:
            raise RuntimeError("the queue has not been started")
        if refusal := self._refusal():
            raise refusal
        n = len(batch)
        if self._rows and self._rows + n > self._max_rows:
            raise QueueFullError("The inference log is behind: try again in a second.")
        answer: asyncio.Future[LoggedBatch] = self._loop.create_future()
        self._rows += n
        self._waiting.append(_Waiting(batch, answer))
        self._begin_group()
        return await answer

    async def close(self) -> bool:
        """Write all that waits, then stop; who still waits after `CLOSE_S` is refused.

        Returns:
            Whether all was written: if not, a commit hangs, and its rows may be logged yet.
        """
        self._closed = True
        if self._loop is None:
            return True
        while self._waiting:
            self._hand_over()
        self._groups.put(None)
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._ended.wait()
        except TimeoutError:
            logger.error("The inference log's database does not answer: it is not waited for")  # noqa: TRY400
        ended = self._ended.is_set()
        self._refuse_all()
        return ended

    # what happens in the event loop

    def _begin_group(self) -> None:
        """Gather the next group, unless one is being gathered or written."""
        if self._waiting and not self._gathering and not self._handed:
            self._gathering = True
            asyncio.get_running_loop().call_soon(self._gather, 0, time.perf_counter() + GATHER_S)

    def _gather(self, before: int, deadline: float) -> None:
        n = len(self._waiting)
        if before < n and time.perf_counter() < deadline:
            asyncio.get_running_loop().call_soon(self._gather, n, deadline)
        else:
            self._gathering = False
            self._hand_over()

    def _hand_over(self) -> None:
        group: list[_Waiting] = []
        rows = 0
        while self._waiting and rows < GROUP_ROWS:
            waiting = self._waiting.popleft()
            if waiting.answer.cancelled():
                # who has given up is not written: nobody would learn of it
                self._rows -= len(waiting.batch)
            else:
                group.append(waiting)
                rows += len(waiting.batch)
        if group:
            self._handed.append(_Handed(group, time.perf_counter()))
            self._groups.put(group)

    def _finish(self, results: Sequence[_Result], seconds: float) -> None:
        if not self._handed:
            # closing has refused them
            return
        group = self._handed.popleft().group
        self._answer(group, results)
        logged = [
            len(waiting.batch)
            for waiting, result in zip(group, results, strict=True)
            if isinstance(result, LoggedBatch) and not result.repeated
        ]
        if logged:
            self._report(Commit(len(logged), sum(logged), seconds))
        self._begin_group()

    def _answer(self, group: _Group, results: Iterable[_Result]) -> None:
        for waiting, result in zip(group, results, strict=True):
            self._rows -= len(waiting.batch)
            if waiting.answer.done():
                continue
            if isinstance(result, LoggedBatch):
                waiting.answer.set_result(result)
            else:
                waiting.answer.set_exception(result)

    def _report(self, commit: Commit) -> None:
        try:
            self._on_commit(commit)
        except Exception:
            # a figure that is missing must not take the log down
            logger.exception("A commit could not be reported")

    def _end(self) -> None:
        # only a writer that was cut off leaves somebody waiting
        self._refuse_all()
        self._ended.set()

    def _refuse_all(self) -> None:
        for group in (*(handed.group for handed in self._handed), self._waiting):
            self._answer(group, _refusals(DatabaseUnavailableError(_CLOSED), len(group)))
        self._handed.clear()
        self._waiting.clear()

    # what happens in the writer's thread

    def _write(self) -> None:
        try:
            while (group := self._next_group()) is not None:
                start = time.perf_counter()
                results = self._append(group)
                self._tell(self._finish, results, time.perf_counter() - start)
        finally:
            self._tell(self._end)

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None:
            # an event loop that has been closed waits for nothing any more
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(callback, *arguments)

    def _next_group(self) -> _Group | None:
        """Wait for a group; meanwhile look now and then whether a lost database has come back."""
        while True:
            try:
                return self._groups.get(timeout=PROBE_S if self._trouble else None)
            except Empty:
                self._probe()

    def _append(self, group: _Group) -> Sequence[_Result]:
        # once the database is lost nobody waits for it any more
        if self._trouble:
            return _refusals(self._trouble, len(group))
        predicted = predict_together([waiting.batch for waiting in group])
        logged = iter(self._log_all([b for b in predicted if isinstance(b, PredictionBatch)]))
        return [next(logged) if isinstance(b, PredictionBatch) else b for b in predicted]

    def _log_all(self, batches: Sequence[PredictionBatch]) -> Sequence[_Result]:
        if not batches:
            return []
        if self._trouble:
            return _refusals(self._trouble, len(batches))
        try:
            return self._log.append_many(batches)
        except DatabaseError as error:
            logger.error("The inference log cannot be written to", extra={"reason": str(error)})  # noqa: TRY400
            self._trouble = error
            return _refusals(error, len(batches))
        except Exception as error:
            # A batch that the database does not take must not take the others down.
            if len(batches) > 1:
                return [self._log_all([batch])[0] for batch in batches]
            logger.exception("A batch of predictions could not be logged")
            return [error]

    def _probe(self) -> None:
        try:
            self._log.check()
        except DatabaseError as error:
            self._trouble = error
        except Exception as error:
            reason = f"The inference log cannot be looked at: {error!r}"
            if reason != str(self._trouble):
                logger.exception("The inference log cannot be looked at")
            self._trouble = DatabaseUnavailableError(reason)
        else:
            logger.warning("The inference log can be written to again")
            self._trouble = None


def _refusals(error: DatabaseError, n: int) -> list[_Result]:
    return [_again(error) for _ in range(n)]


def _again(error: DatabaseError) -> DatabaseError:
    """The same error, new: one that is raised twice drags its first traceback along."""
    return type(error)(str(error))
