"""Per window and column: has it drifted, and can its data be trusted?"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

import numpy as np
import pandas as pd

from wine_quality.drift.calibration import calibrate, independent_sizes, round_down, score
from wine_quality.drift.distances import share_moved, stability_index
from wine_quality.drift.profiles import (
    WINDOW_KEYS,
    ColumnReference,
    Fault,
    Profile,
    Reference,
    judged_counts,
)
from wine_quality.drift.settings import DriftSettings, window_length
from wine_quality.errors import WineQualityError

Verdict = Literal["ok", "drift", "data_quality", "insufficient_data"]
VERDICTS_DTYPES = {
    "window_start": "datetime64[us, UTC]",
    "window_end": "datetime64[us, UTC]",
    "model_version": "str",
    "column": "str",
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


TRAFFIC = "traffic"
"""What a verdict on the number of wines is filed under, beside the columns."""
LEAST_PSI = 0.001
"""Smaller indices are not told apart in a reason: freed of what chance adds, most are zero."""
MOST_ROWS = 100_000
"""Wines beyond which the limit of a share of faults is that of so many: it hardly falls any
further (by a two hundredth up to a million), and its computation takes the longer."""


@dataclass(frozen=True)
class _Cells:
    """One column of one window: wines by bin, and the range of its numbers (NaN without any)."""

    n: dict[int, int]
    low: float
    high: float


@dataclass(frozen=True)
class _Judgement:
    verdict: Verdict
    value: float
    threshold: float
    n: int
    psi: float
    reason: str


@dataclass(frozen=True)
class _Faulty:
    """A share of faulty values that is too high; shares in [0, 1]."""

    share: float
    limit: float
    words: str


@dataclass(frozen=True)
class _Distance:
    """How far a window's values lie from the reference's, and what they may."""

    score: float
    threshold: float
    moved: float
    psi: float

    def is_drift(self, settings: DriftSettings) -> bool:
        return self.score > self.threshold and self.moved >= settings.min_share_moved


def decide(profile: Profile, reference: Reference, settings: DriftSettings) -> pd.DataFrame:
    """Judge each column of each window of each model version.

    Drift is judged on the values that are there: numbers, implausible ones included, and known
    categories. A column has drifted if its studentised score exceeds the threshold calibrated for
    all columns together, and if the share of wines that moved is worth mentioning. Missing,
    invalid, implausible and unknown values are judged by their shares. Where both hold the verdict
    is `drift` and the reason names the faults too; a column that is absent, empty or stuck at one
    value cannot be judged for drift and is `data_quality`.

    Args:
        profile: Counts of the windows.
        reference: What they are held against; the profile must have been counted in its bins.
        settings: False-alarm rate, sizes and floors.

    Returns:
        One row per window, model version and column of the reference, with the columns and types
        of `VERDICTS_DTYPES`. `n` is the number of values judged. `value` and `threshold` are the
        studentised score and its limit; for `data_quality` the faulty share and its limit. `psi` is
        the population stability index, freed of what chance adds (NaN if nothing can be judged).

    Raises:
        WineQualityError: If the profile lacks a column of the reference.
    """
    length = window_length(settings.window)
    rows = []
    for key, window in profile.counts.groupby(list(WINDOW_KEYS)):
        start, version = cast(tuple[pd.Timestamp, str], key)
        cells = _cells_by_column(window)
        for column in reference.columns:
            if column.bins.name not in cells:
                raise WineQualityError(
                    f"the profile does not count {column.bins.name}: profile the log again with "
                    "this reference"
                )
            judgement = _judge(column, cells[column.bins.name], reference, settings)
            rows.append(
                (
                    start,
                    start + length,
                    version,
                    column.bins.name,
                    judgement.verdict,
                    judgement.value,
                    judgement.threshold,
                    judgement.n,
                    judgement.psi,
                    f"{column.bins.name}: {judgement.reason}",
                )
            )
    return pd.DataFrame(rows, columns=list(VERDICTS_DTYPES)).astype(VERDICTS_DTYPES)


def _cells_by_column(window: pd.DataFrame) -> dict[str, _Cells]:
    n: defaultdict[str, dict[int, int]] = defaultdict(dict)
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    rows = (window[name].tolist() for name in ("column", "bin", "n", "minimum", "maximum"))
    for column, bin_, wines, smallest, largest in zip(*rows, strict=True):
        n[column][bin_] = wines
        low[column] = np.fmin(low.get(column, np.nan), smallest)
        high[column] = np.fmax(high.get(column, np.nan), largest)
    return {column: _Cells(n[column], low[column], high[column]) for column in n}


def _judge(
    column: ColumnReference, cells: _Cells, reference: Reference, settings: DriftSettings
) -> _Judgement:
    rows = sum(cells.n.values())
    counts = np.array(judged_counts(cells.n, column.bins))
    n = int(counts.sum())
    if rows < settings.min_rows:
        return _Judgement(
            "insufficient_data", np.nan, np.nan, n, np.nan,
            f"{rows} wines are fewer than the {settings.min_rows} that a judgement needs",
        )  # fmt: skip
    faults = _find_faults(column, cells.n, rows, reference, settings)
    worst = max(faults, key=lambda fault: fault.share - fault.limit, default=None)
    fault_words = "; ".join(fault.words for fault in faults)
    if n == 0 and worst is not None:
        what = "the log has no such column" if Fault.ABSENT in cells.n else fault_words
        return _Judgement("data_quality", worst.share, worst.limit, n, np.nan, what)
    if stuck := _stuck_at(column, cells, counts, reference, settings):
        return _Judgement("data_quality", stuck.share, stuck.limit, n, np.nan, stuck.words)
    if n < settings.min_rows or column.n == 0:
        if worst is not None:
            return _Judgement("data_quality", worst.share, worst.limit, n, np.nan, fault_words)
        whose = "the reference has no values" if column.n == 0 else f"only {n} wines have a value"
        return _Judgement("insufficient_data", np.nan, np.nan, n, np.nan, f"{whose} to judge by")
    distance = _measure(column, counts, reference, settings)
    words = _describe(column, cells, counts, distance, settings)
    if distance.is_drift(settings):
        words = "; ".join([words, fault_words] if fault_words else [words])
        return _Judgement("drift", distance.score, distance.threshold, n, distance.psi, words)
    if worst is not None:
        return _Judgement("data_quality", worst.share, worst.limit, n, distance.psi, fault_words)
    return _Judgement("ok", distance.score, distance.threshold, n, distance.psi, words)


def _measure(
    column: ColumnReference, counts: np.ndarray, reference: Reference, settings: DriftSettings
) -> _Distance:
    n = int(counts.sum())
    calibration = calibrate(reference, n, settings)
    p, q = counts / n, np.array(column.counts) / column.n
    sizes = independent_sizes(n, column.n, reference.repetition)
    raw = float(score(column.bins, p, q, *sizes))
    return _Distance(
        score=calibration.studentise(column.bins.name, raw),
        threshold=calibration.threshold,
        moved=float(share_moved(p, q, ordinal=not column.bins.is_category)),
        psi=float(stability_index(p, q, *sizes)),
    )


def _find_faults(
    column: ColumnReference,
    n_by_bin: Mapping[int, int],
    rows: int,
    reference: Reference,
    settings: DriftSettings,
) -> list[_Faulty]:
    """The kinds of faults whose share is too high.

    A share is too high if it exceeds the reference's by the floor of the settings and by more than
    chance: given the reference's share, the count is beta-binomial (posterior predictive under
    Jeffreys' prior), and the false-alarm rate is divided by the number of columns (Bonferroni).
    """
    in_reference = dict(zip(Fault, column.faults, strict=True))
    found = []
    for words, kinds in FAULT_KINDS.items():
        faulty = sum(n_by_bin.get(kind.value, 0) for kind in kinds)
        if not faulty:
            continue
        usual = sum(in_reference[kind] for kind in kinds)
        limit = max(
            usual / reference.rows + settings.min_fault_rise,
            _chance_limit(usual, reference, rows, settings),
        )
        if faulty / rows > limit:
            found.append(
                _Faulty(
                    faulty / rows,
                    limit,
                    f"{_percent(faulty / rows)} of {rows:,} values are {words}, against "
                    f"{_percent(usual / reference.rows)} in the reference "
                    f"(limit {_percent(limit)})",
                )
            )
    return found


def _chance_limit(usual: int, reference: Reference, rows: int, settings: DriftSettings) -> float:
    """Share of faulty values that chance exceeds at this column's part of the false-alarm rate."""
    rate = settings.false_alarm_rate / len(reference.columns)
    return _calibrate_share(usual, reference.rows, min(round_down(rows), MOST_ROWS), rate)


