"""How windows' values are distributed beside their reference's, from counts alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wine_quality.drift.calibration import reference_counts, select
from wine_quality.drift.distances import share_moved
from wine_quality.drift.profiles import Profile, fault_counts, judged_counts
from wine_quality.drift.reference import SEGMENTS, ColumnBins, Reference
from wine_quality.drift.verdicts import FAULT_KINDS, percent
from wine_quality.drift.vocabulary import count_of

BARS = 20
BEYOND = 0.25
"""How far a histogram reaches beyond the reference's outermost bounds, as a share of what lies
between them. Values of the outermost bins, which have no end, are drawn within it."""
FEWEST_MOVED = 20
"""Wines from which it is said how many moved: of fewer, chance alone moves most."""
WHOLE = 500
"""Height of a bar that holds all wines: finer steps cannot be seen, and take room."""


class Histogram(NamedTuple):
    """One segment's values as bars.

    Attributes:
        path: SVG path of the bars: each one wide, and high by its share of the segment's wines,
            `WHOLE` for all of them; on the line 0, and upwards negative.
        top: Height of the highest.
        words: How many wines there are, and how they lie.
    """

    path: str
    top: int
    words: str


NOTHING = Histogram("", 0, "no wines")


@dataclass(frozen=True)
class Axis:
    """What all histograms of a column have in common, whatever the version's reference.

    Attributes:
        bounds: Ascending bounds of the bars of a number, shape (bars + 1,); empty for a category.
        categories: One for each bar; empty for a number.
    """

    bounds: NDArray[np.float64]
    categories: tuple[str, ...] = ()

    @property
    def bars(self) -> int:
        """How many there are."""
        return len(self.categories) or max(len(self.bounds) - 1, 0)

    @property
    def labels(self) -> tuple[str, ...]:
        """What stands below the bars, from left to right, evenly spread."""
        if self.categories or not len(self.bounds):
            return self.categories
        ends = self.bounds[0], self.bounds[len(self.bounds) // 2], self.bounds[-1]
        return tuple(f"{bound:.3g}" for bound in ends)


def axis_of(column: str, references: Sequence[Reference]) -> Axis:
    """Find an axis on which a column of all references fits."""
    of_all = [(reference, reference.bins(column)) for reference in references]
    if of_all and of_all[0][1].is_category:
        return Axis(np.empty(0), of_all[0][1].categories)
    lows, highs = [], []
    for reference, bins in of_all:
        place = reference.columns.index(bins)
        low, high = reference.lows[place], reference.highs[place]
        if low is None or high is None or not bins.edges:
            continue
        first, last = np.clip([bins.edges[0], bins.edges[-1]], low, high)
        room = BEYOND * (last - first) or 1.0
        lows.append(max(low, first - room))
        highs.append(min(high, last + room))
    if not lows or min(lows) >= max(highs):
        return Axis(np.empty(0))
    return Axis(np.linspace(min(lows), max(highs), BARS + 1))


@dataclass(frozen=True)
class Distributions:
    """A column's histograms in all windows of a model version.

    Attributes:
        by_window: For each window a histogram of each segment.
        reference: Those of the reference.
        faults: For each window the faulty values in words, empty where there are none.
    """

    by_window: tuple[tuple[Histogram, ...], ...]
    reference: tuple[Histogram, ...]
    faults: tuple[str, ...]


def distributions_of(
    column: str,
    windows: Profile,
    by_segment: NDArray[np.int64],
    reference: Reference,
    axis: Axis,
    segments: Sequence[str] = SEGMENTS,
) -> Distributions:
    """Draw a column's histograms of all windows.

    Within a bin of the reference values are taken to be spread evenly.

    Args:
        column: One of the reference's.
        windows: Counts of the windows.
        by_segment: The same, dense, shape (windows, segments, cells).
        reference: Says which cells there are.
        axis: Where the bars stand.
        segments: Of which there are to be histograms.
    """
    bins = reference.bins(column)
    place = reference.columns.index(bins)
    cells = reference.cells[column]
    now, before = [], []
    for segment in segments:
        usual = reference_counts(reference, segment, column)[None]
        counts = judged_counts(select(by_segment, segment)[:, cells])
        bars, medians = _bars_and_medians(
            bins, counts, windows.lows[:, place], windows.highs[:, place], axis
        )
        usual_bars, usual_medians = _bars_and_medians(
            bins, usual, _bound(reference.lows[place]), _bound(reference.highs[place]), axis
        )
        n, m = counts.sum(axis=1), usual.sum(axis=1)
        p, q = counts / np.maximum(n, 1)[:, None], usual / np.maximum(m, 1)[:, None]
        moved = share_moved(p, q, ordinal=not bins.is_category)
        now.append(_histograms(bars, n, medians, moved if m[0] else np.full(len(n), np.nan)))
        before += _histograms(usual_bars, m, usual_medians, np.array([np.nan]))
    whole = by_segment.sum(axis=1)[:, cells]
    usual_faults = _faults(reference.by_segment.sum(axis=0)[cells])
    faults = tuple(_fault_words(_faults(block), usual_faults) for block in whole)
    return Distributions(tuple(zip(*now, strict=True)), tuple(before), faults)


def _bound(value: float | None) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value])


def _bars_and_medians(
    bins: ColumnBins,
    counts: NDArray[np.int64],
    lows: NDArray[np.float64],
    highs: NDArray[np.float64],
    axis: Axis,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares of the wines by bar, shape (windows, bars), and medians, shape (windows,)."""
    n = np.maximum(counts.sum(axis=1), 1)
    if bins.is_category or not axis.bars:
        shares = counts / n[:, None] if axis.bars else np.zeros((len(counts), 0))
        return shares, np.full(len(counts), np.nan)
    low, high = (np.nan_to_num(bound)[:, None] for bound in (lows, highs))
    edges = np.broadcast_to(bins.edges, (len(counts), len(bins.edges)))
    values = np.clip(np.hstack([low, edges, high]), low, high)
    below = np.hstack([np.zeros((len(counts), 1)), np.cumsum(counts / n[:, None], axis=1)])
    medians = _interpolate(below, values, np.array([0.5]))[:, 0]
    # values that lie beyond the axis are drawn at its ends
    inside = np.clip(values, axis.bounds[0], axis.bounds[-1])
    at_bounds = _interpolate(inside, below, axis.bounds)
    at_bounds[:, 0], at_bounds[:, -1] = 0, below[:, -1]
    return np.diff(at_bounds, axis=1), medians


