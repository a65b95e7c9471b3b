"""A limit to the time that a request may take, with one timer for all requests."""

import asyncio
from types import TracebackType


class TimeLimit:
    """Ends what takes too long with `TimeoutError`, used in a `with` statement around it.

    `asyncio.timeout` sets a timer for each request and takes it back, which is a twentieth of what
    a request costs. Here all have the same limit, so that the one that began first ends first.

    Args:
        seconds: The limit.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[asyncio.Task[object] | None, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        """Begin to count for this task."""
        loop = asyncio.get_running_loop()
        self._ends[asyncio.current_task()] = end = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(end, self._look)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop counting; say so if it was this limit that ended it."""
        task = asyncio.current_task()
        in_time = self._ends.pop(task, None)
        if in_time is None and task is not None and kind is asyncio.CancelledError:
            task.uncancel()
            raise TimeoutError from error

    def _look(self) -> None:
        """Cancel what has had its time, and look again when the next one will have."""
        loop = asyncio.get_running_loop()
        self._timer = None
        for task, end in list(self._ends.items()):
            if end > loop.time():
                self._timer = loop.call_at(end, self._look)
                break
            del self._ends[task]
            if task is not None:
                task.cancel()
