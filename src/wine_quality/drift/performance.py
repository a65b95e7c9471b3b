"""Per window: does the model err more, or otherwise, than on the wines it was made from?"""

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.drift.calibration import expected_repetition, round_down, select
from wine_quality.drift.profiles import Profile
from wine_quality.drift.reference import (
    ALL,
    COUNTED_SEGMENTS,
    ERROR,
    FAULTS,
    LEAF,
    SEGMENTS,
    Reference,
)
from wine_quality.drift.selection import find_selection
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.vocabulary import SELECTED_LABELS, count_of, window_table
from wine_quality.wines import QUALITY_STEP

ModelVerdict = Literal[
    "ok", "decayed", "no_labels", "selected_labels", "insufficient_data", "unfinished"
]
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
    "reference_bias": "float64",
    "mae_score": "float64",
    "mae_threshold": "float64",
    "bias_score": "float64",
    "bias_threshold": "float64",
    "covariate": "float64",
    "concept": "float64",
    "expected_mae": "float64",
    "reason": "str",
}
LEAST_SPREAD = 0.1 * QUALITY_STEP
"""Quality points: errors that are all alike are taken to vary by so much."""
TESTS = 2 * len(SEGMENTS)
"""Each segment is judged by the mean absolute error and by the bias."""
LEAST_LIMIT = 1.0
"""Standard errors: a smaller change is none, however alike the reference's errors are."""
MOST_CELLS = 2
"""Cells named in a reason."""


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
    def from_sums(cls, sums: NDArray[np.float64]) -> "Errors":
        """Compute the figures from sums in the order of `SumsLayout.ERRORS`."""
        n, error, absolute, squared, half, one = (float(x) for x in sums)
        if not n:
            return cls(0, *[np.nan] * 5)
        return cls(int(n), absolute / n, (squared / n) ** 0.5, error / n, half / n, one / n)


def judge_performance(
    profile: Profile,
    ends: NDArray[np.int64],
    reference: Reference,
    version: str,
    settings: DriftSettings,
) -> pd.DataFrame:
    """Judge the model on each window's labelled wines, all together and by type.

    Two scores, in standard errors: the rise of the mean absolute error, of which only a rise
    counts, and the change of the mean error, in either direction. Their thresholds are calibrated
    together, by resampling the reference's errors on both sides, for all segments, so that the
    false-alarm rate holds for the window. Where the labelled wines are a selection by their
    predictions, their error is no verdict on the model.

    Args:
        profile: Counts and sums of the windows.
        ends: End of each window, seconds since 1970, shape (windows,).
        reference: Errors of the wines the version was made from.
        version: The model version.
        settings: False-alarm rate, sizes and floors.

    Returns:
        One row per window and segment, with the columns and types of `PERFORMANCE_DTYPES`. `n` is
        the number of labelled wines; errors are in points of quality, and NaN without labels.
        `value` is the score that lies farther beyond (or nearer to) its limit, a bias's without its
        sign. `covariate` and `concept` split the rise of the mean absolute error into what the
        wines explain and the rest; `expected_mae` is the error that all wines of the window, with
        or without labels, lead to expect (these three for `all` alone).
    """
    layout = reference.sums_layout
    shape = (len(COUNTED_SEGMENTS), len(layout.ERRORS))
    usual = np.array(reference.sums)[layout.errors].reshape(shape)
    rows = []
    selection = find_selection(profile, reference, settings)
    is_selected = selection.is_selected
    for k, (start, end) in enumerate(zip(profile.starts.tolist(), ends.tolist(), strict=True)):
        sums = profile.sums[k][layout.errors].reshape(shape)
        total = int(sums[:, 0].sum())
        limits = None
        if total >= settings.min_rows:
            limits = _limits(reference, total, settings)
        parts = _split(profile, k, reference)
        for s, segment in enumerate(SEGMENTS):
            change = _Change(
                Errors.from_sums(_of(sums, segment)),
                Errors.from_sums(_of(usual, segment)),
                reference,
                limits,
                settings,
            )
            verdict = change.verdict()
            split = parts if segment == ALL else _NO_PARTS
            reason = change.describe(verdict, split)
            if change.is_judged and is_selected[k, s]:
                verdict = SELECTED_LABELS
                reason = selection.describe(k, segment, change.now.n)
            rows.append(
                {
                    "window_start": start,
                    "window_end": end,
                    "model_version": version,
                    "segment": segment,
                    "verdict": verdict,
                    "value": change.value,
                    "threshold": change.threshold,
                    **asdict(change.now),
                    "reference_mae": change.before.mae,
                    "reference_bias": change.before.bias,
                    "mae_score": change.mae_score,
                    "mae_threshold": limits.mae if limits else np.nan,
                    "bias_score": change.bias_score,
                    "bias_threshold": limits.bias if limits else np.nan,
                    "covariate": split.covariate,
                    "concept": split.concept,
                    "expected_mae": split.expected,
                    "reason": reason,
                }
            )
    return window_table(rows, PERFORMANCE_DTYPES)


