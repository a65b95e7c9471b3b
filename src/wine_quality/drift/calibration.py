"""Which scores chance alone produces: thresholds for a chosen false-alarm rate at any window size.

The reference is a sample, too. Both it and the window are therefore drawn anew, many times over,
from the reference's counts; the largest of the columns' studentised scores is what a window
without any change would have shown, and its quantile is the threshold for all columns together.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import floor, log10

import numpy as np

from wine_quality.drift.distances import nominal_score, ordinal_score
from wine_quality.drift.profiles import ColumnBins, ColumnReference, Reference
from wine_quality.drift.settings import DriftSettings

SMALLEST_SPREAD = 0.2
"""Least standard deviation by which a score is studentised. Ordinary columns have 0.3 (numbers) to
0.6 (two categories); a column that hardly varies must not lift the common threshold by its one
surprise in a thousand resamples."""


@dataclass(frozen=True)
class Calibration:
    """What windows without any change score.

    Attributes:
        mean: Mean score by column.
        spread: Standard deviation of the score by column.
        threshold: Studentised score that the largest of all columns' exceeds at the false-alarm
            rate.
    """

    mean: dict[str, float]
    spread: dict[str, float]
    threshold: float

    def studentise(self, column: str, score: float) -> float:
        """A column's score in standard deviations above its mean under no change."""
        return (score - self.mean[column]) / self.spread[column]


def calibrate(reference: Reference, n: int, settings: DriftSettings) -> Calibration:
    """Find the threshold for windows of n wines.

    Thresholds are computed, and kept, for n rounded down to two significant digits.

    Args:
        reference: The reference.
        n: Wines in the window with a value that can be judged.
        settings: False-alarm rate, number of resamples and seed.
    """
    return _calibrate(
        reference, round_down(n), settings.false_alarm_rate, settings.resamples, settings.seed
    )


@lru_cache(maxsize=512)
def _calibrate(
    reference: Reference, n: int, false_alarm_rate: float, resamples: int, seed: int
) -> Calibration:
    rng = np.random.default_rng([seed, n])
    mean, spread, studentised = {}, {}, []
    for column in reference.columns:
        if column.n == 0:
            continue
        name = column.bins.name
        worth_n, worth_m = independent_sizes(n, column.n, reference.repetition)
        window = _resample(column, worth_n, resamples, rng)
        base = _resample_reference(reference, resamples, seed)[name]
        scores = score(column.bins, window, base, worth_n, worth_m)
        mean[name] = float(scores.mean())
        spread[name] = max(float(scores.std()), SMALLEST_SPREAD)
        studentised.append((scores - mean[name]) / spread[name])
    largest = np.max(studentised, axis=0) if studentised else np.zeros(resamples)
    return Calibration(mean, spread, float(np.quantile(largest, 1 - false_alarm_rate)))


@lru_cache(maxsize=8)
def _resample_reference(reference: Reference, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """The reference's own proportions drawn anew, which serve windows of all sizes."""
    rng = np.random.default_rng([seed, 0])
    return {
        column.bins.name: _resample(column, column.n / reference.repetition, resamples, rng)
        for column in reference.columns
        if column.n
    }


def _resample(
    column: ColumnReference, worth: float, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    draws = max(1, round(worth))
    return rng.multinomial(draws, np.array(column.counts) / column.n, resamples) / draws


def score(bins: ColumnBins, p: np.ndarray, q: np.ndarray, n: float, m: float) -> np.ndarray:
    """Distance of a window's proportions from the reference's, by the column's kind.

    Args:
        bins: The column.
        p: Window's proportions, shape (…, bins).
        q: Reference's proportions, shape (…, bins).
        n: Independent wines that the window is worth.
        m: Independent wines that the reference is worth.
    """
    return nominal_score(p, q, n, m) if bins.is_category else ordinal_score(p, q, n, m)


def independent_sizes(n: int, m: int, repetition: float) -> tuple[float, float]:
    """How many independent wines a window and the reference are worth.

    Wines repeat. A reference made of whole groups of equal wines varies like one of
    m / repetition different wines (the design effect of cluster sampling, L. Kish, Survey
    Sampling, 1965). A window drawn wine by wine from a stock of N meets only about n/N of each
    wine's repetitions; the stock held at least the window and the reference, so that N = n + m
    bounds the window's repetition from above.

    Args:
        n: Wines in the window.
        m: Wines in the reference.
        repetition: The reference's mean number of equal wines.

    Returns:
        The two numbers, at most n and m.
    """
    in_window = 1 + (repetition - 1) * n / (n + m)
    return n / in_window, m / repetition


def round_down(n: int) -> int:
    """Round a positive count down to two significant digits: 1,378 to 1,300."""
    step = int(10 ** max(0, floor(log10(n)) - 1))
    return n // step * step
