"""Counts of the inference log, window by window: all that the verdicts need to know of it.

A profile is two tables of counts and sums. Profiles of two parts of a log add up to the profile of
the whole, and `profile_windows` is the only function that counts a log's rows, whichever engine
hands them over.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from enum import IntEnum
from functools import lru_cache, partial
from numbers import Real
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa

from wine_quality.drift.settings import window_length
from wine_quality.errors import WineQualityError
from wine_quality.wines import (
    INPUTS,
    MEASUREMENTS,
    PREDICTION,
    QUALITY,
    QUALITY_BOUNDS,
    QUALITY_STEP,
    TYPE,
    WINE_TYPES,
    wine_groups,
)

BINS = 20
"""Quantile bins of a number; ties make them fewer."""
ERROR_STEP = 0.1 * QUALITY_STEP
"""Quality points: the reference's errors are kept rounded to multiples of it, for resampling."""
LARGEST_ERROR = 1e70
"""Quality points: larger errors count as this one, whose fourth power any number of can be added up
(PostgreSQL refuses to overflow): one absurd prediction must not take its window down."""
OTHER_TYPE = "other"
"""Segment of the labelled wines whose type is none of the known ones."""
SEGMENTS = tuple(sorted((*WINE_TYPES, OTHER_TYPE)))
BLOCK = 32_768
"""Numbers compared with the bounds at a time: 256 KiB, which a processor's second cache holds."""
FEWEST_SORTED = 256
"""Rows in a group, on average, from which on sorting is faster than comparing."""
MERGED_TOGETHER = 100_000
"""Rows of profiles that are merged at a time."""


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


_LOWEST = min(Fault)


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
COUNTED_COLUMNS = ("event_time", "model_version", *INPUTS, PREDICTION, QUALITY)
"""All that a profile needs to know of a row of the log."""
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

    def of_version(self, version: str) -> "Profile":
        """The counts of one model version alone."""
        return Profile(
            self.counts[self.counts["model_version"] == version],
            self.errors[self.errors["model_version"] == version],
        )

    def merge(self, *others: "Profile") -> "Profile":
        """Add the counts of further wines, in the same windows or in others.

        All profiles must come from the same reference and window length.
        """
        if not others:
            return self
        profiles = (self, *others)
        counts = pd.concat([profile.counts for profile in profiles]).groupby(
            [*WINDOW_KEYS, "column", "bin"], as_index=False
        )
        errors = pd.concat([profile.errors for profile in profiles]).groupby(
            [*WINDOW_KEYS, "segment"], as_index=False
        )
        added = counts.agg({"n": "sum", "minimum": "min", "maximum": "max"})
        return Profile(
            _typed(dict(added.items()), COUNTS_DTYPES),
            _typed(dict(errors.sum().items()), ERRORS_DTYPES),
        )


def window_starts(event_time: pd.Series, window: str) -> pd.Series:
    """Find the window of each moment.

    Args:
        event_time: Moments, shape (n,); those without a time zone are taken for UTC.
        window: Length of a window, see `DriftSettings`.

    Returns:
        Start of each moment's window, UTC, a whole number of windows after 1970-01-01.
    """
    if event_time.dtype.kind != "M":
        event_time = pd.to_datetime(event_time, utc=True, cache=False)
    step = window_length(window) // pd.Timedelta(microseconds=1)
    starts = _micros(event_time) // step * step
    return pd.Series(starts.view("datetime64[us]")).dt.tz_localize("UTC")


def _micros(moments: pd.Series) -> np.ndarray:
    return moments.to_numpy("datetime64[us]").view(np.int64)


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
            name = key.replace("_", " ")
            raise WineQualityError(f"{nulls} predictions have no {name}: repair them in the log")
    if log.empty:
        return Profile(_typed({}, COUNTS_DTYPES), _typed({}, ERRORS_DTYPES))
    starts, start_of = _unique_runs(_micros(window_starts(log["event_time"], window)))
    version_of, versions = _factorize(log["model_version"].astype("str"))
    windows = pd.DataFrame(
        {
            "window_start": pd.to_datetime(starts, unit="us", utc=True).repeat(len(versions)),
            "model_version": np.tile(versions, len(starts)),
        }
    )
    group = start_of * len(versions) + version_of
    return Profile(_count_columns(log, reference, group, windows), _sum_errors(log, group, windows))


