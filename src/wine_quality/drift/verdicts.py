"""Per window and column: has it drifted, and can its data be trusted?"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import betaln

from wine_quality.drift.calibration import (
    DRIFT_COLUMNS,
    calibrate,
    expected_repetition,
    reference_counts,
    round_down,
    score,
    select,
)
from wine_quality.drift.distances import share_moved, stability_index
from wine_quality.drift.joint import describe_pairs
from wine_quality.drift.profiles import Profile, fault_counts, judged_counts
from wine_quality.drift.reference import (
    ALL,
    BUCKETS,
    FAULTS,
    JOINT,
    JOINT_COLUMNS,
    SEGMENTS,
    ColumnBins,
    Fault,
    Reference,
    parts_name,
)
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.vocabulary import count_of, window_table
from wine_quality.wines import INPUTS, PARTS_OF_TOTALS, PREDICTION, TYPE

Verdict = Literal["ok", "drift", "data_quality", "insufficient_data", "unfinished"]
VERDICTS_DTYPES = {
    "window_start": "datetime64[us, UTC]",
    "window_end": "datetime64[us, UTC]",
    "model_version": "str",
    "column": "str",
    "segment": "str",
    "verdict": "str",
    "value": "float64",
    "threshold": "float64",
    "n": "int64",
    "psi": "float64",
    "reason": "str",
}
FAULT_KINDS: dict[str, tuple[Fault, ...]] = {
    "missing": (Fault.MISSING, Fault.ABSENT),
    "no finite number": (Fault.INVALID,),
    "outside of the plausible range": (Fault.TOO_LOW, Fault.TOO_HIGH),
    "of an unknown category": (Fault.UNKNOWN,),
}
"""What a reason calls the faults; absent values count as missing ones."""
COPIES, TRAFFIC = "copies", "traffic"
"""What verdicts are filed under beside the columns: on how measurements go together, on wines that
come several times, and on the number of wines."""
LEFT_OUT = "not judged: it is in monitoring.drift.columns_left_out"
JUDGED_COLUMNS: tuple[str, ...] = (*INPUTS, PREDICTION)
LEAST_PSI = 0.001
"""Smaller indices are not told apart in a reason: freed of what chance adds, most are zero."""
MOST_ROWS = 100_000
"""Wines beyond which the limit of a share of faults is that of so many: it hardly falls any
further (by a two hundredth up to a million), and its computation takes the longer."""
UNUSUAL_REPETITION = 1.5
"""Wines that come so many times more often than expected are a fault of the data …"""
SKETCH_ERRORS = 4
"""… and so many standard errors of the estimate."""
HEAVY_SHARE = 0.1
"""A wine with a larger share of a window is named."""


@dataclass(frozen=True)
class Judgement:
    """What is said of one subject in one window; see `VERDICTS_DTYPES` for the fields."""

    verdict: Verdict
    value: float
    threshold: float
    n: int
    psi: float
    reason: str
    segment: str = ALL


@dataclass(frozen=True)
class _Faulty:
    """A share of faulty values that is too high; shares in [0, 1]."""

    share: float
    limit: float
    words: str


@dataclass(frozen=True)
class _Distances:
    """How far the windows' values lie from the reference's, and what they may.

    Arrays have the shape (windows, columns), columns as in `DRIFT_COLUMNS`; NaN where a segment has
    too few values to be judged.
    """

    score: NDArray[np.float64]
    moved: NDArray[np.float64]
    psi: NDArray[np.float64]
    threshold: NDArray[np.float64]
    """Shape (windows,)."""


@dataclass(frozen=True)
class Repetition:
    """How often wines come in each window.

    Attributes:
        mean: Average number of equal wines, over the wines, as estimated, shape (windows,).
        limit: What of it is unusual.
        worth: By how much to divide a number of wines to get independent ones.
        heaviest: Wines that the most frequent hash bucket has beyond its share.
    """

    mean: NDArray[np.float64]
    limit: NDArray[np.float64]
    worth: NDArray[np.float64]
    heaviest: NDArray[np.int64]


def decide(
    profile: Profile,
    ends: NDArray[np.int64],
    reference: Reference,
    version: str,
    settings: DriftSettings,
) -> pd.DataFrame:
    """Judge each column of each window of a model version.

    Drift is judged on the values that are there: numbers, implausible ones included, and known
    categories; for all wines together and within each type. A column has drifted if its studentised
    score in any segment exceeds the threshold calibrated for all columns and segments together, and
    if the share of the segment's wines that moved is worth mentioning. How measurements go together
    is judged alike, under `joint`. Missing, invalid, implausible, impossible and unknown values are
    judged by their shares. Where both hold the verdict is `drift` and the reason names the faults
    too; a column that is absent, empty or stuck at one value cannot be judged for drift and is
    `data_quality`. Wines that come unusually often are `data_quality` of `copies`, and count as the
    number of different wines that they are worth.

    Args:
        profile: Counts of the windows, in the reference's cells.
        ends: End of each window, seconds since 1970, shape (windows,).
        reference: What they are compared with.
        version: The model version.
        settings: False-alarm rate, sizes and floors.

    Returns:
        One row per window and subject (`JUDGED_COLUMNS`, `joint`, `copies`), with the columns and
        types of `VERDICTS_DTYPES`. `segment` is the one in which the score is highest by its
        threshold. `n` is the number of that segment's values judged. `value` and `threshold` are
        the studentised score and its limit; for `data_quality` the faulty share and its limit.
        `psi` is the population stability index, freed of what chance adds (NaN if nothing can be
        judged).
    """
    by_segment, buckets = profile.dense(reference)
    repetition = estimate_repetition(buckets, reference)
    distances = {
        segment: _measure(select(by_segment, segment), segment, repetition, reference, settings)
        for segment in SEGMENTS
    }
    rows = []
    for k, (start, end) in enumerate(zip(profile.starts.tolist(), ends.tolist(), strict=True)):
        window = _Window(k, by_segment[k], profile, reference, settings, distances, repetition)
        rows += [
            (start, end, version, subject, found.segment, found.verdict, found.value,
             found.threshold, found.n, found.psi, found.reason)
            for subject, found in window.judge().items()
        ]  # fmt: skip
    return window_table(rows, VERDICTS_DTYPES)


def _measure(
    counts: NDArray[np.int64],
    segment: str,
    repetition: Repetition,
    reference: Reference,
    settings: DriftSettings,
) -> _Distances:
    """Measure all columns of all windows of a segment."""
    windows = len(counts)
    shape = (windows, len(DRIFT_COLUMNS))
    raw, moved, psi = (np.full(shape, np.nan) for _ in range(3))
    # every wine has a cell of every column, if only a fault's
    wines = counts[:, reference.cells[TYPE]].sum(axis=1)
    worth_wines = wines / repetition.worth
    calibrations = [
        calibrate(reference, segment, worth, settings)
        if min(n, worth) >= settings.min_rows
        else None
        for n, worth in zip(wines, worth_wines, strict=True)
    ]
    nothing = np.full(len(DRIFT_COLUMNS), np.nan)
    mean, spread = (
        np.array([getattr(c, name) if c else nothing for c in calibrations]).reshape(shape)
        for name in ("mean", "spread")
    )
    for k, name in enumerate(DRIFT_COLUMNS):
        before = reference_counts(reference, segment, name)
        now = judged_counts(counts[:, reference.cells[name]])
        n, m = now.sum(axis=1), int(before.sum())
        if (name == TYPE and segment != ALL) or m < settings.min_rows:
            continue
        judged = (n >= settings.min_rows) & (n / repetition.worth >= settings.min_rows)
        if not judged.any():
            continue
        worth = n[judged] / repetition.worth[judged]
        p, q = now[judged] / n[judged, None], before / m
        worth_m = m / reference.repetition
        bins = reference.bins(name)
        raw[judged, k] = score(bins, p, q, worth, worth_m)
        moved[judged, k] = share_moved(p, q, ordinal=not bins.is_category)
        psi[judged, k] = stability_index(p, q, worth, worth_m)
    threshold = np.array([c.threshold if c else np.nan for c in calibrations])
    return _Distances((raw - mean) / spread, moved, psi, threshold)


def estimate_repetition(buckets: NDArray[np.int64], reference: Reference) -> Repetition:
    """Estimate from the sketch how often the windows' wines come.

    The sum of the squared counts of hash buckets estimates that of the squared counts of wines;
    its relative error is at most √(2/`BUCKETS`) (AMS sketch, see `BUCKETS`).
    """
    n = buckets.sum(axis=1).astype(float)
    some = np.maximum(n, 1)
    mean = ((buckets**2).sum(axis=1) - n**2 / BUCKETS) / (some * (1 - 1 / BUCKETS))
    expected = expected_repetition(some, reference.rows, reference.repetition)
    noise = SKETCH_ERRORS * np.sqrt(2 / BUCKETS)
    limit = np.maximum(UNUSUAL_REPETITION * expected, expected + noise)
    worth = np.where(mean > expected + noise, mean, expected)
    largest = buckets.max(axis=1)
    heaviest = np.rint(largest - (n - largest) / (BUCKETS - 1)).astype(np.int64)
    return Repetition(mean, limit, worth, heaviest)


@dataclass(frozen=True)
class _Window:
    """One window of one model version, with what is known of it."""

    row: int
    by_segment: NDArray[np.int64]
    profile: Profile
    reference: Reference
    settings: DriftSettings
    distances: Mapping[str, _Distances]
    repetition: Repetition

    @property
    def wines(self) -> int:
        cells = self.by_segment[:, self.reference.cells[TYPE]]
        return int(cells.sum())

    def judge(self) -> dict[str, Judgement]:
        judged = {name: self._judge_column(self.reference.bins(name)) for name in JUDGED_COLUMNS}
        return judged | {JOINT: self._judge_joint(), COPIES: self._judge_copies()}

    def _judge_column(self, bins: ColumnBins) -> Judgement:
        reference, settings, rows = self.reference, self.settings, self.wines
        block = select(self.by_segment, ALL)[reference.cells[bins.name]]
        n = int(judged_counts(block).sum())
        if bins.name in settings.columns_left_out:
            return Judgement("insufficient_data", np.nan, np.nan, n, np.nan, LEFT_OUT)
        if rows < settings.min_rows:
            return self._too_few(n)
        faults = self._find_faults(bins.name, block)
        worst = max(faults, key=lambda fault: fault.share - fault.limit, default=None)
        fault_words = "; ".join(fault.words for fault in faults)
        if n == 0 and worst is not None:
            absent = fault_counts(block)[Fault.ABSENT]
            what = "the log has no such column" if absent else fault_words
            return Judgement("data_quality", worst.share, worst.limit, n, np.nan, what)
        if stuck := self._stuck_at(bins, block):
            return Judgement("data_quality", stuck.share, stuck.limit, n, np.nan, stuck.words)
        segment = self._worst_segment([DRIFT_COLUMNS.index(bins.name)])
        if segment is None:
            if worst is not None:
                return Judgement("data_quality", worst.share, worst.limit, n, np.nan, fault_words)
            return self._nothing_to_judge(bins.name, n)
        found = self._drift(segment, DRIFT_COLUMNS.index(bins.name))
        if found.verdict == "drift" and fault_words:
            return Judgement(**{**vars(found), "reason": f"{found.reason}; {fault_words}"})
        if found.verdict == "ok" and worst is not None:
            return Judgement("data_quality", worst.share, worst.limit, n, found.psi, fault_words)
        return found

    def _judge_joint(self) -> Judgement:
        if JOINT in self.settings.columns_left_out:
            return Judgement("insufficient_data", np.nan, np.nan, self.wines, np.nan, LEFT_OUT)
        if self.wines < self.settings.min_rows:
            return self._too_few(self.wines)
        columns = [DRIFT_COLUMNS.index(name) for name in JOINT_COLUMNS]
        segment = self._worst_segment(columns)
        if segment is None:
            return self._nothing_to_judge(JOINT, 0)
        scores = self.distances[segment].score[self.row]
        return self._drift(segment, max(columns, key=lambda k: np.nan_to_num(scores[k], nan=-9)))

    def _judge_copies(self) -> Judgement:
        n, row = self.wines, self.row
        mean, limit = float(self.repetition.mean[row]), float(self.repetition.limit[row])
        if n < self.settings.min_rows:
            return self._too_few(n)
        heaviest = int(self.repetition.heaviest[row])
        if mean <= limit:
            words = "wines hardly repeat"
            if mean >= 1.1:
                words = f"each wine comes about {mean:.2g} times, as is usual"
            return Judgement("ok", mean, limit, n, np.nan, words)
        words = f"each wine comes about {mean:.2g} times (limit {limit:.2g})"
        if heaviest > HEAVY_SHARE * n:
            words = f"about {heaviest:,} of {n:,} wines are the same one"
        words += f"; the window counts as {count_of(round(n / mean), 'distinct wine')}"
        return Judgement("data_quality", mean, limit, n, np.nan, words)

    def _too_few(self, n: int) -> Judgement:
        words = (
            f"{count_of(self.wines, 'wine')}, fewer than the {self.settings.min_rows} that a "
            "judgement needs"
        )
        return Judgement("insufficient_data", np.nan, np.nan, n, np.nan, words)

    def _nothing_to_judge(self, column: str, n: int) -> Judgement:
        settings, worth = self.settings, self.wines / self.repetition.worth[self.row]
        if worth < settings.min_rows:
            words = f"the wines are worth only about {worth:.0f} different ones"
        elif column != JOINT and not reference_counts(self.reference, ALL, column).sum():
            words = "the reference has no values to judge by"
        elif column == JOINT:
            words = "too few complete wines to judge by"
        else:
            words = f"only {count_of(n, 'value')} to judge by"
        return Judgement("insufficient_data", np.nan, np.nan, n, np.nan, words)

    def _worst_segment(self, columns: list[int]) -> str | None:
        """The segment in which any of the columns is farthest beyond, or nearest to, a limit."""
        best, found = -np.inf, None
        for segment in SEGMENTS:
            of = self.distances[segment]
            beyond = of.score[self.row, columns] / of.threshold[self.row]
            # a change too small to matter hides none that matters; what is not judged stays NaN
            is_small = of.moved[self.row, columns] < self.settings.min_share_moved
            ranked = np.where(is_small & (beyond > 1), 1.0, beyond)
            if not np.isnan(ranked).all() and np.nanmax(ranked) > best:
                best, found = float(np.nanmax(ranked)), segment
        return found

    def _drift(self, segment: str, column: int) -> Judgement:
        of, row, name = self.distances[segment], self.row, DRIFT_COLUMNS[column]
        value, limit = float(of.score[row, column]), float(of.threshold[row])
        moved, psi = float(of.moved[row, column]), float(of.psi[row, column])
        now = judged_counts(select(self.by_segment, segment)[self.reference.cells[name]])
        n = int(now.sum())
        beyond = value > limit
        is_drift = beyond and moved >= self.settings.min_share_moved
        words = (
            f"{'' if segment == ALL else f'among {segment} wines: '}"
            f"score {value:.1f} {'exceeds' if beyond else 'is within'} {limit:.1f} at "
            f"{count_of(n, 'wine')}"
        )
        if name not in JOINT_COLUMNS:
            words += f"; {self._describe_move(segment, name, now)}"
        elif is_drift and (
            pairs := describe_pairs(self.profile.sums[row], segment, self.reference)
        ):
            words += f"; {pairs}"
        words += f", PSI {f'< {LEAST_PSI}' if psi < LEAST_PSI else f'{psi:.2g}'}"
        if beyond and not is_drift:
            words += (
                f"; too small to matter, {percent(moved)} of wines moved "
                f"(floor {percent(self.settings.min_share_moved)})"
            )
        return Judgement("drift" if is_drift else "ok", value, limit, n, psi, words, segment)

    def _find_faults(self, name: str, block: NDArray[np.int64]) -> list[_Faulty]:
        """The kinds of faults whose share is too high.

        A share is too high if it exceeds the reference's by the floor of the settings and by more
        than chance: given the reference's share, the count is beta-binomial (posterior predictive
        under Jeffreys' prior), and the false-alarm rate is divided by the number of columns
        (Bonferroni).
        """
        reference = self.reference
        usual_block = select(reference.by_segment, ALL)[reference.cells[name]]
        now, usual = fault_counts(block), fault_counts(usual_block)
        kinds = {
            words: (sum(now[kind] for kind in of), sum(usual[kind] for kind in of))
            for words, of in FAULT_KINDS.items()
        }
        for part, whole in PARTS_OF_TOTALS:
            if name == part:
                # the second bin holds the impossible wines
                place = reference.cells[parts_name(part, whole)].start + FAULTS + 1
                kinds[f"more than {whole.replace('_', ' ')}, of which they are a part"] = (
                    int(select(self.by_segment, ALL)[place]),
                    int(select(reference.by_segment, ALL)[place]),
                )
        return [
            fault
            for words, (faulty, before) in kinds.items()
            if faulty and (fault := self._judge_share(words, faulty, before))
        ]

    def _judge_share(self, words: str, faulty: int, before: int) -> _Faulty | None:
        rows, settings, reference = self.wines, self.settings, self.reference
        worth = max(1, round(rows / self.repetition.worth[self.row]))
        rate = settings.false_alarm_rate / len(JUDGED_COLUMNS)
        limit = max(
            before / reference.rows + settings.min_fault_rise,
            _chance_limit(before, reference.rows, min(round_down(worth), MOST_ROWS), rate),
        )
        if faulty / rows <= limit:
            return None
        return _Faulty(
            faulty / rows,
            limit,
            f"{percent(faulty / rows)} of {rows:,} values are {words}, against "
            f"{percent(before / reference.rows)} in the reference (limit {percent(limit)})",
        )

    def _stuck_at(self, bins: ColumnBins, block: NDArray[np.int64]) -> _Faulty | None:
        """A number that never varies, though the reference's does so often enough."""
        reference, settings = self.reference, self.settings
        place = reference.columns.index(bins)
        counts = judged_counts(block)
        n = int(counts.sum())
        if bins.is_category or n < settings.min_rows:
            return None
        low, high = self.profile.lows[self.row, place], self.profile.highs[self.row, place]
        if low != high or reference.lows[place] == reference.highs[place]:
            return None
        # in the reference's own bin this share of wines has at most that value's frequency
        before = reference_counts(reference, ALL, bins.name)
        share = before[int(counts.argmax())] / max(before.sum(), 1)
        worth = n / self.repetition.worth[self.row]
        if share**worth > settings.false_alarm_rate / len(JUDGED_COLUMNS):
            return None
        return _Faulty(1.0, (n - 1) / n, f"all {n:,} values are {low:.4g}, the reference's vary")

    def _describe_move(self, segment: str, name: str, counts: NDArray[np.int64]) -> str:
        bins = self.reference.bins(name)
        usual = reference_counts(self.reference, segment, name)
        before, after = usual / usual.sum(), counts / counts.sum()
        if bins.is_category:
            k = int(np.abs(after - before).argmax())
            category = bins.categories[k]
            return f"share of {category} moved from {percent(before[k])} to {percent(after[k])}"
        place = self.reference.columns.index(bins)
        low, high = self.reference.lows[place], self.reference.highs[place]
        old = median_of(self.reference, name, usual, low, high)
        low, high = self.profile.lows[self.row, place], self.profile.highs[self.row, place]
        new = median_of(self.reference, name, counts, low, high)
        return f"median moved from {old:.4g} to {new:.4g}"


