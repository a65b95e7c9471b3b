"""Counts of the inference log over time: all that the verdicts need to know of it.

A profile holds a row for each hour (or window) of event time: wines by segment, column and bin,
sums of errors and of products, and the range of each number. Rows of the same hour add up, so that
a log can be counted in parts, in any order, and hours make windows of any length. `count` is the
only function that reads a log's rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache, partial
from numbers import Real
from typing import Self, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from wine_quality.drift.reference import (
    ABSOLUTE_ERROR,
    BUCKETS,
    COUNTED_SEGMENTS,
    ERROR,
    FAULTS,
    LEAF,
    LOWEST,
    OTHER_TYPE,
    ColumnBins,
    ErrorTree,
    Fault,
    JointSpace,
    Reference,
    joint_columns,
    parts_name,
)
from wine_quality.drift.window_calendar import HOUR_S
from wine_quality.errors import WineQualityError
from wine_quality.wines import (
    INPUTS,
    MEASUREMENT_NAMES,
    PARTS_OF_TOTALS,
    PREDICTION,
    QUALITY,
    QUALITY_STEP,
    TYPE,
    WINE_TYPES,
)

R = TypeVar("R", bound=Reference)
COUNTED_COLUMNS = ("event_time", *INPUTS, PREDICTION, QUALITY)
"""All that a profile needs to know of a row of the log."""
LARGEST_ERROR = 1e70
"""Quality points: larger errors count as this one, so that one absurd prediction does not take its
window down by an infinite sum."""
ROWS_TOGETHER = 16_384
"""Rows counted at a time: what is computed of them stays in a processor's cache."""
HOURS_TOGETHER = 256
"""Hours counted at a time: their dense counts take about 4 MB."""
PARTS_TOGETHER = 64
"""Partial profiles merged at a time."""


