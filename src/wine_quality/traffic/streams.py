"""Tables too large for memory, as frames that come one after the other.

Whatever is left to chance about a row depends on the row's number, never on the frame in which it
comes, so that the same seed gives the same rows however they are cut.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Frames = Iterable[pd.DataFrame]
"""Frames whose indexes count on from 0 through all of them."""

CHUNK_ROWS = 50_000
"""About as many rows as a frame of a stream has: some 10 MB."""


@dataclass(frozen=True)
class Stream:
    """A table that one can go through again and again, frame by frame.

    Attributes:
        frames: Makes the frames anew.
        rows: How many rows they have in all, where that is known beforehand.
    """

    frames: Callable[[], Iterator[pd.DataFrame]]
    rows: int | None = None

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """Begin at the first frame."""
        return self.frames()

    @classmethod
    def once(cls, frames: Iterator[pd.DataFrame]) -> "Stream":
        """Wrap frames that come into being with an effect, which must not happen twice."""
        left = [frames]

        def take() -> Iterator[pd.DataFrame]:
            if not left:
                raise RuntimeError("this stream can be gone through once only: save it first")
            return left.pop()

        return cls(take)


@dataclass(frozen=True)
class RowDice:
    """Chance for the rows of a frame.

    Attributes:
        seed: Seed of the whole table.
        purpose: What the chance is about; other purposes are independent of it.
        first: Number of the frame's first row in the table.
        rows: Rows of the frame.
    """

    seed: int
    purpose: str
    first: int
    rows: int

    @classmethod
    def of(cls, frame: pd.DataFrame, seed: int, purpose: str) -> "RowDice":
        """Take the numbers from the frame's index, which ascends without a gap."""
        first = int(frame.index[0]) if len(frame) else 0
        return cls(seed, purpose, first, len(frame))

    def throw(self, what: str) -> Floats:
        """Draw a number for every row, uniform from 0 until 1, shape (rows,)."""
        # PCG64 takes one step for each uniform number, so that a row's number is found by
        # stepping over those of the rows before
        bits = np.random.PCG64(_sequence(self.seed, f"{self.purpose}/{what}"))
        bits.advance(self.first)
        return np.random.Generator(bits).random(self.rows)


def generator(seed: int, purpose: str, number: int = 0) -> np.random.Generator:
    """Make a generator that is independent for every purpose and number."""
    return np.random.default_rng(_sequence(seed, purpose, number))


def derive_seed(seed: int, purpose: str, number: int = 0) -> int:
    """Derive a seed, 64 bits, that is independent for every purpose and number."""
    return int(_sequence(seed, purpose, number).generate_state(1, np.uint64)[0])


def _sequence(seed: int, purpose: str, number: int = 0) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, crc32(purpose.encode()), number])


def renumber(frames: Frames) -> Iterator[pd.DataFrame]:
    """Count the rows on from 0 through all frames; frames without rows are left out."""
    first = 0
    for frame in frames:
        if len(frame):
            yield frame.set_axis(pd.RangeIndex(first, first + len(frame)))
            first += len(frame)