def _of(sums: NDArray[np.float64], segment: str) -> NDArray[np.float64]:
    own = sums.sum(axis=0) if segment == ALL else sums[COUNTED_SEGMENTS.index(segment)]
    return np.asarray(own)


@dataclass(frozen=True)
class _Limits:
    """Scores that chance exceeds in any segment at half the false-alarm rate each."""

    mae: float
    bias: float


@dataclass(frozen=True)
class _Parts:
    """The rise of the mean absolute error, split; points of quality."""

    covariate: float
    concept: float
    expected: float
    cells: str


_NO_PARTS = _Parts(np.nan, np.nan, np.nan, "")


@dataclass(frozen=True)
class _Change:
    """Errors now and before, and by how many standard errors they differ."""

    now: Errors
    before: Errors
    reference: Reference
    limits: _Limits | None
    settings: DriftSettings

    @property
    def is_judged(self) -> bool:
        return self.limits is not None and min(self.now.n, self.before.n) >= self.settings.min_rows

    def _standard_error(self, variance: float) -> float:
        """Of the difference of two means if nothing has changed.

        The spread is the reference's on both sides: a decayed model's own, larger spread would hide
        a part of its decay.
        """
        worth_n = self.now.n / expected_repetition(
            self.now.n, self.before.n, self.reference.repetition
        )
        worth_m = self.before.n / self.reference.repetition
        return float(np.sqrt(max(variance, LEAST_SPREAD**2) * (1 / worth_n + 1 / worth_m)))

    @property
    def mae_score(self) -> float:
        if not self.now.n or not self.before.n:
            return np.nan
        variance = self.before.rmse**2 - self.before.mae**2
        return (self.now.mae - self.before.mae) / self._standard_error(variance)

    @property
    def bias_score(self) -> float:
        if not self.now.n or not self.before.n:
            return np.nan
        variance = self.before.rmse**2 - self.before.bias**2
        return (self.now.bias - self.before.bias) / self._standard_error(variance)

    @property
    def _by_bias(self) -> bool:
        """Whether the bias lies farther beyond its limit than the mean absolute error."""
        if self.limits is None:
            return False
        beyond_bias = abs(self.bias_score) / self.limits.bias
        beyond_mae = self.mae_score / self.limits.mae
        bias_matters, mae_matters = self._bias_matters, self._mae_matters
        if bias_matters != mae_matters:
            return bias_matters
        return beyond_bias > beyond_mae

    @property
    def _mae_matters(self) -> bool:
        return (
            self.limits is not None
            and self.mae_score > self.limits.mae
            and self.now.mae - self.before.mae >= self.settings.min_mae_rise
        )

    @property
    def _bias_matters(self) -> bool:
        return (
            self.limits is not None
            and abs(self.bias_score) > self.limits.bias
            and abs(self.now.bias - self.before.bias) >= self.settings.min_bias_change
        )

    @property
    def value(self) -> float:
        return abs(self.bias_score) if self._by_bias else self.mae_score

    @property
    def threshold(self) -> float:
        if self.limits is None:
            return np.nan
        return self.limits.bias if self._by_bias else self.limits.mae

    def verdict(self) -> ModelVerdict:
        if not self.now.n:
            return "no_labels"
        if not self.is_judged:
            return "insufficient_data"
        return "decayed" if self._mae_matters or self._bias_matters else "ok"

    def describe(self, verdict: ModelVerdict, parts: _Parts) -> str:
        if verdict == "no_labels":
            return "no ground truth yet"
        now, before = self.now, self.before
        if verdict == "insufficient_data":
            scarce = now.n < self.settings.min_rows
            few = count_of(*((now.n, "labelled wine") if scarce else (before.n, "reference wine")))
            return f"{few}, fewer than the {self.settings.min_rows} that a judgement needs"
        value, limit = self.value, self.threshold
        if self._by_bias:
            words = (
                f"mean error {now.bias:+.3f} at {count_of(now.n, 'labelled wine')}, "
                f"{before.bias:+.3f} on the reference"
            )
        else:
            words = (
                f"mean absolute error {now.mae:.3f} at {count_of(now.n, 'labelled wine')}, "
                f"{before.mae:.3f} on the reference"
            )
        words += f"; score {value:.1f} {'exceeds' if value > limit else 'is within'} {limit:.1f}"
        if value > limit and verdict == "ok":
            floor = self.settings.min_bias_change if self._by_bias else self.settings.min_mae_rise
            words += f"; too small to matter (floor {floor:g})"
        if verdict == "decayed" and parts.cells:
            words += (
                f"; of the change of the absolute error {parts.covariate:+.3f} is explained by the "
                f"wines, {parts.concept:+.3f} is not: {parts.cells}"
            )
        return words