@lru_cache(maxsize=4096)
def _chance_limit(usual: int, reference_rows: int, rows: int, rate: float) -> float:
    """Share of faulty values that chance exceeds at a column's part of the false-alarm rate.

    The number of faults is beta-binomial. `scipy.stats` has that, and takes a second to import,
    a tenth of a run with nothing new; from `scipy.special` come the same numbers.
    """
    faults = np.arange(rows + 1)
    a, b = usual + 0.5, reference_rows - usual + 0.5
    ways = -np.log(rows + 1) - betaln(rows - faults + 1, faults + 1)
    chances = np.exp(ways + betaln(faults + a, rows - faults + b) - betaln(a, b))
    # added up from the rare end, where it counts
    at_least = np.cumsum(chances[::-1])[::-1]
    return int(np.count_nonzero(at_least[1:] > rate)) / rows


def median_of(
    reference: Reference,
    column: str,
    counts: NDArray[np.int64],
    low: float | None,
    high: float | None,
) -> float:
    """The median of a column by linear interpolation within its bin.

    Args:
        reference: Says how the column is divided.
        column: Its name.
        counts: Wines in each of its bins, shape (bins,).
        low: Smallest value; None or NaN where there is none.
        high: Largest value.
    """
    if low is None or high is None or not counts.sum():
        return float("nan")
    bounds = np.clip([low, *reference.bins(column).edges, high], low, high)
    shares = np.concatenate([[0], np.cumsum(counts / counts.sum())])
    return float(np.interp(0.5, shares, bounds))


def percent(share: float) -> str:
    """Write a share as people read it."""
    return f"{100 * share:.3g} %"
