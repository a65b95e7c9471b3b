"""Lines, bands and bars over the windows, as SVG paths that stretch to any width.

A chart is as many units wide as there are windows, and 100 high; what is higher is cut off. Text
stands beside it, in HTML, so that it is not stretched.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, log10

import numpy as np
from numpy.typing import NDArray

HEIGHT = 100
MOST_STEPS = 5
FEW = 60
"""Up to so many windows each has a point of its own, and room beside its bar."""


@dataclass(frozen=True)
class Path:
    """A shape in a chart.

    Attributes:
        kind: What it shows; the style knows how it is drawn.
        d: The path.
    """

    kind: str
    d: str


@dataclass(frozen=True)
class Tick:
    """A place on an axis.

    Attributes:
        at: How far along it is, in per cent from the left or from the bottom.
        label: What stands there.
    """

    at: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: What it shows.
        unit: Of the values.
        summary: The same in words, for those who do not see it.
        width: Units.
        paths: From the back to the front.
        y_ticks: Labels at the left.
        x_ticks: Labels below.
        legend: Kinds of paths and what they mean.
        note: How to read it.
    """

    title: str
    unit: str
    summary: str
    width: int
    paths: tuple[Path, ...]
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    legend: tuple[tuple[str, str], ...]
    note: str = ""


@dataclass(frozen=True)
class Scale:
    """How values become heights."""

    low: float
    high: float
    is_whole: bool = False
    """Whether the values are whole numbers."""

    @classmethod
    def around(
        cls, *values: NDArray[np.float64] | Sequence[float], is_whole: bool = False
    ) -> "Scale":
        """A scale on which all finite values, and zero, have room."""
        together = np.concatenate([np.asarray(v, dtype=float).ravel() for v in values] + [[0.0]])
        finite = together[np.isfinite(together)]
        low, high = float(finite.min()), float(finite.max())
        if low == high:
            return cls(0.0, 1.0, is_whole)
        room = 0.08 * (high - low)
        return cls(low - room if low < 0 else 0.0, high + room if high > 0 else 0.0, is_whole)

    def y(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Heights, from the top, cut off at both ends."""
        part = (values - self.low) / (self.high - self.low)
        return np.asarray(np.clip(HEIGHT - HEIGHT * part, 0, HEIGHT))

    def ticks(self) -> tuple[Tick, ...]:
        """Round values, a few of them."""
        step = _round_step((self.high - self.low) / MOST_STEPS)
        if self.is_whole:
            step = max(step, 1.0)
        digits = max(0, -floor(log10(step)))
        first = int(np.ceil(self.low / step - 1e-9))
        last = int(np.floor(self.high / step + 1e-9))
        return tuple(
            Tick(
                round(100 * (k * step - self.low) / (self.high - self.low), 1),
                f"{k * step:,.{digits}f}".replace("-", "\N{MINUS SIGN}"),
            )
            for k in range(first, last + 1)
        )


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, … that is not below `least`."""
    power = 10.0 ** floor(log10(least))
    return next(k * power for k in (1, 2, 5, 10) if k * power >= least * (1 - 1e-9))


def line(x: NDArray[np.int64], y: NDArray[np.float64], breaks: NDArray[np.bool_]) -> str:
    """Draw a line through the middles of windows.

    Args:
        x: Places of the windows, ascending, shape (n,).
        y: Heights, NaN where there is none.
        breaks: Whether the line is interrupted before a window, shape (n,).
    """
    parts: list[str] = []
    pen: tuple[int, int] | None = None
    for place, height, is_new in zip(x.tolist(), y.tolist(), breaks.tolist(), strict=True):
        if np.isnan(height):
            pen = None
            continue
        here = (place, round(height))
        if pen is None or is_new:
            # a line of no length with round ends is a dot: one window alone can be seen
            parts.append(f"M{place}.5 {here[1]}h0")
        else:
            parts.append(f"l{here[0] - pen[0]} {here[1] - pen[1]}")
        pen = here
    return "".join(parts)


def steps(x: NDArray[np.int64], y: NDArray[np.float64]) -> str:
    """Draw a line that is level within each window, as limits are."""
    parts: list[str] = []
    pen: tuple[int, int] | None = None
    for place, height in zip(x.tolist(), y.tolist(), strict=True):
        if np.isnan(height):
            pen = None
            continue
        level = round(height)
        if pen is None or pen[0] != place:
            parts.append(f"M{place} {level}h1")
        elif pen[1] != level:
            parts.append(f"V{level}h1")
        else:
            parts.append("h1")
        pen = (place + 1, level)
    return "".join(parts)


def points(x: NDArray[np.int64], y: NDArray[np.float64]) -> str:
    """Mark the middles of windows: lines of no length, whose round ends are dots."""
    return "".join(
        f"M{place}.5 {round(height)}h0"
        for place, height in zip(x.tolist(), y.tolist(), strict=True)
        if not np.isnan(height)
    )


def bars(x: NDArray[np.int64], low: NDArray[np.float64], high: NDArray[np.float64]) -> str:
    """Draw a bar for each window, between two heights."""
    return band(x, low, high, gap=0.1 if len(x) <= FEW else 0)


def band(
    x: NDArray[np.int64], low: NDArray[np.float64], high: NDArray[np.float64], gap: float = 0
) -> str:
    """Fill what lies between two heights, window by window.

    Args:
        x: Places of the windows, shape (n,).
        low: Lower heights, NaN where there is nothing.
        high: Upper heights, likewise.
        gap: What stays free on either side of a window.
    """
    wide = f"{1 - 2 * gap:g}"
    return "".join(
        f"M{place + gap:g} {top}h{wide}V{bottom}h-{wide}z"
        for place, bottom, top in zip(x.tolist(), _rounded(low), _rounded(high), strict=True)
        if top is not None and bottom is not None
    )


def _rounded(heights: NDArray[np.float64]) -> list[int | None]:
    return [None if np.isnan(height) else round(height) for height in heights.tolist()]


def columns(places: Iterable[int], top: int = 0) -> str:
    """Fill whole windows, from `top` to the bottom; neighbours become one shape."""
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][1] == place:
            runs[-1][1] += 1
        else:
            runs.append([place, place + 1])
    return "".join(f"M{first} {top}H{last}V{HEIGHT}H{first}z" for first, last in runs)
