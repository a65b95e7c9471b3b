"""Per window: does the model err more than on its held-out wines?"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd

from wine_quality.drift.calibration import independent_sizes, round_down
from wine_quality.drift.profiles import (
    ERROR_STEP,
    ERROR_SUMS,
    WINDOW_KEYS,
    Profile,
    Reference,
)
from wine_quality.drift.settings import DriftSettings, window_length
from wine_quality.wines import WINE_TYPES

ModelVerdict = Literal["ok", "decayed", "no_labels", "insufficient_data"]
ALL = "all"
SEGMENTS = (ALL, *WINE_TYPES)
"""All labelled wines together, those of unknown type included, and each type."""
PERFORMANCE_DTYPES = {
    "window_start": "datetime64[us, UTC]",
    "window_end": "datetime64[us, UTC]",
    "model_version": "str",
    "segment": "str",
    "verdict": "str",
    "value": "float64",
    "threshold": "float64",
    "n": "int64",
    "mae": "float64",
    "rmse": "float64",
    "bias": "float64",
    "accuracy_within_half": "float64",
    "accuracy_within_one": "float64",
    "reference_mae": "float64",
    "reason": "str",
}


@dataclass(frozen=True)
class Errors:
    """A model's errors (prediction - quality, in points of quality) on n labelled wines.

    Attributes:
        n: Labelled wines; the other figures are NaN if there are none.
        mae: Mean absolute error.
        rmse: Root mean squared error.
        bias: Mean error; positive where the model flatters the wines.
        accuracy_within_half: Share of errors of at most 0.5.
        accuracy_within_one: Share of errors of at most 1.0.
    """

    n: int
    mae: float
    rmse: float
    bias: float
    accuracy_within_half: float
    accuracy_within_one: float

    @classmethod
    def from_sums(cls, sums: np.ndarray) -> "Errors":
        """Compute the figures from sums in the order of `ERROR_SUMS`."""
        n, error, absolute, squared, _, half, one = (float(x) for x in sums)
        if not n:
            return cls(0, *[np.nan] * 5)
        return cls(int(n), absolute / n, (squared / n) ** 0.5, error / n, half / n, one / n)


def judge_performance(
    profile: Profile, reference: Reference, settings: DriftSettings
) -> pd.DataFrame:
    """Judge the model on each window's labelled wines, all together and by type.

    The score is the rise of the mean absolute error over the held-out wines' in standard errors;
    its threshold is calibrated, by resampling the held-out errors on both sides, for the largest
    score of the three segments, so that the false-alarm rate holds for the window. Only a rise
    counts: a model that errs less has not decayed.

    Args:
        profile: Counts and error sums of the windows.
        reference: Held-out errors.
        settings: False-alarm rate, sizes and floor.

    Returns:
        One row per window, model version and segment (`all`, `red`, `white`), with the columns and
        types of `PERFORMANCE_DTYPES`. `n` is the number of labelled wines; errors are in points of
        quality, and NaN without labels.
    """
    length = window_length(settings.window)
    held_out = {e.segment: np.array(e.sums) for e in reference.errors}
    labelled = {
        key: {
            str(segment): np.array(sums, dtype=float)
            for segment, *sums in window[["segment", *ERROR_SUMS]].itertuples(index=False)
        }
        for key, window in profile.errors.groupby(list(WINDOW_KEYS))
    }
    rows = []
    for start, version in (
        profile.counts[list(WINDOW_KEYS)].drop_duplicates().itertuples(index=False)
    ):
        parts = labelled.get((start, version), {})
        total = int(_pool(parts, ALL)[0])
        threshold = np.nan
        if total >= settings.min_rows:
            threshold = _threshold(reference, total, settings)
        for segment in SEGMENTS:
            rise = _compare(
                _pool(parts, segment), _pool(held_out, segment), reference.repetition, threshold
            )
            verdict = rise.verdict(settings)
            rows.append(
                {
                    "window_start": start,
                    "window_end": start + length,
                    "model_version": version,
                    "segment": segment,
                    "verdict": verdict,
                    "value": rise.score,
                    "threshold": threshold,
                    **asdict(rise.now),
                    "reference_mae": rise.before.mae,
                    "reason": f"{segment}: {rise.describe(verdict, settings)}",
                }
            )
    return pd.DataFrame(rows, columns=list(PERFORMANCE_DTYPES)).astype(PERFORMANCE_DTYPES)


@dataclass(frozen=True)
class _Rise:
    """Errors now and before, and how many standard errors the mean absolute one has risen."""

    now: Errors
    before: Errors
    score: float
    threshold: float

    def verdict(self, settings: DriftSettings) -> ModelVerdict:
        if not self.now.n:
            return "no_labels"
        if min(self.now.n, self.before.n) < settings.min_rows:
            return "insufficient_data"
        enough = self.now.mae - self.before.mae >= settings.min_mae_rise
        return "decayed" if self.score > self.threshold and enough else "ok"

    def describe(self, verdict: ModelVerdict, settings: DriftSettings) -> str:
        if verdict == "no_labels":
            return "no ground truth yet"
        if verdict == "insufficient_data":
            scarce = self.now.n < settings.min_rows
            return (
                f"{self.now.n if scarce else self.before.n} "
                f"{'labelled' if scarce else 'held-out'} wines are fewer than the "
                f"{settings.min_rows} that a judgement needs"
            )
        beyond = self.score > self.threshold
        words = (
            f"mean absolute error {self.now.mae:.3f} at {self.now.n:,} labelled wines, "
            f"{self.before.mae:.3f} on the held-out ones; score {self.score:.1f} "
            f"{'exceeds' if beyond else 'is within'} {self.threshold:.1f}"
        )
        if beyond and verdict == "ok":
            words += f"; too small to matter (floor {settings.min_mae_rise:g})"
        return words


def _compare(now: np.ndarray, before: np.ndarray, repetition: float, threshold: float) -> _Rise:
    """Compare two segments' sums, each in the order of `ERROR_SUMS`."""
    errors, held_out = Errors.from_sums(now), Errors.from_sums(before)
    score = np.nan
    if errors.n and held_out.n:
        standard_error = _standard_error(errors.n, held_out, repetition)
        score = (errors.mae - held_out.mae) / standard_error
    return _Rise(errors, held_out, score, threshold)


