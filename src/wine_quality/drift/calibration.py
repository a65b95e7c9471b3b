"""Which scores chance alone produces: thresholds for a chosen false-alarm rate at any window size.

The reference is a sample, too. Both it and the window are therefore resampled, many times over,
from the reference's counts; the largest of the columns' studentised scores is what a window
without any change would have shown, and its quantile is the threshold for all columns together.
Each segment (all wines, and each type) has a threshold of its own, at its share of the rate: a
window in which nothing changed exceeds any of them with at most the rate chosen (Bonferroni).
"""

from dataclasses import dataclass
from functools import lru_cache
from math import floor, log10

import numpy as np
from numpy.typing import NDArray

from wine_quality.drift.distances import Size, nominal_score, ordinal_score
from wine_quality.drift.profiles import judged_counts
from wine_quality.drift.reference import (
    ALL,
    COUNTED_SEGMENTS,
    JOINT_COLUMNS,
    SEGMENTS,
    ColumnBins,
    Reference,
    subject_of,
)
from wine_quality.drift.settings import DriftSettings
from wine_quality.wines import INPUTS, PREDICTION, TYPE

SMALLEST_SPREAD = 0.2
"""Least standard deviation by which a score is studentised. Ordinary columns have 0.3 (numbers) to
0.6 (two categories); a column that hardly varies must not lift the common threshold by its one
surprise in a thousand resamples."""
DRIFT_COLUMNS: tuple[str, ...] = (*INPUTS, PREDICTION, *JOINT_COLUMNS)
"""The columns that may drift, in the order in which they are judged."""


@dataclass(frozen=True)
class Calibration:
    """What windows without any change score.

    Attributes:
        mean: Mean score by `DRIFT_COLUMNS`, NaN where the reference has no values or the column is
            left out; shape (columns,).
        spread: Standard deviation of the score, likewise.
        threshold: Studentised score that the largest of all columns' exceeds at the segment's share
            of the false-alarm rate.
    """

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    threshold: float


def select(by_segment: NDArray[np.int64], segment: str) -> NDArray[np.int64]:
    """Take a segment's counts out of those of all; `all` is their sum.

    Args:
        by_segment: Shape (…, segments, cells).
        segment: One of `SEGMENTS`.
    """
    if segment == ALL:
        return np.asarray(by_segment.sum(axis=-2))
    return np.asarray(by_segment[..., COUNTED_SEGMENTS.index(segment), :])


def reference_counts(reference: Reference, segment: str, column: str) -> NDArray[np.int64]:
    """Wines of a segment of the reference in each bin of a column, shape (bins,)."""
    cells = select(reference.by_segment, segment)[reference.cells[column]]
    return judged_counts(cells)


def calibrate(
    reference: Reference, segment: str, worth: float, settings: DriftSettings
) -> Calibration:
    """Find a segment's threshold for windows worth so many independent wines.

    Thresholds are computed, and kept, for the number rounded down to two significant digits.

    Args:
        reference: The reference.
        segment: One of `SEGMENTS`.
        worth: Independent wines that the window's wines of the segment are worth.
        settings: False-alarm rate, number of resamples and seed.
    """
    return _calibrate(
        reference,
        segment,
        round_down(max(1, int(worth))),
        settings.false_alarm_rate / len(SEGMENTS),
        settings.resamples,
        settings.seed,
        frozenset(settings.columns_left_out),
    )


@lru_cache(maxsize=2048)
def _calibrate(
    reference: Reference,
    segment: str,
    n: int,
    rate: float,
    resamples: int,
    seed: int,
    left_out: frozenset[str],
) -> Calibration:
    rng = np.random.default_rng([seed, n, SEGMENTS.index(segment)])
    mean = np.full(len(DRIFT_COLUMNS), np.nan)
    spread, largest = mean.copy(), np.full(resamples, -np.inf)
    drawn = _resample_reference(reference, segment, resamples, seed)
    for k, name in enumerate(DRIFT_COLUMNS):
        of_column = drawn[k]
        is_left_out = subject_of(name) in left_out
        if of_column is None or is_left_out or (name == TYPE and segment != ALL):
            continue
        q, base, worth_m = of_column
        window = rng.multinomial(n, q, resamples) / n
        scores = score(reference.bins(name), window, base, n, worth_m)
        mean[k] = scores.mean()
        spread[k] = max(float(scores.std()), SMALLEST_SPREAD)
        largest = np.maximum(largest, (scores - mean[k]) / spread[k])
    # no interpolation: without a column to score all are -inf
    return Calibration(mean, spread, float(np.quantile(largest, 1 - rate, method="higher")))


@lru_cache(maxsize=64)
def _resample_reference(
    reference: Reference, segment: str, resamples: int, seed: int
) -> list[tuple[NDArray[np.float64], NDArray[np.float64], float] | None]:
    """By column: proportions, the same resampled, and the independent wines they are worth."""
    rng = np.random.default_rng([seed, SEGMENTS.index(segment)])
    found: list[tuple[NDArray[np.float64], NDArray[np.float64], float] | None] = []
    for name in DRIFT_COLUMNS:
        counts = reference_counts(reference, segment, name)
        if not counts.sum():
            found.append(None)
            continue
        q = counts / counts.sum()
        worth = max(1, round(counts.sum() / reference.repetition))
        found.append((q, rng.multinomial(worth, q, resamples) / worth, float(worth)))
    return found


def score(bins: ColumnBins, p: np.ndarray, q: np.ndarray, n: Size, m: Size) -> np.ndarray:
    """Distance of a window's proportions from the reference's, by the column's kind.

    Args:
        bins: The column.
        p: Window's proportions, shape (…, bins).
        q: Reference's proportions, shape (…, bins).
        n: Independent wines that the window is worth, a number or shape (…).
        m: Independent wines that the reference is worth, likewise.
    """
    return nominal_score(p, q, n, m) if bins.is_category else ordinal_score(p, q, n, m)


def expected_repetition(n: Size, m: int, repetition: float) -> np.ndarray:
    """How often a wine is to be expected in a window, on average over its wines.

    Wines repeat. A reference made of whole groups of equal wines varies like one of
    m / repetition different wines (the design effect of cluster sampling, L. Kish, Survey
    Sampling, 1965). A window drawn wine by wine from a stock of N meets only about n/N of each
    wine's repetitions; the stock held at least the window and the reference, so that N = n + m
    bounds the window's repetition from above.

    Args:
        n: Wines in the window.
        m: Wines in the reference.
        repetition: The reference's mean number of equal wines.
    """
    n = np.asarray(n, dtype=float)
    return np.asarray(1 + (repetition - 1) * n / (n + m))


def round_down(n: int) -> int:
    """Round a positive count down to two significant digits: 1,378 to 1,300."""
    step = int(10 ** max(0, floor(log10(n)) - 1))
    return n // step * step
