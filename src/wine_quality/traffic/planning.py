"""Which wines come, and when each is measured: the traffic before anything drifts."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from wine_quality.errors import WineQualityError
from wine_quality.parameters import Parameters
from wine_quality.serving.moments import utc_moment
from wine_quality.traffic.streams import CHUNK_ROWS, derive_seed, generator
from wine_quality.traffic.synthetic import iter_wines
from wine_quality.wines import INPUTS, QUALITY

EVENT_TIME = "event_time"
POOL_ROWS = 20_000
"""Synthetic wines that stand for all of them, where standard deviations or other wines are needed:
enough for either to be known within a percent."""
_MICROSECOND = timedelta(microseconds=1)
_SLICE = timedelta(hours=1)
_MICROSECONDS_AN_HOUR = _SLICE // _MICROSECOND
_SLICE_WINES = 50_000
"""About as many wines as a slice has at most, which bounds the memory that sorting takes. Part of
what is drawn: another value gives other event times."""


class Rhythm(Parameters):
    """How traffic rises and falls in the course of a day (UTC)."""

    amplitude: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Rise at the peak and fall half a day from it, as a share of the mean; "
        "0: even, 1: none at the lowest",
    )
    peak_hour: float = Field(default=14.0, ge=0, lt=24, description="Hour of most traffic")

    def weigh(self, hours: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weigh stretches of time by the traffic to be expected in them.

        Args:
            hours: Ascending moments between which the stretches lie, in hours since a midnight,
                shape (k + 1,).

        Returns:
            Shares, shape (k,): the integrals of 1 + amplitude cos(2π (hour − peak) / 24).
        """
        turn = 2 * np.pi / 24
        integral = hours + self.amplitude / turn * np.sin(turn * (hours - self.peak_hour))
        weights = np.diff(integral).clip(0)
        # so short a time at the lowest point that nothing is left of its weight
        return (
            weights / weights.sum()
            if weights.sum() > 0
            else np.full(weights.size, 1 / weights.size)
        )


EVEN = Rhythm()


def plan_traffic(
    wines: pd.DataFrame | None,
    *,
    samples: int,
    start: datetime,
    duration: timedelta,
    seed: int,
    rhythm: Rhythm = EVEN,
    chunk_rows: int = CHUNK_ROWS,
) -> Iterator[pd.DataFrame]:
    """Choose wines and say when each was measured, in memory bounded by the chunk.

    The concatenation of the frames depends on everything but `chunk_rows`.

    Args:
        wines: Frame with the twelve inputs and, where known, ``quality``, to choose from: none
            comes once more before all the others have come. None: synthetic ones, drawn anew.
        samples: How many to send.
        start: First possible event time, with a timezone.
        duration: Event times lie from ``start`` until, and without, ``start + duration``.
        seed: Seed of the choice and of the times.
        rhythm: Where they are dense.
        chunk_rows: Rows of every frame but the last.

    Yields:
        Frames with the inputs, ``quality`` where it is known, and ``event_time`` (UTC), which
        ascends; the index counts from 0 through all frames.

    Raises:
        WineQualityError: If there are no wines, nothing is to be sent, the duration is not positive
            or the start has no timezone.
    """
    if wines is not None and wines.empty:
        raise WineQualityError("There are no wines to send: run the processing pipeline first.")
    if samples < 1 or chunk_rows < 1:
        raise WineQualityError(f"samples must be 1 or more, not {min(samples, chunk_rows)}.")
    if duration < _MICROSECOND:
        raise WineQualityError(f"The duration of the traffic must be above 0, not {duration}.")
    first = pd.Timestamp(utc_moment(start, "start")).as_unit("us")
    chosen = (
        iter_wines(samples, derive_seed(seed, "synthetic wines"), chunk_rows)
        if wines is None
        else _choose(wines, samples, seed, chunk_rows)
    )
    offsets = _chunks(_offsets(samples, first, duration, rhythm, seed), chunk_rows)
    return (
        frame.assign(**{EVENT_TIME: first + pd.to_timedelta(part, unit="us")})
        for frame, part in zip(chosen, offsets, strict=True)
    )


def _choose(
    wines: pd.DataFrame, samples: int, seed: int, chunk_rows: int
) -> Iterator[pd.DataFrame]:
    """Go through the wines in random order, then in another one, as often as needed."""
    pool = wines[[name for name in (*INPUTS, QUALITY) if name in wines]]
    rounds = -(-samples // len(pool))
    orders = (generator(seed, "order", k).permutation(len(pool)) for k in range(rounds))
    first = 0
    for order in _chunks(orders, chunk_rows):
        rows = min(len(order), samples - first)
        if rows > 0:
            yield pool.iloc[order[:rows]].set_axis(pd.RangeIndex(first, first + rows))
        first += rows


def _offsets(
    samples: int, start: pd.Timestamp, duration: timedelta, rhythm: Rhythm, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Draw ascending event times, slice by slice, in microseconds from the start."""
    length = duration // _MICROSECOND
    slices = min(max(-(-duration // _SLICE), -(-samples // _SLICE_WINES)), length)
    edges = np.linspace(0, length, slices + 1).astype(np.int64)
    midnight = (start - start.normalize()) / pd.Timedelta(hours=1)
    weights = rhythm.weigh(midnight + edges / _MICROSECONDS_AN_HOUR)
    counts = generator(seed, "counts").multinomial(samples, weights)
    for number in np.flatnonzero(counts):
        rng = generator(seed, "times", int(number))
        yield np.sort(rng.integers(edges[number], edges[number + 1], size=counts[number]))


def _chunks(parts: Iterator[NDArray[np.int64]], rows: int) -> Iterator[NDArray[np.int64]]:
    """Cut arrays that follow each other into pieces of equal size; the last may be shorter."""
    held: list[NDArray[np.int64]] = []
    size = 0
    for part in parts:
        held.append(part)
        size += part.size
        if size >= rows:
            whole = np.concatenate(held)
            cut = size - size % rows
            yield from np.split(whole[:cut], range(rows, cut, rows))
            held, size = [whole[cut:]], size - cut
    if size:
        yield np.concatenate(held)