def _unique_runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the different values, ascending, and each row's; fast where alike ones lie together."""
    first = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
    unique, run_of = np.unique(values[first], return_inverse=True)
    return unique, np.repeat(run_of, np.diff(first, append=len(values)))


def _factorize(texts: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Number different texts in their order; a missing one is number -1.

    What `pd.factorize` does, in a fraction of the time.
    """
    whole = pa.array(texts)
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.combine_chunks()
    encoded = whole.dictionary_encode()
    found = encoded.dictionary.to_numpy(zero_copy_only=False)
    order = np.argsort(found)
    number = np.append(np.argsort(order), -1)
    return number[encoded.indices.fill_null(-1).to_numpy()], found[order]


def profile_batches(
    batches: Iterable[pd.DataFrame], reference: Reference, window: str = "1D"
) -> Profile:
    """Count a log that comes in parts, of which none is kept.

    Args:
        batches: Parts of a log, each as `profile_windows` takes it, in whatever order.
        reference: Says which bins there are.
        window: Length of a window, see `DriftSettings`.

    Returns:
        What `profile_windows` returns for all of them at once, but for the rounding of sums.

    Raises:
        WineQualityError: As `profile_windows`, of the first part that has such a fault.
    """
    # no name keeps a batch while the next one is made
    return merge_profiles(
        map(partial(profile_windows, reference=reference, window=window), batches)
    )


def merge_profiles(profiles: Iterable[Profile]) -> Profile:
    """Add up any number of profiles, of which few are kept at a time, see `Profile.merge`."""
    parts: list[Profile] = []
    fresh = 0
    for part in profiles:
        parts.append(part)
        fresh += len(part.counts)
        if fresh > max(MERGED_TOGETHER, len(parts[0].counts)):
            parts, fresh = [parts[0].merge(*parts[1:])], 0
    first, *others = parts or [Profile(_typed({}, COUNTS_DTYPES), _typed({}, ERRORS_DTYPES))]
    return first.merge(*others)


class _Groups:
    """Rows by group, for columns of numbers to be counted in."""

    def __init__(self, of: np.ndarray, size: int) -> None:
        """Take each row's group, a number from 0 to `size` - 1, shape (n,)."""
        self.of = of
        self.size = size
        self.sorts = len(of) >= FEWEST_SORTED * size
        if self.sorts:
            ends = np.cumsum(np.bincount(of, minlength=size))
            self._slices = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
            # few groups fit into 16 bits, by which NumPy sorts without a comparison
            self._order = np.argsort(of.astype(np.min_scalar_type(size)), kind="stable")

    def sorted_parts(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """Each group's numbers, ascending, NaN last."""
        by_group = numbers if self.size == 1 else numbers[self._order]
        return (np.sort(by_group[part]) for part in self._slices)


def _count_columns(
    log: pd.DataFrame, reference: Reference, group: np.ndarray, windows: pd.DataFrame
) -> pd.DataFrame:
    columns = sorted((column.bins for column in reference.columns), key=lambda bins: bins.name)
    groups = _Groups(group, len(windows))
    parts = [_count(log.get(bins.name), bins, groups) for bins in columns]
    window = np.concatenate([part.pop("window") for part in parts])
    order = np.argsort(window, kind="stable")
    names = np.repeat([bins.name for bins in columns], [len(part["bin"]) for part in parts])
    cells = {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}
    keys = {key: windows[key].array[window[order]] for key in WINDOW_KEYS}
    return _typed({**keys, "column": names[order], **cells}, COUNTS_DTYPES)


def _count(values: pd.Series | None, bins: ColumnBins, groups: _Groups) -> dict[str, np.ndarray]:
    """Count one column by group and bin."""
    shape = (groups.size, bins.size - _LOWEST)
    smallest, largest = np.full(shape, np.inf), np.full(shape, -np.inf)
    if values is None:
        n = np.zeros(shape, np.int64)
        n[:, Fault.ABSENT - _LOWEST] = np.bincount(groups.of, minlength=groups.size)
    elif bins.is_category:
        cell = groups.of * shape[1] + (_category_codes(values, bins) - _LOWEST)
        n = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    else:
        numbers = to_numbers(values)
        tally = _tally_sorted if groups.sorts else _tally
        intervals = _intervals(bins)
        wines, lowest, highest = tally(numbers, intervals.bounds, groups)
        # several intervals make up one bin: those of the numbers that are too low, say
        first, column = intervals.first, intervals.bins - _LOWEST
        n = np.zeros(shape, np.int64)
        n[:, column] = np.add.reduceat(wines, first, axis=1)
        n[:, Fault.INVALID - _LOWEST] += wines[:, 0]
        smallest[:, column] = np.minimum.reduceat(lowest, first, axis=1)
        largest[:, column] = np.maximum.reduceat(highest, first, axis=1)
        if values.dtype != np.float64 and wines[:, -1].any():
            # NaN is missing, unless it stands for a text or the like
            missing = values.isna().to_numpy(bool)
            missing_in = np.bincount(groups.of[missing], minlength=groups.size)
            n[:, Fault.INVALID - _LOWEST] += wines[:, -1] - missing_in
            n[:, Fault.MISSING - _LOWEST] = missing_in
    window, column = np.nonzero(n)
    return {
        "window": window,
        "bin": column + _LOWEST,
        "n": n[window, column],
        "minimum": _nan_unless_finite(smallest[window, column]),
        "maximum": _nan_unless_finite(largest[window, column]),
    }


def _category_codes(values: pd.Series, bins: ColumnBins) -> np.ndarray:
    known = {category: k for k, category in enumerate(bins.categories)}
    if isinstance(values.dtype, pd.StringDtype):
        number_of, texts = _factorize(values)
        codes_of = [known.get(text, Fault.UNKNOWN) for text in texts]
        # a missing value is number -1, the last
        codes: np.ndarray = np.array([*codes_of, Fault.MISSING])[number_of]
        return codes
    codes = np.full(len(values), Fault.UNKNOWN.value)
    plain = values.astype(object)
    codes[plain.isna().to_numpy(bool)] = Fault.MISSING
    for category, k in known.items():
        codes[(plain == category).to_numpy(bool)] = k
    return codes


class _Intervals(NamedTuple):
    """Intervals of the numbers, of which each lies in one bin; the first is -inf alone.

    Attributes:
        bounds: Their upper bounds, which belong to them, ascending, shape (k,); after these come
            infinity and NaN.
        first: The first interval of each bin but that of -inf, ascending, shape (m,).
        bins: These bins, shape (m,); none occurs twice.
    """

    bounds: np.ndarray
    first: np.ndarray
    bins: np.ndarray


@lru_cache(maxsize=256)
@np.errstate(over="ignore")
def _intervals(bins: ColumnBins) -> _Intervals:
    low, high = bins.plausible or (-np.inf, np.inf)
    largest = np.finfo(float).max
    bounds = np.unique([-np.inf, *bins.edges, np.nextafter(low, -np.inf), high, largest])
    bounds = bounds[bounds <= largest]
    # the smallest numbers that exceed each bound, and their bins
    above = np.nextafter(bounds, np.inf)
    bin_above = np.searchsorted(np.array(bins.edges), above, side="left")
    bin_above[above < low] = Fault.TOO_LOW
    bin_above[above > high] = Fault.TOO_HIGH
    bin_of = np.append(bin_above[:-1], [Fault.INVALID, Fault.MISSING])
    first = np.flatnonzero(np.diff(bin_of, prepend=bin_of[0] + 1))
    return _Intervals(bounds, first + 1, bin_of[first])


Tally = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Numbers, the smallest and the largest, by group and interval, each of shape (groups, k + 2)."""


def _tally_sorted(numbers: np.ndarray, bounds: np.ndarray, groups: _Groups) -> Tally:
    """Tally a few large groups: a sorted one is cut at the bounds.

    A processor sorts several numbers at a time, in a quarter of the time of `_tally`.
    """
    shape = (groups.size, len(bounds) + 2)
    smallest, largest = np.full(shape, np.inf), np.full(shape, -np.inf)
    ends = np.empty(shape, np.int64)
    for g, part in enumerate(groups.sorted_parts(numbers)):
        ends[g, :-2] = np.searchsorted(part, bounds, side="right")
        ends[g, -2:] = np.searchsorted(part, np.inf, side="right"), len(part)
        filled = np.flatnonzero(np.diff(ends[g, :-1], prepend=0))
        last = ends[g, filled]
        largest[g, filled] = part[last - 1]
        smallest[g, filled] = part[np.append(0, last[:-1])[: len(last)]]
    return np.diff(ends, prepend=0), smallest, largest


@np.errstate(invalid="ignore")
def _tally(numbers: np.ndarray, bounds: np.ndarray, groups: _Groups) -> Tally:
    """Tally many small groups: a number's interval is how many bounds it exceeds.

    Comparing every number with each of twenty-odd bounds takes half the time of a bisection, whose
    branches no processor can foresee.
    """
    width = len(bounds) + 2
    exceeded = np.zeros(len(numbers), np.min_scalar_type(width))
    for start in range(0, len(numbers), BLOCK):
        block, count = (whole[start : start + BLOCK] for whole in (numbers, exceeded))
        for bound in bounds:
            count += block > bound
    exceeded[np.isnan(numbers)] = width - 1
    cell = groups.of * width + exceeded
    shape = (groups.size, width)
    smallest, largest = np.full(shape, np.inf), np.full(shape, -np.inf)
    np.minimum.at(smallest.reshape(-1), cell, numbers)
    np.maximum.at(largest.reshape(-1), cell, numbers)
    return np.bincount(cell, minlength=smallest.size).reshape(shape), smallest, largest


def to_numbers(values: pd.Series) -> np.ndarray:
    """Read a column of whatever type as numbers.

    Args:
        values: Column of n values.

    Returns:
        Floats, shape (n,); NaN where there is no number. A text is none, whatever it says.
    """
    if values.dtype == np.float64:
        return values.to_numpy()
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_complex_dtype(values):
        return values.to_numpy(float, na_value=np.nan)
    plain = [float(x) if isinstance(x, Real | Decimal) else np.nan for x in values.astype(object)]
    return np.array(plain, dtype=float)


@np.errstate(over="ignore", invalid="ignore")
def _sum_errors(log: pd.DataFrame, group: np.ndarray, windows: pd.DataFrame) -> pd.DataFrame:
    if PREDICTION not in log.columns or QUALITY not in log.columns:
        return _typed({}, ERRORS_DTYPES)
    error = to_numbers(log[PREDICTION]) - to_numbers(log[QUALITY])
    labelled = np.flatnonzero(np.isfinite(error))
    error = np.clip(error[labelled], -LARGEST_ERROR, LARGEST_ERROR)
    cell = group[labelled] * len(SEGMENTS) + SEGMENTS.index(OTHER_TYPE)
    if TYPE in log.columns:
        known = _category_codes(log[TYPE], ColumnBins(TYPE, (), SEGMENTS, None))[labelled]
        cell += np.where(known < 0, 0, known - SEGMENTS.index(OTHER_TYPE))
    cells = len(windows) * len(SEGMENTS)
    size = np.abs(error)
    square = error * error
    terms = {
        "labelled": None,
        "error": error,
        "absolute_error": size,
        "squared_error": square,
        "fourth_power": square * square,
        "within_half": size <= 0.5 * QUALITY_STEP,
        "within_one": size <= QUALITY_STEP,
    }
    sums = {name: np.bincount(cell, term, cells) for name, term in terms.items()}
    filled = np.flatnonzero(sums["labelled"])
    keys = {key: windows[key].array[filled // len(SEGMENTS)] for key in WINDOW_KEYS}
    segment = np.array(SEGMENTS)[filled % len(SEGMENTS)]
    found = {name: column[filled] for name, column in sums.items()}
    return _typed({**keys, "segment": segment, **found}, ERRORS_DTYPES)


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
    one_group = _Groups(np.zeros(len(values), np.int64), 1)
    rows = pd.DataFrame(_count(values, bins, one_group))
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


def _typed(columns: Mapping[Any, Any], dtypes: Mapping[str, str]) -> pd.DataFrame:
    # four times faster than to convert a frame
    return pd.DataFrame({k: pd.array(columns.get(k, []), dtype) for k, dtype in dtypes.items()})
