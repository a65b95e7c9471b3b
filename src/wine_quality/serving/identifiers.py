"""Time-ordered identifiers for predictions: UUID version 7, made by the batch.

A random UUID as primary key scatters inserts over the whole index and doubles their cost; one that
begins with the time appends at its end.

Layout: RFC 9562, section 5.7, with the counter of section 6.2, method 1:

    48 bits   Unix time in milliseconds
     4 bits   version, 7
    12 bits   counter, high part
     2 bits   variant, binary 10
    30 bits   counter, low part
    32 bits   random

The counter starts at a random value below half of its range in every new millisecond, so that there
is room to count up from it and that processes running side by side do not meet.
"""

import os
import threading
import time
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import numpy as np

_COUNTER_BITS = 42
_LOW_BITS = 30
_NANOSECONDS_PER_MILLISECOND = 1_000_000


class Uuid7Generator:
    """Makes UUIDs of version 7 that strictly increase, whoever asks and whatever the clock does."""

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        """Start a sequence.

        Args:
            clock: Gives the Unix time in nanoseconds.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._milliseconds = -1
        self._counter = 0

    def batch(self, n: int) -> list[UUID]:
        """Make n identifiers in ascending order, all greater than any made before.

        Args:
            n: How many.

        Returns:
            n identifiers.
        """
        milliseconds, first = self._reserve(n)
        if n == 1:
            # most requests ask for one, and arrays cost ten times as much
            tail = int.from_bytes(os.urandom(4), "big")
            upper = milliseconds << 16 | 7 << 12 | first >> _LOW_BITS
            lower = 0b10 << 62 | (first & ((1 << _LOW_BITS) - 1)) << 32 | tail
            return [UUID(int=upper << 64 | lower)]
        counters = np.arange(first, first + n, dtype=np.uint64)
        tails = np.frombuffer(os.urandom(4 * n), dtype=np.uint32).astype(np.uint64)
        high = counters >> np.uint64(_LOW_BITS)
        low = counters & np.uint64((1 << _LOW_BITS) - 1)
        words = np.empty((n, 2), dtype=">u8")
        words[:, 0] = np.uint64(milliseconds << 16 | 7 << 12) | high
        words[:, 1] = np.uint64(0b10 << 62) | low << np.uint64(32) | tails
        octets = words.tobytes()
        return [UUID(bytes=octets[i : i + 16]) for i in range(0, 16 * n, 16)]

    def _reserve(self, n: int) -> tuple[int, int]:
        """Take n consecutive counter values of one millisecond: (milliseconds, first value)."""
        with self._lock:
            now = self._clock() // _NANOSECONDS_PER_MILLISECOND
            if now > self._milliseconds:
                self._start_millisecond(now)
            elif self._counter + n > 1 << _COUNTER_BITS:
                # The counter is used up: borrow the next millisecond rather than wait for it.
                self._start_millisecond(self._milliseconds + 1)
            first = self._counter
            self._counter += n
            return self._milliseconds, first

    def _start_millisecond(self, milliseconds: int) -> None:
        self._milliseconds = milliseconds
        self._counter = int.from_bytes(os.urandom(6), "big") >> (48 - _COUNTER_BITS + 1)


def first_uuid7(moment: datetime) -> UUID:
    """The smallest identifier of version 7 that a moment can have.

    Args:
        moment: With a timezone, not before 1970.
    """
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 7 << 76 | 0b10 << 62)


_GENERATOR = Uuid7Generator()


def uuid7_batch(n: int) -> list[UUID]:
    """Make n identifiers of version 7, ascending, greater than all this process made before.

    Args:
        n: How many.

    Returns:
        n identifiers.
    """
    return _GENERATOR.batch(n)