@lru_cache(maxsize=4096)
def _calibrate_share(usual: int, reference_rows: int, rows: int, rate: float) -> float:
    from scipy.stats import betabinom

    return float(betabinom.isf(rate, rows, usual + 0.5, reference_rows - usual + 0.5)) / rows


def _stuck_at(
    column: ColumnReference,
    cells: _Cells,
    counts: np.ndarray,
    reference: Reference,
    settings: DriftSettings,
) -> _Faulty | None:
    """A number that never varies, though the reference's does so often enough."""
    n = int(counts.sum())
    if column.bins.is_category or n < settings.min_rows or column.minimum == column.maximum:
        return None
    # in the reference's own bin this share of wines has at most that value's frequency
    share = column.counts[int(counts.argmax())] / max(column.n, 1)
    if cells.low != cells.high or share**n > settings.false_alarm_rate / len(reference.columns):
        return None
    return _Faulty(1.0, (n - 1) / n, f"all {n:,} values are {cells.low:.4g}, the reference's vary")


def _describe(
    column: ColumnReference,
    cells: _Cells,
    counts: np.ndarray,
    distance: _Distance,
    settings: DriftSettings,
) -> str:
    beyond = distance.score > distance.threshold
    words = (
        f"score {distance.score:.1f} {'exceeds' if beyond else 'is within'} "
        f"{distance.threshold:.1f} at {int(counts.sum()):,} wines; "
        f"{_describe_move(column, cells, counts)}, "
        f"PSI {f'< {LEAST_PSI}' if distance.psi < LEAST_PSI else f'{distance.psi:.2g}'}"
    )
    if beyond and not distance.is_drift(settings):
        words += (
            f"; too small to matter, {_percent(distance.moved)} of wines moved "
            f"(floor {_percent(settings.min_share_moved)})"
        )
    return words


def _describe_move(column: ColumnReference, cells: _Cells, counts: np.ndarray) -> str:
    before, after = np.array(column.counts) / column.n, counts / counts.sum()
    if column.minimum is None or column.maximum is None:  # categories have neither
        k = int(np.abs(after - before).argmax())
        category = column.bins.categories[k]
        return f"share of {category} moved from {_percent(before[k])} to {_percent(after[k])}"
    old = _median(column.bins.edges, before, column.minimum, column.maximum)
    new = _median(column.bins.edges, after, cells.low, cells.high)
    return f"median moved from {old:.4g} to {new:.4g}"


def _median(edges: tuple[float, ...], shares: np.ndarray, low: float, high: float) -> float:
    """The median by linear interpolation within its bin."""
    bounds = np.clip([low, *edges, high], low, high)
    return float(np.interp(0.5, np.concatenate([[0], np.cumsum(shares)]), bounds))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
