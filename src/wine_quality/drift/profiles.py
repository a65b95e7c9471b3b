"""Counts of the inference log, window by window: all that the verdicts need to know of it.

A profile is two tables of counts and sums. Profiles of two parts of a log add up to the profile of
the whole, and `profile_windows` is the only function that reads a log's rows: another engine takes
its place by filling the same two tables.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from enum import IntEnum
from numbers import Real
from typing import Any, Self

import numpy as np
import pandas as pd

from wine_quality.drift.settings import window_length
from wine_quality.errors import WineQualityError
from wine_quality.wines import (
    INPUTS,
    MEASUREMENTS,
    PREDICTION,
    QUALITY,
    QUALITY_BOUNDS,
    TYPE,
    WINE_TYPES,
    wine_groups,
)

BINS = 20
"""Quantile bins of a number; ties make them fewer."""
ERROR_STEP = 0.1
"""Quality points: the reference's errors are kept rounded to multiples of it, for resampling."""
OTHER_TYPE = "other"
"""Segment of the labelled wines whose type is none of the known ones."""


class Fault(IntEnum):
    """Bins of the values that cannot be judged, or should not be trusted.

    Every wine of a window falls into exactly one bin of each column: a bin of the reference (0, 1,
    …) or one of these.
    """

    MISSING = -1
    INVALID = -2
    TOO_LOW = -3
    TOO_HIGH = -4
    UNKNOWN = -5
    ABSENT = -6


@dataclass(frozen=True)
class ColumnBins:
    """How one column's values are told apart.

    Attributes:
        name: The column.
        edges: Ascending upper bounds of a number's bins, each belonging to its bin: bin k holds
            edges[k - 1] < x <= edges[k], the last bin everything above. Empty for a category.
        categories: The known categories, bin k holding the k-th. Empty for a number.
        plausible: Closed range of a number; values outside of it are `TOO_LOW` and `TOO_HIGH`.
            None for a category.
    """

    name: str
    edges: tuple[float, ...]
    categories: tuple[str, ...]
    plausible: tuple[float, float] | None

    @property
    def is_category(self) -> bool:
        """Whether the column holds categories, not numbers."""
        return bool(self.categories)

    @property
    def size(self) -> int:
        """The number of bins."""
        return len(self.categories) or len(self.edges) + 1


@dataclass(frozen=True)
class ColumnReference:
    """One column of the reference.

    Attributes:
        bins: How its values are told apart.
        counts: Wines in each bin; those of a number that lie outside of its plausible range are
            in the first or the last bin, too.
        faults: Wines with each fault, in the order of `Fault`.
        minimum: Smallest finite number, None for a category or where there is no number.
        maximum: Largest finite number, likewise.
    """

    bins: ColumnBins
    counts: tuple[int, ...]
    faults: tuple[int, ...]
    minimum: float | None
    maximum: float | None

    @property
    def n(self) -> int:
        """Wines with a value that can be judged."""
        return sum(self.counts)


@dataclass(frozen=True)
class ErrorReference:
    """Errors (prediction - quality) of the reference's wines of one type.

    Attributes:
        segment: The type, or `other`.
        steps: Distinct errors, rounded, in units of `ERROR_STEP`.
        counts: Wines with each of them.
        sums: The exact sums, in the order of `ERROR_SUMS`.
    """

    segment: str
    steps: tuple[int, ...]
    counts: tuple[int, ...]
    sums: tuple[float, ...]