def _split(profile: Profile, row: int, reference: Reference) -> _Parts:
    """Split the rise of the mean absolute error by the leaves of the reference's error tree.

    With shares p (window) and q (reference) of labelled wines by leaf, and mean absolute errors E
    and E₀: the covariate part is Σ (p − q) E₀, what the same model would err on these wines if they
    were judged as before; the concept part is the rest, Σ p (E − E₀).
    """
    layout, leaves = reference.sums_layout, reference.tree.leaves
    shape = (leaves, len(layout.BY_LEAF))
    now = profile.sums[row][layout.by_leaf].reshape(shape)
    before = np.array(reference.sums)[layout.by_leaf].reshape(shape)
    place = reference.cells[LEAF]
    wines = select(profile.by_segment(row, reference), ALL)[place][FAULTS:]
    n, _, absolute = now.T
    m, _, usual_absolute = before.T
    usual = np.divide(usual_absolute, m, out=np.zeros(leaves), where=m > 0)
    expected = float(wines @ usual / wines.sum()) if wines.sum() else np.nan
    if not n.sum() or not m.sum():
        return _Parts(np.nan, np.nan, expected, "")
    p, q = n / n.sum(), m / m.sum()
    covariate = float((p - q) @ usual)
    rise_by_leaf = absolute / n.sum() - p * usual
    worst = np.argsort(rise_by_leaf)[::-1][:MOST_CELLS]
    cells = "; ".join(
        f"{reference.tree.describe(int(k))}: error {absolute[k] / n[k]:.2f} instead of "
        f"{usual[k]:.2f}"
        for k in worst
        if rise_by_leaf[k] > 0 and n[k] >= 5
    )
    return _Parts(covariate, float(rise_by_leaf.sum()), expected, cells)


def _limits(reference: Reference, n: int, settings: DriftSettings) -> _Limits:
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
) -> _Limits:
    """Scores that the largest segment's exceed if nothing has changed.

    Each of the two gets half of the false-alarm rate. Both sides are resampled from the
    reference's wines, as pairs of type and binned error.
    """
    rng = np.random.default_rng([seed, n])
    cells = reference.by_segment[:, reference.cells[ERROR]][:, FAULTS:]
    middles = _middles(reference)
    e = np.tile(middles, len(COUNTED_SEGMENTS))
    owner = np.repeat(np.arange(len(COUNTED_SEGMENTS)), len(middles))
    m = int(cells.sum())
    if not m:
        return _Limits(np.inf, np.inf)
    worth_n = max(1, round(n / float(expected_repetition(n, m, reference.repetition))))
    worth_m = max(1, round(m / reference.repetition))
    window = rng.multinomial(worth_n, cells.ravel() / m, resamples)
    base = rng.multinomial(worth_m, cells.ravel() / m, resamples)
    largest = {"mae": np.full(resamples, -np.inf), "bias": np.full(resamples, -np.inf)}
    for segment in SEGMENTS:
        own = (owner == COUNTED_SEGMENTS.index(segment)) if segment != ALL else owner >= 0
        now, before = window[:, own], base[:, own]
        in_window, in_base = now.sum(axis=1), before.sum(axis=1)
        judged = (in_window * n >= min_rows * worth_n) & (in_base * m >= min_rows * worth_m)
        k, b = np.maximum(in_window, 1), np.maximum(in_base, 1)
        for name, x in (("mae", np.abs(e[own])), ("bias", e[own])):
            mean = before @ x / b
            variance = np.maximum(before @ x**2 / b - mean**2, LEAST_SPREAD**2)
            score = (now @ x / k - mean) / np.sqrt(variance * (1 / k + 1 / b))
            score = np.abs(score) if name == "bias" else score
            largest[name] = np.where(judged, np.maximum(largest[name], score), largest[name])
    # no interpolation: a resample in which no segment is judged has the score -inf
    mae, bias = (
        float(np.quantile(largest[name], 1 - false_alarm_rate / 2, method="higher"))
        for name in ("mae", "bias")
    )
    return _Limits(max(mae, LEAST_LIMIT), max(bias, LEAST_LIMIT))


def _middles(reference: Reference) -> NDArray[np.float64]:
    """The middle of each bin of the error, in points of quality, shape (bins,)."""
    bins = reference.bins(ERROR)
    place = reference.columns.index(bins)
    low, high = reference.lows[place], reference.highs[place]
    edges = np.array([low or 0.0, *bins.edges, high or 0.0])
    return np.asarray((edges[:-1] + edges[1:]) / 2)
