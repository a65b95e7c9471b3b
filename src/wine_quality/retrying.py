"""Trying again what may pass: a server that is away for a moment, a connection that broke."""

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator
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
    sleep: Callable[[float], object] | None = None,
    on_pause: Callable[[Exception], object] | None = None,
) -> T:
    """Do something, again after each pause while it fails in a way that may pass.

    Args:
        action: What is done.
        may_pass: Whether an error is worth another try.
        pauses: Seconds before each further try; where they end, the last error is raised. An error
            that names a longer time to wait in `retry_after` is heeded.
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
            if on_pause:
                on_pause(error)
            asked = getattr(error, "retry_after", None) or 0.0
            (sleep or time.sleep)(max(pause, asked))
    return action()
