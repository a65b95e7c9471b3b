"""What a model version was made from, as counts: the state that windows are compared with.

A reference says which cells there are (columns, bins, segments), how many of its own wines fall
into each, and how to compute the columns that describe several measurements at once. It is
registered with its version, and holds figures alone, no wine.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.errors import WineQualityError
from wine_quality.wines import (
    INPUTS,
    MEASUREMENT_NAMES,
    MEASUREMENTS,
    PARTS_OF_TOTALS,
    PREDICTION,
    QUALITY,
    QUALITY_BOUNDS,
    TYPE,
    WINE_TYPES,
    wine_groups,
)

FORMAT = 2
"""Of a reference as JSON; the first had no format, and no segments."""
BINS = 20
"""Quantile bins of a number; ties make them fewer."""
ALL = "all"
OTHER_TYPE = "other"
"""Segment of the wines whose type is none of the known ones."""
COUNTED_SEGMENTS: tuple[str, ...] = (*WINE_TYPES, OTHER_TYPE)
"""Every wine belongs to one of them; the counts of `all` are their sum."""
SEGMENTS: tuple[str, ...] = (ALL, *WINE_TYPES)
"""What is judged."""
ERROR, ABSOLUTE_ERROR, LEAF = "error", "absolute_error", "leaf"
SMALLEST_COMPONENTS = 4
"""Principal components of a type's standardised measurements that are counted, the smallest ones:
in these directions wines hardly vary, so that a broken relation shows."""
JOINT_DISTANCE = "joint_distance"
JOINT_COLUMNS: tuple[str, ...] = (
    JOINT_DISTANCE,
    *(f"joint_{k + 1}" for k in range(SMALLEST_COMPONENTS)),
)
"""Mahalanobis distance within the wine type, and the smallest principal components."""
JOINT = "joint"
"""Subject under which the joint columns are judged: how the measurements go together."""
JOINT_STEPS = 1e6
"""Joint columns are rounded to one part in so many."""
FARTHEST = 1e6
"""Standard deviations: measurements farther from the mean count as this far in joint columns."""
FEWEST_JOINT = 10 * len(MEASUREMENT_NAMES)
"""Complete wines of a type from which its joint columns can be fitted."""
LEAVES, DEEPEST, FEWEST_IN_LEAF = 16, 4, 25
"""Cells of the tree that tells where errors are large, the most conditions that describe one, and
the fewest reference wines in one."""
ROWS_MULTIPLIED = 2048
"""Rows of a matrix product: of more, OpenBLAS wakes a thread for every core, which then wait for
each other for longer than they work."""
BUCKETS = 256
"""Wines are counted by a hash of their inputs in so many buckets, to estimate how often they repeat
(AMS sketch: N. Alon, Y. Matias, M. Szegedy, "The space complexity of approximating the frequency
moments", JCSS 58(1), 1999)."""


def subject_of(column: str) -> str:
    """Name what a counted column is judged under: `joint` for the joint ones, else itself."""
    return JOINT if column in JOINT_COLUMNS else column


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


FAULTS = len(Fault)
LOWEST = min(Fault).value
_PLAUSIBLE = np.array([m.plausible for m in MEASUREMENTS]).T
"""Lower and upper ends of the measurements, shape (2, 11)."""


@dataclass(frozen=True)
class ColumnBins:
    """How one column's values are divided.

    Attributes:
        name: The column.
        edges: Ascending upper bounds of a number's bins, each belonging to its bin: bin k holds
            edges[k - 1] < x <= edges[k], the last bin everything above. Empty for a category.
        categories: The known categories, bin k holding the k-th. Empty for a number.
        plausible: Closed range of a number; values outside of it are `TOO_LOW` and `TOO_HIGH`.
            None for a category, and for a number that may have any value.
    """

    name: str
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    plausible: tuple[float, float] | None = None

    @property
    def is_category(self) -> bool:
        """Whether the column holds categories, not numbers."""
        return bool(self.categories)

    @property
    def size(self) -> int:
        """The number of bins."""
        return len(self.categories) or len(self.edges) + 1


@dataclass(frozen=True)
class JointSpace:
    """The directions in which one type's standardised measurements vary least.

    Attributes:
        segment: The type.
        mean: Of the eleven measurements.
        spread: Their standard deviations.
        whiten: Rows of 11 weights: each gives one principal component of the standardised
            measurements, scaled to variance 1, the smallest component first.
    """

    segment: str
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    whiten: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ErrorTree:
    """A small regression tree on the absolute error: its leaves are cells of wines alike in it.

    Attributes:
        feature: By node, the place of the input it looks at in (is red, eleven measurements); -1 in
            a leaf.
        threshold: By node; values up to it go left.
        left: By node, the node that follows.
        right: By node, likewise.
        leaf: By node, the leaf's number; -1 in a node that is none.
        filled: By input, the value that stands for a missing one.
    """

    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    leaf: tuple[int, ...]
    filled: tuple[float, ...]

    @property
    def leaves(self) -> int:
        """The number of leaves."""
        return max(self.leaf) + 1

    def assign(self, is_first_type: NDArray[np.bool_], x: NDArray[np.float64]) -> NDArray[np.int64]:
        """Find each wine's leaf.

        Args:
            is_first_type: Whether a wine is of the first of `WINE_TYPES`, shape (n,).
            x: Measurements, shape (n, 11), NaN where missing.

        Returns:
            Leaves, shape (n,).
        """
        columns = [is_first_type, *x.T]
        inputs = {
            k: np.where(np.isfinite(columns[k]), columns[k], self.filled[k])
            for k in {feature for feature in self.feature if feature >= 0}
        }

        def descend(node: int) -> NDArray[np.int64] | np.uint8:
            feature = self.feature[node]
            if feature < 0:
                return np.uint8(self.leaf[node])
            goes_left = inputs[feature] <= self.threshold[node]
            left, right = descend(self.left[node]), descend(self.right[node])
            return np.where(goes_left, left, right)

        return np.broadcast_to(descend(0), len(x)).astype(np.int64)

    def describe(self, leaf: int) -> str:
        """Say which wines a leaf holds: "white wines, alcohol above 12, pH up to 3.2"."""
        node = self.leaf.index(leaf)
        low: dict[int, float] = {}
        high: dict[int, float] = {}
        while node:
            parent = next(k for k in range(len(self.leaf)) if node in (self.left[k], self.right[k]))
            bounds, feature = (low, high)[node == self.left[parent]], self.feature[parent]
            # from the leaf upwards: the first bound found is the tightest
            bounds.setdefault(feature, self.threshold[parent])
            node = parent
        words = "all wines"
        if 0 in low or 0 in high:
            words = f"{WINE_TYPES[0] if 0 in low else ' or '.join(WINE_TYPES[1:])} wines"
        for feature in sorted({*low, *high} - {0}):
            name = MEASUREMENT_NAMES[feature - 1].replace("_", " ")
            above, below = low.get(feature), high.get(feature)
            if above is not None and below is not None:
                words += f", {name} {above:.4g} to {below:.4g}"
            else:
                words += (
                    f", {name} above {above:.4g}" if above is not None
                    else f", {name} up to {below:.4g}"
                )  # fmt: skip
        return words


@dataclass(frozen=True)
class Reference:
    """What the wines that a version was made from looked like.

    Two references are equal if their figures are.

    Attributes:
        rows: Number of wines.
        repetition: How many wines share a wine's inputs, itself included, on average over the
            wines: 1 where all differ. Wines that are counted several times tell less than as many
            different ones; the calibration takes that into account.
        columns: How each column is divided: the twelve inputs, the prediction, the joint columns,
            error and absolute error of labelled wines, the leaf, and for each of `PARTS_OF_TOTALS`
            whether it is possible.
        joint: Of each type with enough wines.
        tree: Where errors are large.
        counts: Wines by segment (`COUNTED_SEGMENTS`) and cell, as `cells` places them.
        sums: Sums of errors, of leaves, of products and of predictions, as `sums_layout` places
            them; those of earlier editions end before the predictions.
        lows: Smallest finite number of each of `columns`, NaN for a category.
        highs: Largest finite number, likewise.
    """

    rows: int
    repetition: float
    columns: tuple[ColumnBins, ...]
    joint: tuple[JointSpace, ...]
    tree: ErrorTree
    counts: tuple[tuple[int, ...], ...]
    sums: tuple[float, ...]
    lows: tuple[float | None, ...]
    highs: tuple[float | None, ...]

    def __hash__(self) -> int:
        """Hash by content, so that what was computed for a reference is found again."""
        return hash(self.fingerprint)

    def __eq__(self, other: object) -> bool:
        """Whether the other has the same figures."""
        return isinstance(other, Reference) and self.fingerprint == other.fingerprint

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that identify what a profile depends on."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def cells(self) -> dict[str, slice]:
        """Where each column's cells stand: six for the faults (see `Fault`), then its bins."""
        places, start = {}, 0
        for bins in self.columns:
            places[bins.name] = slice(start, start + FAULTS + bins.size)
            start += FAULTS + bins.size
        return places

    @property
    def width(self) -> int:
        """Cells of one segment."""
        return sum(FAULTS + bins.size for bins in self.columns)

    @cached_property
    def sums_layout(self) -> "SumsLayout":
        """Where each sum stands."""
        return SumsLayout(self.tree.leaves, self.bins(PREDICTION).size)

    @cached_property
    def by_segment(self) -> NDArray[np.int64]:
        """`counts` as an array, shape (segments, cells)."""
        return np.array(self.counts, dtype=np.int64)

    def bins(self, name: str) -> ColumnBins:
        """How a column is divided.

        Raises:
            KeyError: There is no such column.
        """
        for bins in self.columns:
            if bins.name == name:
                return bins
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """The reference as JSON knows it; `from_dict` reads it back."""
        from dataclasses import asdict

        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Read back what `to_dict` wrote.

        Raises:
            WineQualityError: If it is something else.
        """
        if plain.get("format") != FORMAT:
            raise WineQualityError(
                f"the stored reference has the format {plain.get('format')}, this project reads "
                f"{FORMAT}: register the champion again"
            )
        try:
            return cls(
                rows=int(plain["rows"]),
                repetition=float(plain["repetition"]),
                columns=tuple(
                    ColumnBins(
                        b["name"],
                        tuple(b["edges"]),
                        tuple(b["categories"]),
                        None if b["plausible"] is None else tuple(b["plausible"]),
                    )
                    for b in plain["columns"]
                ),
                joint=tuple(
                    JointSpace(
                        j["segment"],
                        tuple(j["mean"]),
                        tuple(j["spread"]),
                        tuple(map(tuple, j["whiten"])),
                    )
                    for j in plain["joint"]
                ),
                tree=ErrorTree(**{k: tuple(v) for k, v in plain["tree"].items()}),
                counts=tuple(map(tuple, plain["counts"])),
                sums=tuple(plain["sums"]),
                lows=tuple(plain["lows"]),
                highs=tuple(plain["highs"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WineQualityError(
                f"the stored reference cannot be read ({error!r}): register the champion again"
            ) from error

    @classmethod
    def from_wines(cls, wines: pd.DataFrame) -> Self:
        """Describe the wines that a version was made from.

        Args:
            wines: Frame with the twelve inputs, `quality` and `prediction`, n rows. Predictions of
                wines that the version was fitted on have to be out-of-fold, or errors look smaller
                than they are.

        Raises:
            WineQualityError: If a column is missing or there are no wines.
        """
        from wine_quality.drift.profiles import describe_wines

        absent = [c for c in (*INPUTS, PREDICTION, QUALITY) if c not in wines.columns]
        if absent:
            raise WineQualityError(
                f"the reference lacks {', '.join(absent)}: give the wines with inputs, quality and "
                "prediction"
            )
        if wines.empty:
            raise WineQualityError("the reference holds no wines: split the data again")
        numbers = {name: _finite(wines[name]) for name in (*MEASUREMENT_NAMES, PREDICTION, QUALITY)}
        x = np.column_stack([numbers[name] for name in MEASUREMENT_NAMES])
        error = numbers[PREDICTION] - numbers[QUALITY]
        joint = tuple(
            space
            for kind in WINE_TYPES
            if (space := _fit_joint(kind, x[(wines[TYPE] == kind).to_numpy(bool)])) is not None
        )
        tree = _fit_tree((wines[TYPE] == WINE_TYPES[0]).to_numpy(bool), x, np.abs(error))
        kinds = [(wines[TYPE] == space.segment).to_numpy(bool) for space in joint]
        joint_values = joint_columns(joint, kinds, x)
        columns = (
            ColumnBins(TYPE, categories=WINE_TYPES),
            *(
                ColumnBins(m.name, _edges(numbers[m.name]), plausible=m.plausible)
                for m in MEASUREMENTS
            ),
            ColumnBins(PREDICTION, _edges(numbers[PREDICTION]), plausible=QUALITY_BOUNDS),
            *(ColumnBins(name, _edges(joint_values[name])) for name in JOINT_COLUMNS),
            ColumnBins(ERROR, _edges(error)),
            ColumnBins(ABSOLUTE_ERROR, _edges(np.abs(error))),
            ColumnBins(LEAF, categories=tuple(str(k) for k in range(tree.leaves))),
            *(
                ColumnBins(parts_name(part, whole), categories=("possible", "impossible"))
                for part, whole in PARTS_OF_TOTALS
            ),
        )
        sharing = wine_groups(wines).value_counts()
        repetition = float((sharing**2).sum() / sharing.sum())
        return describe_wines(cls, wines, len(wines), repetition, columns, joint, tree)


@dataclass(frozen=True)
class SumsLayout:
    """Where each sum of a profile stands in its row.

    Attributes:
        leaves: Leaves of the tree.
        predictions: Bins of the prediction.
    """

    leaves: int
    predictions: int

    ERRORS = ("labelled", "error", "absolute_error", "squared_error", "within_half", "within_one")
    """By segment: labelled wines, sums of e, |e| and e², and how many err by at most 0.5 and 1."""
    BY_LEAF = ("labelled", "error", "absolute_error")
    MOMENTS = 1 + len(MEASUREMENT_NAMES) * (len(MEASUREMENT_NAMES) + 3) // 2
    """By type: complete wines, and the sums and sums of products of standardised measurements."""

    @property
    def errors(self) -> slice:
        """Of shape (`COUNTED_SEGMENTS`, `ERRORS`)."""
        return slice(0, len(COUNTED_SEGMENTS) * len(self.ERRORS))

    @property
    def by_leaf(self) -> slice:
        """Of shape (leaves, `BY_LEAF`)."""
        start = self.errors.stop
        return slice(start, start + self.leaves * len(self.BY_LEAF))

    @property
    def moments(self) -> slice:
        """Of shape (`WINE_TYPES`, `MOMENTS`)."""
        start = self.by_leaf.stop
        return slice(start, start + len(WINE_TYPES) * self.MOMENTS)

    @property
    def by_prediction(self) -> slice:
        """Labelled wines, of shape (`COUNTED_SEGMENTS`, predictions)."""
        start = self.moments.stop
        return slice(start, start + len(COUNTED_SEGMENTS) * self.predictions)

    @property
    def size(self) -> int:
        """Number of sums."""
        return int(self.by_prediction.stop)


def parts_name(part: str, whole: str) -> str:
    """The column that says whether a part is no more than its whole."""
    return f"{part}_of_{whole}"


def joint_columns(
    joint: tuple[JointSpace, ...], of_type: list[NDArray[np.bool_]], x: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Compute the joint columns.

    Args:
        joint: A space for each type that has one.
        of_type: For each of them, which wines are of its type, shape (n,).
        x: Measurements, shape (n, 11), NaN where missing.

    Returns:
        Values by `JOINT_COLUMNS`, shape (n,); NaN where a measurement is missing, or the type has
        no space.
    """
    values = np.full((len(JOINT_COLUMNS), len(x)), np.nan)
    for space, own in zip(joint, of_type, strict=True):
        z = x[own]
        # an infinite measurement is none
        unread = ~np.isfinite(z)
        with np.errstate(over="ignore", invalid="ignore"):
            z -= space.mean
            z /= space.spread
            np.clip(z, -FARTHEST, FARTHEST, out=z)
        z[unread] = np.nan
        whiten = np.array(space.whiten)
        components = np.empty((len(whiten), len(z)))
        for begin in range(0, len(z), ROWS_MULTIPLIED):
            rows = slice(begin, begin + ROWS_MULTIPLIED)
            np.matmul(whiten, z[rows].T, out=components[:, rows])
        values[0, own] = np.sqrt(np.einsum("ij,ij->j", components, components))
        values[1:, own] = components[:SMALLEST_COMPONENTS]
    # the last bits depend on which wines are multiplied together; a bin must not
    values *= JOINT_STEPS
    np.rint(values, out=values)
    values /= JOINT_STEPS
    return dict(zip(JOINT_COLUMNS, values, strict=True))


def _fit_joint(kind: str, x: NDArray[np.float64]) -> JointSpace | None:
    low, high = _PLAUSIBLE
    # one absurd number would stretch the space until nothing else shows in it
    complete = x[((x >= low) & (x <= high)).all(axis=1)]
    if len(complete) < FEWEST_JOINT:
        return None
    mean, spread = complete.mean(axis=0), complete.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    z = (complete - mean) / spread
    variance, directions = np.linalg.eigh(z.T @ z / len(z))
    # of a measurement that never varies, or repeats another, nothing can be said in this direction
    varies = variance > 1e-9
    whiten = np.where(varies, directions / np.sqrt(np.where(varies, variance, 1.0)), 0.0).T
    order = np.argsort(~varies, kind="stable")
    return JointSpace(
        kind,
        tuple(mean.tolist()),
        tuple(spread.tolist()),
        tuple(map(tuple, whiten[order].tolist())),
    )


def _fit_tree(
    is_first_type: NDArray[np.bool_], x: NDArray[np.float64], size: NDArray[np.float64]
) -> ErrorTree:
    from sklearn.tree import DecisionTreeRegressor

    # absurd numbers are on the same side of every threshold as the nearest plausible ones
    x, size = np.clip(x, *_PLAUSIBLE), np.minimum(size, QUALITY_BOUNDS[1] - QUALITY_BOUNDS[0])
    known = np.isfinite(x)
    middle = np.where(known, x, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    filled = (0.0, *middle.tolist())
    inputs = np.column_stack([is_first_type, np.where(known, x, middle)])
    labelled = np.isfinite(size)
    if not labelled.any():
        return ErrorTree((-1,), (0.0,), (-1,), (-1,), (0,), filled)
    tree = (
        DecisionTreeRegressor(
            max_leaf_nodes=LEAVES,
            max_depth=DEEPEST,
            min_samples_leaf=max(FEWEST_IN_LEAF, len(size) // (4 * LEAVES)),
            random_state=0,
        )
        .fit(inputs[labelled], size[labelled])
        .tree_
    )
    is_leaf = tree.feature < 0
    numbers = np.where(is_leaf, np.cumsum(is_leaf) - 1, -1)
    return ErrorTree(
        tuple(np.maximum(tree.feature, -1).tolist()),
        tuple(tree.threshold.tolist()),
        tuple(tree.children_left.tolist()),
        tuple(tree.children_right.tolist()),
        tuple(numbers.tolist()),
        filled,
    )


def _finite(values: pd.Series) -> NDArray[np.float64]:
    from wine_quality.drift.profiles import to_numbers

    numbers = to_numbers(values)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _edges(numbers: NDArray[np.float64]) -> tuple[float, ...]:
    """Upper bounds of the quantile bins: values that occur, so that every engine bins alike."""
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return ()
    levels = np.arange(1, BINS) / BINS
    edges = np.unique(np.quantile(numbers, levels, method="inverted_cdf"))
    if edges[0] == numbers.min():
        # the lowest bin would hold its one value and all below it: tell them apart
        edges = np.insert(edges, 0, edges[0] - 1e-9 * max(1.0, abs(edges[0])))
    return tuple(edges.tolist())