@dataclass(frozen=True)
class Profile:
    """The counts of one model version by hour, or by window.

    Attributes:
        starts: Start of each row's hour or window, seconds since 1970 UTC, ascending, shape (h,).
        counts: Wines by segment and cell (see `Reference.cells`), then by hash bucket; sparse,
            shape (h, segments x width + `BUCKETS`).
        sums: Sums as `SumsLayout` places them, shape (h, sums).
        lows: Smallest finite value of each of the reference's columns, NaN where there is none,
            shape (h, columns).
        highs: Largest finite value, likewise.
    """

    starts: NDArray[np.int64]
    counts: sparse.csr_matrix
    sums: NDArray[np.float64]
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]

    @classmethod
    def empty(cls, reference: Reference) -> Self:
        """A profile of no hour."""
        width = len(COUNTED_SEGMENTS) * reference.width + BUCKETS
        nothing = np.empty((0, len(reference.columns)))
        return cls(
            np.empty(0, np.int64),
            sparse.csr_matrix((0, width), dtype=np.int64),
            np.empty((0, reference.sums_layout.size)),
            nothing,
            nothing,
        )

    def __len__(self) -> int:
        """Number of hours or windows."""
        return len(self.starts)

    @property
    def wines(self) -> NDArray[np.int64]:
        """Wines by hour or window, shape (h,)."""
        return np.asarray(self.counts[:, -BUCKETS:].sum(axis=1)).ravel().astype(np.int64)

    def dense(self, reference: Reference) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All counts, dense.

        Returns:
            Wines by segment and cell, shape (h, segments, cells); and by the hash of their inputs,
            shape (h, `BUCKETS`).
        """
        counts = self.counts.toarray().astype(np.int64)
        shape = (len(self), len(COUNTED_SEGMENTS), reference.width)
        return counts[:, :-BUCKETS].reshape(shape), counts[:, -BUCKETS:]

    def by_segment(self, row: int, reference: Reference) -> NDArray[np.int64]:
        """Wines of one hour or window, shape (segments, cells)."""
        return np.asarray(self.rows(row, row + 1).dense(reference)[0][0])

    def rows(self, first: int, last: int) -> "Profile":
        """The hours or windows from `first` up to, without, `last`."""
        return self.take(slice(first, last))

    def take(self, part: slice | NDArray[np.intp]) -> "Profile":
        """Some of the hours or windows, by their places."""
        return Profile(
            self.starts[part],
            self.counts[part],
            self.sums[part],
            self.lows[part],
            self.highs[part],
        )

    def between(self, since: int, until: int) -> "Profile":
        """The hours or windows that start from `since` up to, without, `until` (seconds)."""
        first, last = np.searchsorted(self.starts, [since, until])
        return self.rows(int(first), int(last))

    def regroup(self, starts: NDArray[np.int64]) -> "Profile":
        """Add up rows.

        Args:
            starts: The new start of each row, shape (h,); rows of the same start become one.
        """
        new, row_of = np.unique(starts, return_inverse=True)
        if not len(starts):
            return self
        order = np.argsort(row_of, kind="stable")
        first = np.searchsorted(row_of[order], np.arange(len(new)))
        adds = sparse.csr_matrix(
            (np.ones(len(row_of), np.int64), (row_of, np.arange(len(row_of)))),
            shape=(len(new), len(row_of)),
        )
        return Profile(
            new,
            (adds @ self.counts).tocsr(),
            np.add.reduceat(self.sums[order], first),
            np.fmin.reduceat(self.lows[order], first),
            np.fmax.reduceat(self.highs[order], first),
        )

    def merge(self, *others: "Profile") -> "Profile":
        """Add the counts of further wines, in the same hours or in others.

        All must have been counted with the same reference.
        """
        parts = [self, *others]
        if len(parts) == 1:
            return self
        stacked = Profile(
            np.concatenate([part.starts for part in parts]),
            sparse.vstack([part.counts for part in parts], format="csr"),
            np.concatenate([part.sums for part in parts]),
            np.concatenate([part.lows for part in parts]),
            np.concatenate([part.highs for part in parts]),
        )
        return stacked.regroup(stacked.starts)


def count(log: pd.DataFrame, reference: Reference, grain: int = HOUR_S) -> Profile:
    """Count the wines of one model version's log by hour of event time.

    Args:
        log: One row per prediction: `event_time` (without a time zone it is UTC), the twelve
            inputs, `prediction` and `quality` (NaN while there is no label). Any column but the
            first may be absent, or hold whatever it likes: what is no number is counted as such,
            and the other columns are not affected. Further columns are ignored.
        reference: Says which cells there are.
        grain: Seconds of event time that make a row.

    Raises:
        WineQualityError: A prediction has no event time.
    """
    if "event_time" not in log.columns:
        raise WineQualityError("the inference log has no column event_time: read it from the log")
    if nulls := int(log["event_time"].isna().sum()):
        raise WineQualityError(f"{nulls} predictions have no event time: repair them in the log")
    if log.empty:
        return Profile.empty(reference)
    starts = _seconds(log["event_time"]) // grain * grain
    if (np.diff(starts) < 0).any():
        order = np.argsort(starts, kind="stable")
        log, starts = log.iloc[order], starts[order]
    read = _Rows.of(log)
    parts: list[Profile] = []
    for begin in range(0, len(log), ROWS_TOGETHER):
        block = slice(begin, begin + ROWS_TOGETHER)
        parts += _count_block(read.part(block), starts[block], reference)
    return parts[0].merge(*parts[1:])


def _seconds(moments: pd.Series) -> NDArray[np.int64]:
    """Whole seconds since 1970 UTC, rounded down."""
    if moments.dtype.kind != "M":
        moments = pd.to_datetime(moments, utc=True, cache=False)
    micros = moments.to_numpy("datetime64[us]").view(np.int64)
    return np.asarray(micros // 1_000_000, dtype=np.int64)


def _count_block(
    read: "_Rows", starts: NDArray[np.int64], reference: Reference
) -> Iterator[Profile]:
    """Count some rows, in the order of their hours."""
    coded = _code(read, reference.columns, reference.joint, reference.tree)
    hours, first = np.unique(starts, return_index=True)
    bounds = np.append(first, len(starts)).astype(np.int64)
    for begin in range(0, len(hours), HOURS_TOGETHER):
        rows = bounds[begin : begin + HOURS_TOGETHER + 1]
        yield _sum_up(coded, rows, hours[begin : begin + HOURS_TOGETHER], reference)


def count_batches(
    batches: Iterable[pd.DataFrame], reference: Reference, grain: int = HOUR_S
) -> Profile:
    """Count a log that comes in parts, of which none is kept.

    Args:
        batches: Parts of a log, each as `count` takes it, in any order.
        reference: Says which cells there are.
        grain: Seconds of event time that make a row.

    Returns:
        What `count` returns for all of them at once, but for the rounding of sums.

    Raises:
        WineQualityError: As `count`, of the first part that has such a fault.
    """
    # no name keeps a batch while the next one is made
    counted = map(partial(count, reference=reference, grain=grain), batches)
    return merge_profiles(counted, reference)


def merge_profiles(profiles: Iterable[Profile], reference: Reference) -> Profile:
    """Add up any number of profiles, of which few are kept at a time, see `Profile.merge`."""
    profile, parts = Profile.empty(reference), []
    for part in profiles:
        parts.append(part)
        if len(parts) == PARTS_TOGETHER:
            profile, parts = profile.merge(*parts), []
    return profile.merge(*parts)


def describe_wines(
    kind: type[R],
    wines: pd.DataFrame,
    rows: int,
    repetition: float,
    columns: tuple[ColumnBins, ...],
    joint: tuple[JointSpace, ...],
    tree: ErrorTree,
) -> R:
    """Count the wines of a reference in its own cells; see `Reference.from_wines`."""
    blank = kind(rows, repetition, columns, joint, tree, (), (), (), ())
    profile = count(wines.assign(event_time=pd.Timestamp(0, tz="UTC")), blank)
    plain_lows, plain_highs = (
        tuple(None if np.isnan(x) else float(x) for x in bound[0])
        for bound in (profile.lows, profile.highs)
    )
    return kind(
        rows,
        repetition,
        columns,
        joint,
        tree,
        tuple(map(tuple, profile.by_segment(0, blank).tolist())),
        tuple(profile.sums[0].tolist()),
        plain_lows,
        plain_highs,
    )


@dataclass(frozen=True)
class _Rows:
    """Rows of a log as arrays.

    Attributes:
        numbers: Measurements, prediction and quality by name, NaN where there is no number, each
            of shape (n,); without the columns that the log has not.
        unread: By name of a column that is no plain column of floats, what its NaN is (`MISSING`
            or `INVALID`), shape (n,). In the others it is `MISSING`.
        types: Place of the type in `WINE_TYPES`, or its fault, shape (n,).
    """

    numbers: Mapping[str, NDArray[np.float64]]
    unread: Mapping[str, NDArray[np.int64]]
    types: NDArray[np.int64]

    @classmethod
    def of(cls, log: pd.DataFrame) -> Self:
        """Read a log."""
        columns = {
            name: log[name]
            for name in (*MEASUREMENT_NAMES, PREDICTION, QUALITY)
            if name in log.columns
        }
        unread = {
            # a text, say, stands for a number that is wrong
            name: np.where(values.isna().to_numpy(bool), Fault.MISSING, Fault.INVALID)
            for name, values in columns.items()
            if values.dtype != np.float64
        }
        types = np.full(len(log), Fault.ABSENT.value)
        if TYPE in log.columns:
            types = _category_codes(log[TYPE], ColumnBins(TYPE, categories=WINE_TYPES))
        return cls({name: to_numbers(values) for name, values in columns.items()}, unread, types)

    def part(self, rows: slice) -> "_Rows":
        """Some of the rows."""
        return _Rows(
            {name: numbers[rows] for name, numbers in self.numbers.items()},
            {name: faults[rows] for name, faults in self.unread.items()},
            self.types[rows],
        )


@dataclass(frozen=True)
class _Coded:
    """Rows of a log as numbers: where each falls, and what is summed of it.

    Attributes:
        segment: Place in `COUNTED_SEGMENTS`, shape (n,).
        codes: By column, the bin or fault of each row, shape (n,).
        numbers: By column that holds numbers, the numbers; else None.
        bucket: Hash bucket of each row, shape (n,).
        error: Clipped error, NaN without a label, shape (n,).
        leaf: Leaf of each row, shape (n,).
        standardised: By type with a joint space, its rows and their standardised measurements
            (complete and plausible wines alone).
    """

    segment: NDArray[np.int64]
    codes: list[NDArray[np.int64]]
    numbers: list[NDArray[np.float64] | None]
    bucket: NDArray[np.int64]
    error: NDArray[np.float64]
    leaf: NDArray[np.int64]
    standardised: list[tuple[int, NDArray[np.int64], NDArray[np.float64]]]


@np.errstate(over="ignore", invalid="ignore")
def _code(
    read: _Rows,
    columns: Sequence[ColumnBins],
    joint: tuple[JointSpace, ...],
    tree: ErrorTree,
) -> _Coded:
    n = len(read.types)
    raw = read.numbers
    nothing = np.full(n, np.nan)
    x = np.column_stack([raw.get(name, nothing) for name in MEASUREMENT_NAMES])
    segment = np.where(read.types < 0, COUNTED_SEGMENTS.index(OTHER_TYPE), read.types)
    error = raw.get(PREDICTION, nothing) - raw.get(QUALITY, nothing)
    error = np.where(np.isfinite(error), np.clip(error, -LARGEST_ERROR, LARGEST_ERROR), np.nan)
    leaf = tree.assign(segment == 0, x)
    of_type = [segment == COUNTED_SEGMENTS.index(space.segment) for space in joint]
    derived = joint_columns(joint, of_type, x) | {ERROR: error, ABSOLUTE_ERROR: np.abs(error)}
    codes: list[NDArray[np.int64]] = []
    numbers: list[NDArray[np.float64] | None] = []
    impossible = {
        parts_name(part, whole): (raw.get(part, nothing), raw.get(whole, nothing))
        for part, whole in PARTS_OF_TOTALS
    }
    for bins in columns:
        name, found = bins.name, None
        if name == LEAF:
            codes.append(leaf)
        elif name in impossible:
            part, whole = impossible[name]
            unknown = np.isnan(part) | np.isnan(whole)
            codes.append(np.where(unknown, Fault.MISSING.value, (part > whole).astype(np.int64)))
        elif name in derived:
            found = derived[name]
            codes.append(_number_codes(found, bins))
        elif name == TYPE:
            codes.append(read.types)
        elif name not in raw:
            codes.append(np.full(n, Fault.ABSENT.value))
        else:
            found = raw[name]
            of_column = _number_codes(found, bins)
            if name in read.unread:
                of_column = np.where(np.isnan(found), read.unread[name], of_column)
            codes.append(of_column)
        numbers.append(found)
    plausible = np.all(
        [codes[k] >= 0 for k, bins in enumerate(columns) if bins.name in MEASUREMENT_NAMES], axis=0
    )
    standardised = []
    for space, own in zip(joint, of_type, strict=True):
        rows = np.flatnonzero(own & plausible)
        z = (x[rows] - space.mean) / space.spread
        standardised.append((WINE_TYPES.index(space.segment), rows, z))
    return _Coded(segment, codes, numbers, _bucket(segment, x), error, leaf, standardised)


def _sum_up(
    coded: _Coded, bounds: NDArray[np.int64], hours: NDArray[np.int64], reference: Reference
) -> Profile:
    """Count the rows of some hours.

    Args:
        coded: All rows, in the order of their hours.
        bounds: First row of each hour, and the row after the last, shape (hours + 1,).
        hours: Starts, shape (hours,).
        reference: Says which cells there are.
    """
    rows = slice(int(bounds[0]), int(bounds[-1]))
    hour = np.repeat(np.arange(len(hours)), np.diff(bounds))
    group = hour * len(COUNTED_SEGMENTS) + coded.segment[rows]
    groups = len(hours) * len(COUNTED_SEGMENTS)
    counted = []
    for bins, codes in zip(reference.columns, coded.codes, strict=True):
        width = FAULTS + bins.size
        cell = group * width + (codes[rows] - LOWEST)
        counted.append(np.bincount(cell, minlength=groups * width).reshape(groups, width))
    by_bucket = np.bincount(
        hour * BUCKETS + coded.bucket[rows], minlength=len(hours) * BUCKETS
    ).reshape(len(hours), BUCKETS)
    dense = np.hstack([np.hstack(counted).reshape(len(hours), -1), by_bucket])
    lows = np.full((len(hours), len(reference.columns)), np.nan)
    highs = lows.copy()
    first = bounds[:-1] - bounds[0]
    for k, numbers in enumerate(coded.numbers):
        if numbers is not None:
            finite = np.where(np.isfinite(numbers[rows]), numbers[rows], np.nan)
            lows[:, k] = np.fmin.reduceat(finite, first)
            highs[:, k] = np.fmax.reduceat(finite, first)
    sums = _add_up(coded, rows, hour, group, len(hours), reference)
    return Profile(hours, sparse.csr_matrix(dense), sums, lows, highs)


def _add_up(
    coded: _Coded,
    rows: slice,
    hour: NDArray[np.int64],
    group: NDArray[np.int64],
    hours: int,
    reference: Reference,
) -> NDArray[np.float64]:
    layout = reference.sums_layout
    sums = np.zeros((hours, layout.size))
    error = coded.error[rows]
    labelled = np.flatnonzero(np.isfinite(error))
    if len(labelled):
        e = error[labelled]
        size = np.abs(e)
        terms = {
            "labelled": np.ones_like(e),
            "error": e,
            "absolute_error": size,
            "squared_error": e * e,
            "within_half": size <= 0.5 * QUALITY_STEP,
            "within_one": size <= QUALITY_STEP,
        }
        groups = hours * len(COUNTED_SEGMENTS)
        sums[:, layout.errors] = np.stack(
            [np.bincount(group[labelled], terms[name], groups) for name in layout.ERRORS], axis=-1
        ).reshape(hours, -1)
        cell = hour[labelled] * layout.leaves + coded.leaf[rows][labelled]
        cells = hours * layout.leaves
        sums[:, layout.by_leaf] = np.stack(
            [np.bincount(cell, terms[name], cells) for name in layout.BY_LEAF], axis=-1
        ).reshape(hours, -1)
        place = reference.columns.index(reference.bins(PREDICTION))
        width = FAULTS + layout.predictions
        cell = group[labelled] * width + (coded.codes[place][rows][labelled] - LOWEST)
        by_prediction = np.bincount(cell, minlength=groups * width).reshape(groups, width)
        sums[:, layout.by_prediction] = judged_counts(by_prediction).reshape(hours, -1)
    moments = sums[:, layout.moments].reshape(hours, len(WINE_TYPES), layout.MOMENTS)
    upper = np.triu_indices(len(MEASUREMENT_NAMES))
    for place, at, z in coded.standardised:
        begin, end = np.searchsorted(at, [rows.start, rows.stop])
        if begin == end:
            continue
        own, own_hour = z[begin:end], hour[at[begin:end] - rows.start]
        present, first = np.unique(own_hour, return_index=True)
        for h, part in zip(present, np.split(own, first[1:]), strict=True):
            products = (part.T @ part)[upper]
            moments[h, place] = np.concatenate([[len(part)], part.sum(axis=0), products])
    sums[:, layout.moments] = moments.reshape(hours, -1)
    return sums


def _bucket(segment: NDArray[np.int64], x: NDArray[np.float64]) -> NDArray[np.int64]:
    """Hash each wine's inputs; equal wines share a bucket on every machine.

    A multilinear hash of the numbers' bits, whose upper bits are universal (D. Lemire, O. Kaser,
    "Strongly universal string hashing is fast", The Computer Journal 57(11), 2014).
    """
    mixed = segment.astype(np.uint64) * _HASH_FACTORS[-1]
    for column, factor in zip(x.T, _HASH_FACTORS, strict=False):
        # one zero, one NaN
        numbers = column + 0.0
        unread = np.isnan(numbers)
        if unread.any():
            numbers[unread] = np.nan
        bits = numbers.view(np.uint64)
        # the lower half of a number with few digits is empty
        bits ^= bits >> np.uint64(32)
        bits *= factor
        mixed += bits
    mixed ^= mixed >> np.uint64(32)
    mixed *= _HASH_FACTORS[0]
    return np.asarray(mixed >> _HASH_SHIFT, dtype=np.int64)


_HASH_FACTORS = np.random.default_rng(2009).integers(
    1 << 62, 1 << 63, len(MEASUREMENT_NAMES) + 1, dtype=np.uint64
) | np.uint64(1)
"""Odd; they must stay the same, or stored counts and new ones do not go together."""
_HASH_SHIFT = np.uint64(64 - BUCKETS.bit_length() + 1)


def _category_codes(values: pd.Series, bins: ColumnBins) -> NDArray[np.int64]:
    if isinstance(values.dtype, pd.StringDtype):
        number_of, texts = pd.factorize(values)
        known = {category: k for k, category in enumerate(bins.categories)}
        codes_of = [known.get(text, Fault.UNKNOWN) for text in texts]
        # a missing value is number -1, the last
        return np.array([*codes_of, Fault.MISSING], dtype=np.int64)[number_of]
    codes = np.full(len(values), Fault.UNKNOWN.value)
    plain = values.astype(object)
    codes[plain.isna().to_numpy(bool)] = Fault.MISSING
    for k, category in enumerate(bins.categories):
        codes[(plain == category).to_numpy(bool)] = k
    return codes


def _number_codes(numbers: NDArray[np.float64], bins: ColumnBins) -> NDArray[np.int64]:
    """Each value's bin; NaN is missing, shape (n,).

    It follows from how many bounds the value exceeds. Comparing every value with each of
    twenty-odd bounds takes a sixth of the time of a bisection, whose branches no processor can
    foresee.
    """
    bounds, bin_above = _bounds(bins)
    exceeded = np.zeros(len(numbers), np.uint8)
    exceeds = np.empty(len(numbers), bool)
    for bound in bounds:
        np.greater(numbers, bound, out=exceeds)
        # a byte each; to convert them first takes as long as to compare
        exceeded += exceeds.view(np.uint8)
    codes = bin_above[exceeded]
    if not exceeded.all():
        codes[np.isnan(numbers)] = Fault.MISSING
    return codes


@lru_cache(maxsize=1024)
@np.errstate(over="ignore")
def _bounds(bins: ColumnBins) -> tuple[tuple[float, ...], NDArray[np.int64]]:
    """Bounds that divide a column's numbers, and the bins of those that exceed 0, 1, … of them."""
    low, high = bins.plausible or (-np.inf, np.inf)
    largest = np.finfo(float).max
    bounds = np.sort([-np.inf, *bins.edges, np.nextafter(low, -np.inf), high, largest])
    # the bins of the smallest numbers that exceed each bound
    above = np.nextafter(bounds, np.inf)
    bin_above = np.searchsorted(np.array(bins.edges), above, side="left")
    bin_above[above < low] = Fault.TOO_LOW
    bin_above[above > high] = Fault.TOO_HIGH
    bin_above[np.isinf(above)] = Fault.INVALID
    return tuple(bounds.tolist()), np.insert(bin_above, 0, Fault.INVALID).astype(np.int64)