def _interpolate(
    x: NDArray[np.float64], y: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Interpolate linearly in each row.

    Args:
        x: Never falling, shape (rows, k).
        y: Likewise.
        at: Where, shape (m,).

    Returns:
        Shape (rows, m).
    """
    place = np.clip((x[:, :, None] <= at).sum(axis=1) - 1, 0, x.shape[1] - 2)
    x0, x1, y0, y1 = (
        np.take_along_axis(table, place + k, axis=1) for table in (x, y) for k in (0, 1)
    )
    part = np.divide(at - x0, x1 - x0, out=np.ones_like(x0), where=x1 > x0)
    return np.asarray(y0 + np.clip(part, 0, 1) * (y1 - y0))


def _histograms(
    shares: NDArray[np.float64],
    wines: NDArray[np.int64],
    medians: NDArray[np.float64],
    moved: NDArray[np.float64],
) -> list[Histogram]:
    """Draw a histogram of each window, of shares of shape (windows, bars)."""
    heights = np.rint(WHOLE * shares).astype(int)
    tops = heights.max(axis=1, initial=0).tolist()
    rises = np.diff(heights, axis=1, prepend=0).tolist()
    drawn = []
    for rise, top, n, median, share in zip(
        rises, tops, wines.tolist(), medians.tolist(), moved.tolist(), strict=True
    ):
        if not n:
            drawn.append(NOTHING)
            continue
        words = count_of(n, "wine")
        words += "" if isnan(median) else f", median {median:.4g}"
        if n >= FEWEST_MOVED and not isnan(share):
            words += f", {percent(share)} moved"
        path = "".join(f"v{-step}h1" if step else "h1" for step in rise)
        drawn.append(Histogram(f"M0 0{path}V0z", top, words))
    return drawn


def _faults(block: NDArray[np.int64]) -> Mapping[str, float]:
    """Shares of a column's faulty values by what they are called."""
    counts, n = fault_counts(block), max(int(block.sum()), 1)
    return {words: sum(counts[kind] for kind in of) / n for words, of in FAULT_KINDS.items()}


def _fault_words(now: Mapping[str, float], usual: Mapping[str, float]) -> str:
    return "; ".join(
        f"{percent(share)} {words} ({percent(usual[words])} in the reference)"
        for words, share in now.items()
        if share
    )