@dataclass(frozen=True)
class Reference:
    """What the champion's held-out wines looked like: the state against which windows are held.

    Attributes:
        rows: Number of held-out wines.
        repetition: How many wines share a wine's inputs, itself included, on average over the
            wines: 1 where all differ. Wines that are counted several times tell less than as many
            different ones; the calibration takes that into account.
        columns: The twelve inputs and the prediction.
        errors: Errors by type.
    """

    rows: int
    repetition: float
    columns: tuple[ColumnReference, ...]
    errors: tuple[ErrorReference, ...]

    @classmethod
    def from_wines(cls, wines: pd.DataFrame) -> Self:
        """Describe held-out wines.

        Args:
            wines: Frame with the twelve inputs, `quality` and the champion's `prediction`, n rows.

        Raises:
            WineQualityError: If a column is missing or there are no wines.
        """
        absent = [c for c in (*INPUTS, PREDICTION, QUALITY) if c not in wines.columns]
        if absent:
            raise WineQualityError(
                f"the reference lacks {', '.join(absent)}: give the held-out wines with inputs, "
                "quality and prediction"
            )
        if wines.empty:
            raise WineQualityError("the reference holds no wines: split the data again")
        bins = [
            ColumnBins(TYPE, (), WINE_TYPES, None),
            *(ColumnBins(m.name, _edges(wines[m.name]), (), m.plausible) for m in MEASUREMENTS),
            ColumnBins(PREDICTION, _edges(wines[PREDICTION]), (), QUALITY_BOUNDS),
        ]
        sharing = wine_groups(wines).value_counts()
        return cls(
            rows=len(wines),
            repetition=float((sharing**2).sum() / sharing.sum()),
            columns=tuple(_describe_column(wines[b.name], b) for b in bins),
            errors=tuple(_describe_errors(wines)),
        )

    def column(self, name: str) -> ColumnReference:
        """The column of that name.

        Raises:
            KeyError: If the reference has no such column.
        """
        for column in self.columns:
            if column.bins.name == name:
                return column
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """The reference as JSON knows it; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Read back what `to_dict` wrote.

        Raises:
            WineQualityError: If it is something else.
        """
        try:
            return cls(
                rows=int(plain["rows"]),
                repetition=float(plain["repetition"]),
                columns=tuple(_column_from_dict(c) for c in plain["columns"]),
                errors=tuple(
                    ErrorReference(
                        e["segment"], tuple(e["steps"]), tuple(e["counts"]), tuple(e["sums"])
                    )
                    for e in plain["errors"]
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WineQualityError(
                f"the stored reference cannot be read ({error!r}): register the champion again"
            ) from error


WINDOW_KEYS = ("window_start", "model_version")
ERROR_SUMS = (
    "labelled",
    "error",
    "absolute_error",
    "squared_error",
    "fourth_power",
    "within_half",
    "within_one",
)
COUNTS_DTYPES = {
    "window_start": "datetime64[us, UTC]",
    "model_version": "str",
    "column": "str",
    "bin": "int64",
    "n": "int64",
    "minimum": "float64",
    "maximum": "float64",
}
ERRORS_DTYPES = {
    "window_start": "datetime64[us, UTC]",
    "model_version": "str",
    "segment": "str",
    "labelled": "int64",
    "error": "float64",
    "absolute_error": "float64",
    "squared_error": "float64",
    "fourth_power": "float64",
    "within_half": "int64",
    "within_one": "int64",
}


@dataclass(frozen=True)
class Profile:
    """The counts of some windows.

    Attributes:
        counts: One row per window, model version, column and bin that occurs: `n` wines, with the
            smallest and the largest number among them (NaN for categories and for faults without a
            number). Columns and types as in `COUNTS_DTYPES`. Over the bins of a column, `n` adds
            up to the window's wines.
        errors: One row per window, model version and segment (a type, or `other`) with labelled
            wines: their number, sums of the errors' powers (of e, |e|, e², e⁴) and how many lie
            within 0.5 and 1.0. Columns and types as in `ERRORS_DTYPES`.
    """

    counts: pd.DataFrame
    errors: pd.DataFrame

    def merge(self, other: "Profile") -> "Profile":
        """Add the counts of further wines, in the same windows or in others.

        Both profiles must come from the same reference and window length.
        """
        counts = pd.concat([self.counts, other.counts]).groupby(
            [*WINDOW_KEYS, "column", "bin"], as_index=False
        )
        errors = pd.concat([self.errors, other.errors]).groupby(
            [*WINDOW_KEYS, "segment"], as_index=False
        )
        return Profile(
            counts.agg({"n": "sum", "minimum": "min", "maximum": "max"}).astype(COUNTS_DTYPES),
            errors.sum().astype(ERRORS_DTYPES),
        )


def window_starts(event_time: pd.Series, window: str) -> pd.Series:
    """Find the window of each moment.

    Args:
        event_time: Moments, shape (n,); those without a time zone are taken for UTC.
        window: Length of a window, see `DriftSettings`.

    Returns:
        Start of each moment's window, UTC, a whole number of windows after 1970-01-01.
    """
    step = window_length(window) // pd.Timedelta(microseconds=1)
    moments = pd.to_datetime(event_time, utc=True).dt.as_unit("us").astype("int64")
    return pd.to_datetime(moments // step * step, unit="us", utc=True).dt.as_unit("us")


def profile_windows(log: pd.DataFrame, reference: Reference, window: str = "1D") -> Profile:
    """Count an inference log's wines per window, model version, column and bin.

    Args:
        log: One row per prediction: `event_time`, `model_version`, the twelve inputs, `prediction`
            and `quality` (NaN while there is no label). Any of the inputs, `prediction` and
            `quality` may be absent, or hold whatever it likes: what is no number is counted as
            such, and the other columns are not affected. Further columns are ignored.
        reference: Says which bins there are.
        window: Length of a window, see `DriftSettings`.

    Raises:
        WineQualityError: If a prediction has no event time or no model version.
    """
    for key in ("event_time", "model_version"):
        if key not in log.columns:
            raise WineQualityError(f"the inference log has no column {key}: read it from the log")
        if nulls := int(log[key].isna().sum()):
            raise WineQualityError(f"{nulls} predictions have no {key}: repair them in the log")
    if log.empty:
        return Profile(_typed([], COUNTS_DTYPES), _typed([], ERRORS_DTYPES))
    keys = pd.DataFrame(
        {
            "window_start": window_starts(log["event_time"], window),
            "model_version": log["model_version"].astype("str"),
        }
    )
    group = keys.groupby(list(WINDOW_KEYS)).ngroup().to_numpy()
    windows = keys.drop_duplicates().sort_values(list(WINDOW_KEYS), ignore_index=True)
    columns = sorted(reference.columns, key=lambda c: c.bins.name)
    cells = pd.concat(
        [_count(log.get(c.bins.name), c.bins, group).assign(column=c.bins.name) for c in columns]
    ).sort_values("window", kind="stable", ignore_index=True)
    counts = pd.concat([windows.iloc[cells["window"]].reset_index(drop=True), cells], axis=1)
    return Profile(
        counts[list(COUNTS_DTYPES)].astype(COUNTS_DTYPES), _sum_errors(log, group, windows)
    )


def _count(values: pd.Series | None, bins: ColumnBins, group: np.ndarray) -> pd.DataFrame:
    """Count one column by window and bin; `group` is each row's window, from 0 upwards."""
    if values is None:
        codes, numbers = np.full(len(group), Fault.ABSENT.value), np.full(len(group), np.nan)
    elif bins.is_category:
        codes, numbers = _category_codes(values, bins), np.full(len(group), np.nan)
    else:
        codes, numbers = _number_codes(values, bins)
    lowest = min(Fault)
    width = bins.size - lowest
    cell = group * width + (codes - lowest)
    n = np.bincount(cell)
    smallest, largest = np.full(n.shape, np.inf), np.full(n.shape, -np.inf)
    finite = np.isfinite(numbers)
    np.minimum.at(smallest, cell[finite], numbers[finite])
    np.maximum.at(largest, cell[finite], numbers[finite])
    filled = np.flatnonzero(n)
    return pd.DataFrame(
        {
            "window": filled // width,
            "bin": filled % width + lowest,
            "n": n[filled],
            "minimum": _nan_unless_finite(smallest[filled]),
            "maximum": _nan_unless_finite(largest[filled]),
        }
    )


def _category_codes(values: pd.Series, bins: ColumnBins) -> np.ndarray:
    codes = np.full(len(values), Fault.UNKNOWN.value)
    plain = values.astype(object)
    codes[plain.isna().to_numpy(bool)] = Fault.MISSING
    for k, category in enumerate(bins.categories):
        codes[(plain == category).to_numpy(bool)] = k
    return codes


def _number_codes(values: pd.Series, bins: ColumnBins) -> tuple[np.ndarray, np.ndarray]:
    """Each value's bin, and the value as a number (NaN where it is none)."""
    numbers = to_numbers(values)
    codes = np.searchsorted(np.array(bins.edges), numbers, side="left").astype(np.int64)
    if bins.plausible is not None:
        codes[numbers < bins.plausible[0]] = Fault.TOO_LOW
        codes[numbers > bins.plausible[1]] = Fault.TOO_HIGH
    codes[~np.isfinite(numbers)] = Fault.INVALID
    codes[values.isna().to_numpy(bool)] = Fault.MISSING
    return codes, numbers


def to_numbers(values: pd.Series) -> np.ndarray:
    """Read a column of whatever type as numbers.

    Args:
        values: Column of n values.

    Returns:
        Floats, shape (n,); NaN where there is no number. A text is none, whatever it says.
    """
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_complex_dtype(values):
        return values.to_numpy(float, na_value=np.nan)
    plain = [float(x) if isinstance(x, Real | Decimal) else np.nan for x in values.astype(object)]
    return np.array(plain, dtype=float)


def _sum_errors(log: pd.DataFrame, group: np.ndarray, windows: pd.DataFrame) -> pd.DataFrame:
    if PREDICTION not in log.columns or QUALITY not in log.columns:
        return _typed([], ERRORS_DTYPES)
    error = to_numbers(log[PREDICTION]) - to_numbers(log[QUALITY])
    labelled = np.isfinite(error)
    error, group = error[labelled], group[labelled]
    segments = (*WINE_TYPES, OTHER_TYPE)
    bins = ColumnBins(TYPE, (), WINE_TYPES, None)
    known = _category_codes(log[TYPE], bins) if TYPE in log.columns else np.full(len(log), -1)
    segment = np.where(known < 0, len(WINE_TYPES), known)[labelled]
    cell = group * len(segments) + segment
    cells = len(windows) * len(segments)
    size = np.abs(error)
    terms = {
        "labelled": np.ones_like(error),
        "error": error,
        "absolute_error": size,
        "squared_error": error**2,
        "fourth_power": error**4,
        "within_half": size <= 0.5,
        "within_one": size <= 1.0,
    }
    sums = {name: np.bincount(cell, term, cells) for name, term in terms.items()}
    filled = np.flatnonzero(sums["labelled"])
    return (
        windows.iloc[filled // len(segments)]
        .assign(
            segment=np.array(segments)[filled % len(segments)],
            **{name: column[filled] for name, column in sums.items()},
        )
        .astype(ERRORS_DTYPES)
        .reset_index(drop=True)
    )


def _edges(values: pd.Series) -> tuple[float, ...]:
    """Upper bounds of the quantile bins: values that occur, so that every engine bins alike."""
    numbers = to_numbers(values)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return ()
    levels = np.arange(1, BINS) / BINS
    edges = np.unique(np.quantile(numbers, levels, method="inverted_cdf"))
    if edges[0] == numbers.min():
        # the lowest bin would hold its one value and all below it: tell them apart
        edges = np.insert(edges, 0, edges[0] - 1e-9 * max(1.0, abs(edges[0])))
    return tuple(edges.tolist())


def _describe_column(values: pd.Series, bins: ColumnBins) -> ColumnReference:
    rows = _count(values, bins, np.zeros(len(values), dtype=np.int64))
    n = dict(zip(rows["bin"].tolist(), rows["n"].tolist(), strict=True))
    return ColumnReference(
        bins=bins,
        counts=judged_counts(n, bins),
        faults=tuple(n.get(fault.value, 0) for fault in Fault),
        minimum=None if rows["minimum"].isna().all() else float(rows["minimum"].min()),
        maximum=None if rows["maximum"].isna().all() else float(rows["maximum"].max()),
    )


def judged_counts(n: Mapping[int, int], bins: ColumnBins) -> tuple[int, ...]:
    """Wines in each of a column's bins, implausible numbers put into the first and the last.

    Args:
        n: Wines by bin, faults included.
        bins: The column.
    """
    counts = [n.get(k, 0) for k in range(bins.size)]
    counts[0] += n.get(Fault.TOO_LOW.value, 0)
    counts[-1] += n.get(Fault.TOO_HIGH.value, 0)
    return tuple(counts)


def _describe_errors(wines: pd.DataFrame) -> list[ErrorReference]:
    one_window = pd.DataFrame(
        {"window_start": pd.to_datetime([0], utc=True), "model_version": [""]}
    )
    sums = _sum_errors(wines, np.zeros(len(wines), dtype=np.int64), one_window)
    error = to_numbers(wines[PREDICTION]) - to_numbers(wines[QUALITY])
    types = wines[TYPE].where(wines[TYPE].isin(WINE_TYPES), OTHER_TYPE).to_numpy()
    described = []
    for row in sums.itertuples():
        own = error[(types == row.segment) & np.isfinite(error)]
        steps, counts = np.unique(np.rint(own / ERROR_STEP).astype(int), return_counts=True)
        described.append(
            ErrorReference(
                str(row.segment),
                tuple(steps.tolist()),
                tuple(counts.tolist()),
                tuple(float(getattr(row, name)) for name in ERROR_SUMS),
            )
        )
    return described


def _column_from_dict(plain: Mapping[str, Any]) -> ColumnReference:
    bins = plain["bins"]
    return ColumnReference(
        bins=ColumnBins(
            bins["name"],
            tuple(bins["edges"]),
            tuple(bins["categories"]),
            None if bins["plausible"] is None else tuple(bins["plausible"]),
        ),
        counts=tuple(plain["counts"]),
        faults=tuple(plain["faults"]),
        minimum=plain["minimum"],
        maximum=plain["maximum"],
    )


def _nan_unless_finite(x: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(x), x, np.nan)


def _typed(rows: list[Any], dtypes: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(dtypes)).astype(dict(dtypes))