def to_numbers(values: pd.Series) -> NDArray[np.float64]:
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
    return np.array([_to_number(x) for x in values.astype(object)], dtype=float)


def _to_number(value: object) -> float:
    if not isinstance(value, Real | Decimal):
        return np.nan
    try:
        return float(value)
    except OverflowError:
        # a whole number of more than 308 digits: no number that can be counted with
        return np.nan


def judged_counts(block: NDArray[np.int64]) -> NDArray[np.int64]:
    """Wines in each of a column's bins, implausible numbers put into the first and the last.

    Args:
        block: A column's cells, faults first, shape (…, faults + bins).

    Returns:
        Shape (…, bins).
    """
    bins = block[..., FAULTS:].copy()
    bins[..., 0] += block[..., Fault.TOO_LOW - LOWEST]
    bins[..., -1] += block[..., Fault.TOO_HIGH - LOWEST]
    return bins


def fault_counts(block: NDArray[np.int64]) -> Mapping[Fault, int]:
    """Wines by fault.

    Args:
        block: A column's cells, faults first, shape (faults + bins,).
    """
    return {fault: int(block[fault - LOWEST]) for fault in Fault}


def window_profile(wines: pd.DataFrame, reference: Reference) -> Profile:
    """Count wines as one window, whatever their event times.

    Args:
        wines: As `count` takes them, but for `event_time`.
        reference: Says which cells there are.
    """
    return count(wines.assign(event_time=pd.Timestamp(0, tz="UTC")), reference)
