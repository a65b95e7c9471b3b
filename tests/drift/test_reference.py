import json

import numpy as np
import pandas as pd
import pytest

from wine_quality.drift.profiles import window_profile
from wine_quality.drift.reference import (
    ABSOLUTE_ERROR,
    ERROR,
    FAULTS,
    JOINT_COLUMNS,
    LEAF,
    ColumnBins,
    ErrorTree,
    JointSpace,
    Reference,
    joint_columns,
)
from wine_quality.errors import WineQualityError
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, PREDICTION, TYPE


def counts(reference: Reference, column: str) -> list[int]:
    """Wines of the reference in each bin of a column."""
    return reference.by_segment.sum(axis=0)[reference.cells[column]][FAULTS:].tolist()


def altered(held_out: pd.DataFrame, kind: str) -> pd.DataFrame:
    return {
        "ordinary": lambda: held_out,
        "one wine": lambda: held_out.head(1),
        "thirty wines": lambda: held_out.head(30),
        "few reds": lambda: pd.concat(
            [held_out[held_out["type"] == "white"], held_out[held_out["type"] == "red"].head(50)]
        ),
        "one type": lambda: held_out.assign(type="red"),
        "unknown types": lambda: held_out.assign(type="rosé"),
        "an empty measurement": lambda: held_out.assign(pH=np.nan),
        "a text": lambda: held_out.assign(pH="acid"),
        "a constant": lambda: held_out.assign(pH=3.3),
        "all constant": lambda: held_out.assign(
            **{name: held_out[name].iloc[0] for name in MEASUREMENT_NAMES}
        ),
        "one measurement twice": lambda: held_out.assign(alcohol=10 + held_out["pH"] / 2),
        "no labels": lambda: held_out.assign(quality=np.nan),
        "one quality": lambda: held_out.assign(quality=6.0),
        "no error": lambda: held_out.assign(prediction=held_out["quality"]),
        "absurd numbers": lambda: held_out.assign(
            alcohol=held_out["alcohol"].where(held_out.index > 2, 1e300),
            prediction=held_out["prediction"].where(held_out.index > 2, -1e300),
        ),
        "only absurd numbers": lambda: held_out.assign(alcohol=held_out["alcohol"] * 1e305),
        "nothing at all": lambda: held_out.map(lambda _: None),
        "each wine twice": lambda: pd.concat([held_out, held_out]),
    }[kind]()


KINDS = (
    "ordinary",
    "one wine",
    "thirty wines",
    "few reds",
    "one type",
    "unknown types",
    "an empty measurement",
    "a text",
    "a constant",
    "all constant",
    "one measurement twice",
    "no labels",
    "one quality",
    "no error",
    "absurd numbers",
    "only absurd numbers",
    "nothing at all",
    "each wine twice",
)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
def test_a_reference_of_whatever_wines_survives_json(kind, held_out):
    wines = altered(held_out, kind)
    original = Reference.from_wines(wines)
    again = Reference.from_dict(json.loads(json.dumps(original.to_dict(), allow_nan=False)))
    assert again == original
    assert hash(again) == hash(original)
    assert again.fingerprint == original.fingerprint
    # what it counts of its own wines is what it holds
    profile = window_profile(wines, again)
    assert (profile.by_segment(0, again) == original.by_segment).all()
    assert profile.sums[0].tolist() == list(original.sums)


def test_other_wines_make_another_reference(held_out):
    one, other = (Reference.from_wines(wines) for wines in (held_out, held_out.head(1499)))
    assert one != other
    assert one.fingerprint != other.fingerprint
    assert one != "a reference"


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        ({"rows": 3}, "has the format None, this project reads 2: register the champion again"),
        ({"format": 1, "rows": 3}, "has the format 1, this project reads 2"),
        ({"format": 2, "rows": 3}, "cannot be read .*register the champion again"),
    ],
)
def test_a_reference_of_another_format_or_a_broken_one_is_refused(stored, problem):
    with pytest.raises(WineQualityError, match=problem):
        Reference.from_dict(stored)