def _pool(parts: Mapping[str, np.ndarray], segment: str) -> np.ndarray:
    """Sums of one segment; those of `all` are the sums of all parts."""
    own = list(parts.values()) if segment == ALL else [parts[s] for s in (segment,) if s in parts]
    return np.sum(own, axis=0) if own else np.zeros(len(ERROR_SUMS))


def _standard_error(n: int, held_out: Errors, repetition: float) -> float:
    """Standard error of the difference of two mean absolute errors if nothing has changed.

    The spread of |e| is the reference's on both sides: a decayed model's own, larger spread would
    hide a part of its decay. Errors that are all alike get the spread of one rounding step.
    """
    worth_n, worth_m = independent_sizes(n, held_out.n, repetition)
    variance = max(held_out.rmse**2 - held_out.mae**2, ERROR_STEP**2)
    return float(np.sqrt(variance * (1 / worth_n + 1 / worth_m)))


def _threshold(reference: Reference, n: int, settings: DriftSettings) -> float:
    return _calibrate_errors(
        reference,
        round_down(n),
        settings.min_rows,
        settings.false_alarm_rate,
        settings.resamples,
        settings.seed,
    )


@lru_cache(maxsize=512)
def _calibrate_errors(
    reference: Reference,
    n: int,
    min_rows: int,
    false_alarm_rate: float,
    resamples: int,
    seed: int,
) -> float:
    """Score that the largest segment's exceeds at the false-alarm rate if nothing has changed.

    Both sides are drawn anew from the reference's wines, as pairs of type and error.
    """
    rng = np.random.default_rng([seed, n])
    size = np.abs(np.concatenate([e.steps for e in reference.errors])) * ERROR_STEP
    counts = np.concatenate([e.counts for e in reference.errors])
    owner = np.repeat(
        [e.segment for e in reference.errors], [len(e.steps) for e in reference.errors]
    )
    m = int(counts.sum())
    worth_n, worth_m = (max(1, round(x)) for x in independent_sizes(n, m, reference.repetition))
    window = rng.multinomial(worth_n, counts / m, resamples)
    base = rng.multinomial(worth_m, counts / m, resamples)
    largest = np.full(resamples, -np.inf)
    for segment in SEGMENTS:
        own = (owner == segment) | (segment == ALL)
        now, before = window[:, own], base[:, own]
        in_window, in_base = now.sum(axis=1), before.sum(axis=1)
        judged = (in_window * n >= min_rows * worth_n) & (in_base * m >= min_rows * worth_m)
        k, b = np.maximum(in_window, 1), np.maximum(in_base, 1)
        mean = before @ size[own] / b
        variance = np.maximum(before @ size[own] ** 2 / b - mean**2, ERROR_STEP**2)
        score = (now @ size[own] / k - mean) / np.sqrt(variance * (1 / k + 1 / b))
        largest = np.where(judged, np.maximum(largest, score), largest)
    return float(np.quantile(largest, 1 - false_alarm_rate))
