import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import (
    INPUTS,
    MEASUREMENT_NAMES,
    MEASUREMENTS,
    QUALITY,
    TYPE,
    WINE_EXAMPLE,
    fingerprint,
    implausible,
    wine_groups,
    wine_hashes,
)

PLAIN = {TYPE: "red"} | {m.name: m.plausible[0] for m in MEASUREMENTS}
TEN = draw_wines(10, 5)
SEEDS = st.integers(0, 2**32 - 1)


def wines_of(**changes: object) -> pd.DataFrame:
    return pd.DataFrame([PLAIN | {QUALITY: 5} | changes])


# The domain


def test_the_inputs_are_the_type_and_eleven_measurements():
    assert (TYPE, *MEASUREMENT_NAMES) == INPUTS
    assert len(set(INPUTS)) == 12


@pytest.mark.parametrize("measurement", MEASUREMENTS, ids=lambda m: m.name)
def test_plausible_values_are_possible(measurement):
    assert measurement.possible[0] <= measurement.plausible[0] < measurement.plausible[1]
    assert measurement.plausible[1] <= measurement.possible[1]


def test_a_label_has_the_unit_where_there_is_one():
    labels = {m.name: m.label for m in MEASUREMENTS}
    assert labels["fixed_acidity"] == "fixed acidity (g/dm³)"
    assert labels["pH"] == "pH"


# Equal wines


def test_equal_inputs_share_a_group_whatever_the_quality():
    wines = pd.concat(
        [
            wines_of(),
            wines_of(quality=8),
            wines_of(type="white"),
            wines_of(alcohol=np.nan),
            wines_of(alcohol=np.nan),
        ]
    )
    groups = wine_groups(wines).tolist()
    assert groups[0] == groups[1]
    assert groups[3] == groups[4]
    assert len(set(groups)) == 3


@given(seed=SEEDS)
def test_groups_do_not_depend_on_the_order(seed):
    wines = TEN.iloc[np.random.default_rng(seed).integers(0, len(TEN), 30)]
    wines = wines.reset_index(drop=True)
    shuffled = wines.sample(frac=1, random_state=seed)
    groups, again = wine_groups(wines), wine_groups(shuffled).sort_index()
    assert (np.equal.outer(groups.to_numpy(), groups.to_numpy())).tolist() == (
        np.equal.outer(again.to_numpy(), again.to_numpy())
    ).tolist()


# Fingerprint


@given(row=st.integers(0, 9), column=st.sampled_from((*INPUTS, QUALITY)))
def test_the_fingerprint_changes_with_any_cell(row, column):
    changed = TEN.copy()
    old = changed.loc[row, column]
    if column == TYPE:
        changed.loc[row, column] = "white" if old == "red" else "red"
    elif column == QUALITY:
        changed.loc[row, column] = old + 1
    else:
        changed.loc[row, column] = np.nextafter(old, np.inf)
    assert fingerprint(changed) != fingerprint(TEN)


@given(row=st.integers(0, 9), column=st.sampled_from(MEASUREMENT_NAMES))
def test_the_fingerprint_tells_a_missing_value(row, column):
    changed = TEN.copy()
    changed.loc[row, column] = np.nan
    assert fingerprint(changed) != fingerprint(TEN)
    assert fingerprint(changed) == fingerprint(changed.copy())


def test_the_fingerprint_is_of_the_rows_in_their_order_and_of_nothing_else():
    assert fingerprint(TEN.iloc[::-1]) != fingerprint(TEN)
    assert fingerprint(TEN.iloc[:9]) != fingerprint(TEN)
    elsewhere = TEN.assign(source="x.csv").set_axis(range(100, 110))
    assert fingerprint(elsewhere) == fingerprint(TEN)
    assert len(fingerprint(TEN)) == 16


def test_the_fingerprint_of_chosen_columns_ignores_the_others():
    judged = TEN.assign(quality=TEN[QUALITY] + 1)
    assert fingerprint(judged, INPUTS) == fingerprint(TEN, INPUTS)


# Plausibility


@pytest.mark.parametrize("measurement", MEASUREMENTS, ids=lambda m: m.name)
def test_only_values_outside_the_plausible_range_are_implausible(measurement):
    low, high = measurement.plausible
    values = [np.nextafter(low, -np.inf), low, high, np.nextafter(high, np.inf), np.nan]
    marks = implausible(pd.concat([wines_of(**{measurement.name: value}) for value in values]))
    assert marks[measurement.name].tolist() == [True, False, False, True, False]
    assert marks.drop(columns=measurement.name).to_numpy().sum() == 0
    assert tuple(marks.columns) == MEASUREMENT_NAMES


# A wine's number


@pytest.mark.parametrize(
    ("seed", "changes", "number"),
    [
        (0, {}, 0xEBF8788E756DDDC6),
        (2009, {}, 0x807015B66C1603A5),
        (0, {"alcohol": np.nan}, 0x8E1B1BCD6CD1B86C),
    ],
)
def test_the_number_of_a_wine_is_the_same_in_every_edition(seed, changes, number):
    # registered versions keep these numbers: if this fails, they cannot be compared any more
    assert wine_hashes(pd.DataFrame([WINE_EXAMPLE | changes]), seed).tolist() == [number]


@given(seed=SEEDS)
def test_equal_wines_have_one_number_and_others_another(seed):
    wines = draw_wines(40, seed % 1000, duplicates=True, missing=True)
    numbers = pd.Series(wine_hashes(wines, seed))
    pairs = pd.DataFrame({"number": numbers, "group": wine_groups(wines)}).drop_duplicates()
    assert pairs["number"].is_unique
    assert pairs["group"].is_unique


def test_the_number_does_not_depend_on_how_a_wine_is_kept():
    wines = draw_wines(50, 3, missing=True)
    number = wine_hashes(wines).tolist()
    short = wines.astype(dict.fromkeys(MEASUREMENT_NAMES, "float32"))
    assert wine_hashes(short).tolist() == number
    assert wine_hashes(wines[::-1][[QUALITY, *INPUTS[::-1]]]).tolist() == number[::-1]
    whole = pd.DataFrame([WINE_EXAMPLE | {"citric_acid": 0, "alcohol": 9.0}])
    same = pd.DataFrame([WINE_EXAMPLE | {"citric_acid": -0.0, "alcohol": 9}])
    assert wine_hashes(whole) == wine_hashes(same)