@pytest.mark.parametrize("key", ["columns", "joint", "tree", "counts", "sums", "lows"])
def test_every_broken_part_is_refused(key, reference):
    with pytest.raises(WineQualityError, match="cannot be read"):
        Reference.from_dict(reference.to_dict() | {key: 5})


def test_a_reference_needs_wines_and_all_columns(held_out):
    with pytest.raises(WineQualityError, match="lacks pH, prediction"):
        Reference.from_wines(held_out.drop(columns=["pH", "prediction"]))
    with pytest.raises(WineQualityError, match="holds no wines"):
        Reference.from_wines(held_out.head(0))


def test_numbers_are_divided_at_their_quantiles(reference, held_out):
    assert [bins.name for bins in reference.columns[:13]] == [*INPUTS, PREDICTION]
    for name in (*MEASUREMENT_NAMES, PREDICTION, *JOINT_COLUMNS, ERROR, ABSOLUTE_ERROR):
        # 1,500 distinct values: twenty bins of 75, give or take one where k/20 is no exact float
        assert len(counts(reference, name)) == 20
        assert set(counts(reference, name)) <= {74, 75, 76}, name
    assert counts(reference, TYPE) == held_out["type"].value_counts()[["red", "white"]].tolist()
    assert sum(counts(reference, LEAF)) == len(held_out)


def test_ties_make_fewer_bins_and_a_constant_is_told_from_both_sides(held_out):
    wines = held_out.assign(pH=3.3, alcohol=np.where(held_out.index % 2, 10.0, 12.0))
    reference = Reference.from_wines(wines)
    assert reference.bins("alcohol").size == 4  # below 10, 10, 12, above
    profile = window_profile(wines.head(3).assign(pH=[3.29, 3.3, 3.31]), reference)
    block = profile.by_segment(0, reference).sum(axis=0)[reference.cells["pH"]]
    assert block[FAULTS:].tolist() == [1, 1, 1]


def test_an_unknown_column_has_no_bins(reference):
    with pytest.raises(KeyError, match="vintage"):
        reference.bins("vintage")
    assert isinstance(reference.bins("pH"), ColumnBins)


def test_repetition_counts_equal_wines(held_out):
    assert Reference.from_wines(held_out).repetition == 1
    twice = pd.concat([held_out, held_out])
    assert Reference.from_wines(twice).repetition == 2
    # 1,500 wines of which one occurs four times: (1499 + 4 * 4) / 1503
    one = pd.concat([held_out, *[held_out.head(1)] * 3])
    assert Reference.from_wines(one).repetition == pytest.approx(1515 / 1503)


# Joint columns


def measured(wines: pd.DataFrame) -> np.ndarray:
    return wines[list(MEASUREMENT_NAMES)].to_numpy(float)


def test_the_components_have_unit_variance_and_are_the_smallest_of_the_type(reference, held_out):
    assert [space.segment for space in reference.joint] == ["red", "white"]
    for space in reference.joint:
        wines = held_out[held_out["type"] == space.segment]
        x = measured(wines)
        found = joint_columns((space,), [np.ones(len(x), bool)], x)
        for name in JOINT_COLUMNS[1:]:
            assert found[name].mean() == pytest.approx(0, abs=1e-6)
            assert found[name].var() == pytest.approx(1, abs=1e-4)
        # Mahalanobis distance: its square is 11 on average
        distance = found["joint_distance"]
        assert (distance**2).mean() == pytest.approx(11, rel=1e-4)
        z = (x - x.mean(axis=0)) / x.std(axis=0)
        precision = np.linalg.inv(np.cov(z.T, bias=True))
        expected = np.sqrt(np.einsum("ij,jk,ik->i", z, precision, z))
        np.testing.assert_allclose(distance, expected, atol=1e-4)
        smallest = np.linalg.eigvalsh(np.cov(z.T, bias=True))[0]
        direction = np.array(space.whiten[0])
        assert np.linalg.norm(direction) ** -2 == pytest.approx(smallest, rel=1e-6)


