"""Trying again what may pass: a server that is away for a moment, a connection that broke."""

import itertools
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

T = TypeVar("T")


def doubling(
    tries: int | None = None,
    *,
    first: float = 1.0,
    longest: float = float("inf"),
    jitter: float = 0.0,
) -> Iterator[float]:
    """Yield the pauses between tries: `first` seconds, then twice as long each time.

    Args:
        tries: Number of tries, between which there is one pause fewer; None: for ever.
        first: Seconds of the first pause.
        longest: Seconds that no pause exceeds.
        jitter: Share of each pause that is left to chance, 0 to 1, so that many who wait for one
            server do not come back at once.
    """
    for number in itertools.count(1):
        if number == tries:
            return
        # an exponent beyond that would only overflow
        pause = min(first * 2 ** min(number - 1, 60), longest)
        # spreads retries, hides nothing
        yield pause * (1 - jitter * random.random())  # noqa: S311


def retry(
    action: Callable[[], T],
    *,
    may_pass: Callable[[Exception], bool],
    pauses: Iterable[float],
    until: float | None = None,
    sleep: Callable[[float], object] | None = None,
    on_pause: Callable[[Exception], object] | None = None,
) -> T:
    """Do something, again after each pause while it fails in a way that may pass.

    Args:
        action: What is done.
        may_pass: Whether an error is worth another try.
        pauses: Seconds before each further try; where they end, the last error is raised. An error
            that names a longer time to wait in `retry_after` is heeded.
        until: Moment of `time.monotonic` by which a try must have begun: an error after which one
            would have to wait for longer is raised at once. None: there is no such moment.
        sleep: Waits; `time.sleep` by default.
        on_pause: Is told of an error that is followed by another try.

    Returns:
        What the action returns.

    Raises:
        Exception: The action's last error.
    """
    for pause in pauses:
        try:
            return action()
        except Exception as error:
            if not may_pass(error):
                raise
            wait = max(pause, _asked_for(error))
            if until is not None and time.monotonic() + wait > until:
                raise
            if on_pause:
                on_pause(error)
            (sleep or time.sleep)(wait)
    return action()


def asked_pause(header: str | None) -> float | None:
    """Read the header `Retry-After`: seconds, given as such or as a date (RFC 9110, 10.2.3)."""
    try:
        seconds = float(header or "")
    except ValueError:
        pass
    else:
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    try:
        moment = parsedate_to_datetime(header or "")
    except ValueError:
        return None
    at = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _asked_for(error: Exception) -> float:
    """Seconds that an error asks to wait; 0 if it says nothing that can be waited for."""
    asked = getattr(error, "retry_after", None)
    return asked if asked is not None and math.isfinite(asked) else 0.0
