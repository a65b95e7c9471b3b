"""Drift: the measurement named changes by the rule named, and nothing else does."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from wine_quality.errors import WineQualityError
from wine_quality.serving.predictor import check_wines
from wine_quality.traffic.scenarios import DriftScenario, inject_drift
from wine_quality.wines import MEASUREMENT_NAMES, MEASUREMENTS, WINE_TYPES

columns = st.sampled_from(MEASUREMENT_NAMES)
seeds = st.integers(0, 2**32 - 1)


def make_wines(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    wines = pd.DataFrame(
        {
            "type": rng.choice(WINE_TYPES, n),
            **{m.name: rng.uniform(*m.plausible, n) for m in MEASUREMENTS},
            "quality": rng.integers(3, 9, n),
        }
    )
    wines.loc[rng.random(n) < 0.1, list(MEASUREMENT_NAMES)] = np.nan
    return wines


@given(
    column=columns,
    rule=st.sampled_from(["uniform_noise", "shift"]),
    deviations=st.floats(0.01, 1e6),
    seed=seeds,
)
def test_only_the_column_changes_and_wines_stay_possible(
    column: str, rule: str, deviations: float, seed: int
) -> None:
    wines = make_wines(40, seed)
    before = wines.copy()
    scenario = DriftScenario(enabled=True, column=column, rule=rule, standard_deviations=deviations)

    drifted = inject_drift(wines, scenario, seed)

    pd.testing.assert_frame_equal(wines, before)
    pd.testing.assert_frame_equal(drifted.drop(columns=column), wines.drop(columns=column))
    assert (drifted[column].isna() == wines[column].isna()).all()
    assert (drifted[column].dropna() > wines[column].dropna()).all()
    check_wines(drifted)


@settings(max_examples=25)
@given(seed=seeds)
def test_uniform_noise_is_between_one_and_three_standard_deviations(seed: int) -> None:
    wines = make_wines(500, seed)
    for column in ("fixed_acidity", "free_sulfur_dioxide", "alcohol"):
        drifted = inject_drift(wines, DriftScenario(enabled=True, column=column), seed)
        added = drifted[column] - wines[column]
        high = 3 * wines[column].std()
        assert high > 1
        assert added.min() >= 1 - 1e-9
        assert added.max() <= high + 1e-9
        assert added.min() < 1 + 0.05 * (high - 1)
        assert added.max() > high - 0.05 * (high - 1)
        assert added.nunique() > 400


def test_noise_in_a_measurement_that_hardly_varies_lies_between_its_deviations_and_one() -> None:
    wines = make_wines(500).assign(chlorides=np.linspace(0.04, 0.06, 500))
    drifted = inject_drift(wines, DriftScenario(enabled=True, column="chlorides"), seed=1)
    added = drifted["chlorides"] - wines["chlorides"]
    assert added.between(3 * wines["chlorides"].std() - 1e-12, 1 + 1e-12).all()
    assert added.max() > 0.95


@pytest.mark.parametrize("deviations", [-1.5, 0.5, 2.0])
def test_a_shift_is_the_same_for_every_wine(deviations: float) -> None:
    wines = make_wines(200)
    scenario = DriftScenario(
        enabled=True,
        column="total_sulfur_dioxide",
        rule="shift",
        standard_deviations=deviations,
    )
    drifted = inject_drift(wines, scenario, seed=1)["total_sulfur_dioxide"]
    before = wines["total_sulfur_dioxide"]
    expected = (before + deviations * before.std()).clip(0, 3000)
    np.testing.assert_allclose(drifted, expected)
    assert (expected != before).any()


def test_the_seed_says_which_noise() -> None:
    wines, scenario = make_wines(50), DriftScenario(enabled=True)
    one = inject_drift(wines, scenario, seed=1)
    pd.testing.assert_frame_equal(one, inject_drift(wines, scenario, seed=1))
    assert not one.equals(inject_drift(wines, scenario, seed=2))


def test_nothing_drifts_unless_enabled() -> None:
    wines = make_wines(50)
    same = inject_drift(wines, DriftScenario(), seed=1)
    pd.testing.assert_frame_equal(same, wines)
    assert same is not wines


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"column": "body_mass_g"}, "no measurement: choose fixed_acidity"),
        ({"column": "type"}, "no measurement"),
        ({"column": "quality"}, "no measurement"),
        ({"rule": "gradual"}, "uniform_noise.*shift"),
        ({"standard_deviations": 0}, "uniform_noise needs standard_deviations above 0"),
        ({"standard_deviations": float("nan")}, "finite"),
        ({"colum": "pH"}, "colum"),
    ],
)
def test_a_wrong_setting_is_named(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DriftScenario(**setting)


def test_a_measurement_nobody_has_cannot_drift() -> None:
    wines = make_wines(5).assign(pH=[3.1, None, None, None, None])
    with pytest.raises(WineQualityError, match="Drift in pH needs at least two wines"):
        inject_drift(wines, DriftScenario(enabled=True, column="pH"), seed=1)