def test_a_type_with_few_wines_has_no_joint_columns(held_out):
    reference = Reference.from_wines(altered(held_out, "few reds"))
    assert [space.segment for space in reference.joint] == ["white"]


def test_directions_without_variance_say_nothing(held_out):
    (space, *_) = Reference.from_wines(altered(held_out, "one measurement twice")).joint
    told = np.abs(np.array(space.whiten)).sum(axis=1) > 0
    assert told.tolist() == [True] * 10 + [False]


@pytest.mark.filterwarnings("error")
def test_a_wine_with_a_gap_has_no_joint_values_and_an_absurd_one_lies_far_away(reference, held_out):
    x = measured(held_out.head(3)).copy()
    x[0, 3], x[1, :], x[2, 0] = np.nan, 1e308, np.inf
    found = joint_columns(reference.joint[:1], [np.ones(3, bool)], x)
    distance = found["joint_distance"]
    assert np.isnan(distance).tolist() == [True, False, True]
    assert 1e6 < distance[1] < 1e9


def test_an_absurd_number_does_not_stretch_the_space(held_out):
    spoiled = held_out.assign(density=held_out["density"].where(held_out.index > 3, 994.7))
    for space in Reference.from_wines(spoiled).joint:
        assert isinstance(space, JointSpace)
        assert space.spread[MEASUREMENT_NAMES.index("density")] < 0.01


# The tree of errors


def test_leaves_are_cells_of_wines_alike_in_their_error(held_out):
    strong = (held_out["type"] == "white") & (held_out["alcohol"] > 11.5)
    worse = held_out.assign(
        prediction=held_out["quality"] + np.where(strong, 2.0, 0.1) * (1 - 2 * (held_out.index % 2))
    )
    tree = Reference.from_wines(worse).tree
    leaves = tree.assign((worse["type"] == "red").to_numpy(), measured(worse))
    assert set(leaves) == set(range(tree.leaves))
    by_leaf = (worse["prediction"] - worse["quality"]).abs().groupby(leaves).agg(["mean", "std"])
    assert by_leaf["std"].max() < 0.01
    worst = tree.describe(int(by_leaf["mean"].idxmax()))
    assert worst.startswith("white wines, ")
    assert "alcohol above 11.5" in worst


def test_a_leaf_is_described_by_its_tightest_bounds():
    # alcohol ≤ 12, else pH ≤ 3.2, else alcohol ≤ 13
    tree = ErrorTree(
        feature=(11, -1, 9, -1, 11, -1, 0, -1, -1),
        threshold=(12.0, 0, 3.2, 0, 13.0, 0, 0.5, 0, 0),
        left=(1, -1, 3, -1, 5, -1, 7, -1, -1),
        right=(2, -1, 4, -1, 6, -1, 8, -1, -1),
        leaf=(-1, 0, -1, 1, -1, 2, -1, 3, 4),
        filled=(0.0, *[1.0] * 11),
    )
    assert [tree.describe(k) for k in range(5)] == [
        "all wines, alcohol up to 12",
        "all wines, pH up to 3.2, alcohol above 12",
        "all wines, pH above 3.2, alcohol 12 to 13",
        "white wines, pH above 3.2, alcohol above 13",
        "red wines, pH above 3.2, alcohol above 13",
    ]
    x = np.ones((5, 11))
    x[:, 10], x[:, 8] = [12.0, 12.5, 12.5, 14.0, np.nan], [3.0, 3.2, 3.3, 3.3, 3.3]
    assert tree.assign(np.array([False] * 3 + [True, False]), x).tolist() == [0, 1, 2, 4, 0]


@pytest.mark.parametrize("kind", ["one wine", "no labels", "no error", "nothing at all"])
def test_without_errors_to_tell_apart_there_is_one_leaf(kind, held_out):
    tree = Reference.from_wines(altered(held_out, kind)).tree
    assert tree.leaves == 1
    assert tree.describe(0) == "all wines"
