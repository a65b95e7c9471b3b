"""Scenarios: each changes what it names, from its onset on, and nothing else."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal, assert_series_equal
from pydantic import TypeAdapter, ValidationError

from wine_quality.errors import WineQualityError
from wine_quality.serving.predictor import check_wines
from wine_quality.traffic.planning import plan_traffic
from wine_quality.traffic.scenarios import (
    DriftParameters,
    Scenario,
    describe_drift,
    inject_drift,
)
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, QUALITY

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
EVERY_KIND = {
    "noise": {"column": "alcohol"},
    "shift": {"column": "alcohol", "standard_deviations": -1.5},
    "unit_error": {"column": "alcohol", "factor": 1000},
    "stuck": {"column": "alcohol"},
    "missing": {"column": "alcohol", "share": 0.5},
    "outliers": {"column": "alcohol", "share": 0.5},
    "mix": {"shares": {"red": 0.9, "white": 0.1}},
    "label_shift": {"odds": 3},
    "concept": {"points": -1.5},
    "staleness": {"column": "alcohol", "points": 2, "ramp_hours": 0},
    "wrong_labels": {"source": "partner", "share": 0.5},
}
TOUCHED = {
    "mix": [*INPUTS, QUALITY],
    "label_shift": [*INPUTS, QUALITY],
    "concept": [QUALITY],
    "staleness": [QUALITY],
    "wrong_labels": [QUALITY],
}
kinds = st.sampled_from(list(EVERY_KIND))
moments = st.floats(0, 30)


def scenario(kind, **changes):
    return TypeAdapter(Scenario).validate_python({"kind": kind} | changes)


def some(kind, **changes):
    return scenario(kind, **EVERY_KIND[kind] | changes)


def plan(wines, samples=None, chunk_rows=50_000):
    asked = {"samples": samples or len(wines), "start": START, "duration": DAY, "seed": 1}
    return list(plan_traffic(wines, **asked, chunk_rows=chunk_rows))


def drift(wines, *scenarios, samples=None, seed=1):
    """Traffic before and after some scenarios."""
    before = plan(wines, samples)
    named = {f"s{number}": one for number, one in enumerate(scenarios)}
    after = inject_drift(before, wines, named, start=START, seed=seed)
    return pd.concat(before), pd.concat(after)


# Laws


@settings(max_examples=150)
@given(
    kind=kinds, onset=moments, length=moments, ramp=st.floats(0, 10), seed=st.integers(0, 2**64 - 1)
)
def test_a_scenario_touches_its_own_from_its_onset_until_its_end(
    make_wines, kind, onset, length, ramp, seed
):
    wines = make_wines(60, missing=0.1)
    pristine = wines.copy()
    one = some(kind, onset=onset, until=onset + length, ramp_hours=ramp)
    before, after = drift(wines, one, seed=seed)

    assert_frame_equal(wines, pristine)
    # a source is named from the first wine on that has another one
    after = after.drop(columns="source", errors="ignore")
    touched = TOUCHED.get(kind, ["alcohol"])
    assert_frame_equal(after.drop(columns=touched), before.drop(columns=touched))
    hours = (before["event_time"] - START) / HOUR
    outside = (hours < onset) | (hours >= onset + length)
    assert_frame_equal(after[outside], before[outside])
    check_wines(after)
    assert after[QUALITY].between(0, 10).all()
    assert after.dtypes.equals(before.dtypes)
    if touched == ["alcohol"] and kind != "missing":
        assert_series_equal(after["alcohol"].isna(), before["alcohol"].isna())


@settings(max_examples=30)
@given(
    chosen=st.lists(kinds, min_size=1, max_size=4),
    chunk_rows=st.integers(7, 60),
    ramp=st.floats(0, 30),
    seed=st.integers(0, 2**64 - 1),
)
def test_the_rows_do_not_depend_on_the_chunks(make_wines, chosen, chunk_rows, ramp, seed):
    wines = make_wines(50, missing=0.1)
    named = {f"s{i}": some(kind, ramp_hours=ramp) for i, kind in enumerate(chosen)}
    asked = {"start": START, "seed": seed}
    whole = pd.concat(inject_drift(plan(wines, 90), wines, named, **asked))
    parts = list(inject_drift(plan(wines, 90, chunk_rows), wines, named, **asked))
    assert [len(part) for part in parts[:-1]] == [chunk_rows] * (len(parts) - 1)
    assert_frame_equal(pd.concat(parts), whole, check_index_type=False)


def test_the_seed_and_the_name_say_which_wines(make_wines):
    wines = make_wines(50)
    one = some("noise")
    _, first = drift(wines, one)
    _, again = drift(wines, one)
    _, other = drift(wines, one, seed=2)
    assert_frame_equal(again, first)
    assert not other.equals(first)
    named = inject_drift(plan(wines), wines, {"other": one}, start=START, seed=1)
    assert not pd.concat(named).equals(first)


def test_without_scenarios_nothing_drifts(make_wines):
    before, after = drift(make_wines(30))
    assert_frame_equal(after, before)


# Kinds


def test_noise_lies_between_one_and_three_standard_deviations(make_wines):
    wines = make_wines(500)
    for column in ("fixed_acidity", "free_sulfur_dioxide", "alcohol"):
        before, after = drift(wines, scenario("noise", column=column))
        added = after[column] - before[column]
        high = 3 * wines[column].std()
        assert high > 1
        assert added.between(1 - 1e-9, high + 1e-9).all()
        assert added.min() < 1 + 0.05 * (high - 1)
        assert added.max() > high - 0.05 * (high - 1)
        assert added.nunique() > 400


def test_noise_in_a_measurement_that_hardly_varies_lies_between_its_deviations_and_one(make_wines):
    wines = make_wines(500).assign(chlorides=np.linspace(0.04, 0.06, 500))
    before, after = drift(wines, scenario("noise", column="chlorides"))
    added = after["chlorides"] - before["chlorides"]
    assert added.between(3 * wines["chlorides"].std() - 1e-12, 1 + 1e-12).all()
    assert added.max() > 0.95


@pytest.mark.parametrize("deviations", [-1.5, 0.5, 2.0])
def test_a_shift_is_the_same_for_every_wine(make_wines, deviations):
    wines = make_wines(200)
    column = "total_sulfur_dioxide"
    before, after = drift(wines, scenario("shift", column=column, standard_deviations=deviations))
    expected = (before[column] + deviations * wines[column].std()).clip(0, 3000)
    np.testing.assert_allclose(after[column], expected)
    before, after = drift(wines, scenario("shift", column="alcohol", amount=-0.25))
    np.testing.assert_allclose(after["alcohol"], before["alcohol"] - 0.25)


def test_the_size_of_a_drift_is_that_of_the_undrifted_wines(make_wines):
    """A second scenario in the same column, or a small chunk, does not change it."""
    wines = make_wines(200)
    twice = [scenario("shift", column="alcohol", standard_deviations=1)] * 2
    before, after = drift(wines, *twice)
    np.testing.assert_allclose(after["alcohol"], before["alcohol"] + 2 * wines["alcohol"].std())


def test_a_ramp_scales_the_effect(make_wines):
    one = scenario("shift", column="alcohol", amount=-1.0, onset=6, ramp_hours=12)
    before, after = drift(make_wines(300), one)
    hours = (before["event_time"] - START) / HOUR
    weight = ((hours - 6) / 12).clip(0, 1)
    np.testing.assert_allclose(after["alcohol"], before["alcohol"] - weight)


def test_a_ramp_scales_the_share_of_wines(make_wines):
    one = scenario("unit_error", column="alcohol", factor=2, ramp_hours=24)
    before, after = drift(make_wines(4_000), one)
    doubled = np.isclose(after["alcohol"], before["alcohol"] * 2)
    assert (doubled | (after["alcohol"] == before["alcohol"])).all()
    hours = (before["event_time"] - START) / HOUR
    for first in (0, 6, 12, 18):
        of_quarter = doubled[(hours >= first) & (hours < first + 6)]
        assert of_quarter.mean() == pytest.approx((first + 3) / 24, abs=0.05)


def test_moments_may_be_of_event_time(make_wines):
    relative = some("shift", onset=6, until=12)
    absolute = some("shift", onset="2026-01-01T07:00:00+01:00", until=START + 12 * HOUR)
    wines = make_wines(50)
    assert_frame_equal(drift(wines, absolute)[1], drift(wines, relative)[1])
    assert not drift(wines, relative)[1].equals(drift(wines)[1])


def test_a_wrong_unit_stops_at_the_end_of_the_possible_as_an_instrument_does(make_wines):
    _, after = drift(make_wines(100), scenario("unit_error", column="residual_sugar", factor=1000))
    assert (after["residual_sugar"] > 299).all()
    assert after["residual_sugar"].max() == 700


def test_a_sensor_that_is_stuck_repeats_one_value(make_wines):
    wines = make_wines(100, missing=0.1)
    _, after = drift(wines, scenario("stuck", column="pH"))
    (value,) = after["pH"].dropna().unique()
    assert value in wines["pH"].to_numpy()
    _, after = drift(wines, scenario("stuck", column="pH", value=3.3))
    assert after["pH"].dropna().unique().tolist() == [3.3]


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_share_is_missing(make_wines, share):
    _, after = drift(make_wines(4_000), scenario("missing", column="pH", share=share))
    assert after["pH"].isna().mean() == pytest.approx(share, abs=0.02)


def test_outliers_lie_on_either_side(make_wines):
    wines = make_wines(4_000)
    one = scenario("outliers", column="pH", share=0.1, standard_deviations=4)
    before, after = drift(wines, one)
    moved = after["pH"] - before["pH"]
    size = 4 * wines["pH"].std()
    assert (moved > 0).mean() == pytest.approx(0.05, abs=0.015)
    assert (moved < 0).mean() == pytest.approx(0.05, abs=0.015)
    np.testing.assert_allclose(moved[moved != 0].abs(), size)


def test_the_mix_becomes_another_one_of_the_same_wines(make_wines):
    wines = make_wines(400)
    before, after = drift(
        wines, scenario("mix", shares={"red": 0.9, "white": 0.1}, onset=12), samples=4_000
    )
    late = before["event_time"] >= START + 12 * HOUR
    assert (after.loc[late, "type"] == "red").mean() == pytest.approx(0.9, abs=0.02)
    assert (after.loc[~late, "type"] == "red").mean() == pytest.approx(0.5, abs=0.06)
    assert len(after.drop(columns="event_time").merge(wines.drop_duplicates())) == 4_000


def test_a_label_shift_makes_every_point_as_many_times_as_likely(make_wines):
    wines = make_wines(400)
    _, after = drift(wines, scenario("label_shift", odds=2), samples=20_000)
    shares = wines[QUALITY].value_counts(normalize=True)
    expected = shares * 2.0**shares.index
    observed = after[QUALITY].value_counts(normalize=True)
    assert_series_equal(
        observed.sort_index(),
        (expected / expected.sum()).sort_index(),
        check_names=False,
        atol=0.015,
        rtol=0,
    )
    assert len(after.drop(columns="event_time").merge(wines.drop_duplicates())) == 20_000


@pytest.mark.parametrize("points", [-1.3, 0.4, 1.0])
def test_a_concept_drift_moves_the_mean_quality_by_its_points(make_wines, points):
    before, after = drift(make_wines(4_000), scenario("concept", points=points))
    moved = after[QUALITY] - before[QUALITY]
    assert set(moved) <= {np.floor(points), np.ceil(points)}
    assert moved.mean() == pytest.approx(points, abs=0.03)
    assert after[QUALITY].dtype == np.int64


def test_a_stale_taste_goes_with_its_measurement_and_leaves_the_mean(make_wines):
    wines = make_wines(4_000, missing=0.1)
    one = scenario("staleness", column="alcohol", points=1.0, ramp_hours=0)
    before, after = drift(wines, one)
    moved = after[QUALITY] - before[QUALITY]
    known = before["alcohol"].notna()
    assert not moved[~known].any()
    z = (before["alcohol"] - wines["alcohol"].mean()) / wines["alcohol"].std()
    slope = np.polyfit(z[known], moved[known], 1)[0]
    assert slope == pytest.approx(1.0, abs=0.06)
    assert moved.mean() == pytest.approx(0, abs=0.05)


def test_which_wines_come_is_settled_before_what_is_measured():
    made = DriftParameters.model_validate(
        {
            "enabled": True,
            "scenarios": {
                "b": {"kind": "stuck", "column": "pH", "value": 3},
                "off": {"kind": "concept", "points": 1, "enabled": False},
                "d": {"kind": "concept", "points": 1},
                "a": {"kind": "missing", "column": "pH", "share": 0.5},
                "c": {"kind": "mix", "shares": {"red": 1}},
            },
        }
    )
    assert list(made.active()) == ["c", "d", "b", "a"]
    assert made.model_copy(update={"enabled": False}).active() == {}


# The truth about it


def test_what_is_injected_is_written_down():
    scenarios = {
        "sweet": some("shift", onset=6, ramp_hours=4, column="residual_sugar"),
        "long_ago": some("concept", onset=START - DAY, until=START),
        "tomorrow": some("missing", onset=24),
        "broken": some("stuck", onset=START - DAY, until=12),
    }
    assert describe_drift(scenarios, START, START + DAY) == [
        {
            "period_start": "2026-01-01T00:00:00+00:00",
            "name": "sweet",
            "kind": "shift",
            "subject": "residual_sugar",
            "verdict": "drift",
            "onset": "2026-01-01T06:00:00+00:00",
            "full": "2026-01-01T10:00:00+00:00",
            "until": "2026-01-02T00:00:00+00:00",
        },
        {
            "period_start": "2026-01-01T00:00:00+00:00",
            "name": "broken",
            "kind": "stuck",
            "subject": "alcohol",
            "verdict": "data_quality",
            "onset": "2026-01-01T00:00:00+00:00",
            "full": "2026-01-01T00:00:00+00:00",
            "until": "2026-01-01T12:00:00+00:00",
        },
    ]


@pytest.mark.parametrize(
    ("kind", "subject", "verdict"),
    [
        ("noise", "alcohol", "drift"),
        ("unit_error", "alcohol", "data_quality"),
        ("mix", "type", "drift"),
        ("label_shift", "prediction", "drift"),
        ("concept", "model", "decayed"),
        ("staleness", "model", "decayed"),
        ("wrong_labels", "model", "decayed"),
    ],
)
def test_every_kind_names_its_subject_and_the_verdict_to_be_expected(kind, subject, verdict):
    (row,) = describe_drift({"x": some(kind)}, START, START + DAY)
    assert (row["subject"], row["verdict"]) == (subject, verdict)


@given(kind=kinds, onset=st.floats(0, 60), length=st.floats(0, 60), ramp=st.floats(0, 60))
def test_what_is_written_down_is_what_is_done(make_wines, kind, onset, length, ramp):
    one = some(kind, onset=onset, until=onset + length, ramp_hours=ramp)
    events = pd.concat(plan(make_wines(50), 500))["event_time"]
    works = one.weigh(events, START) > 0
    rows = describe_drift({"x": one}, START, START + DAY)
    if rows:
        onset, until = (pd.Timestamp(rows[0][key]) for key in ("onset", "until"))
        assert events[works].between(onset, until, inclusive="left").all()
        full = pd.Timestamp(rows[0]["full"])
        assert onset <= full <= until
        if full < until:
            assert (one.weigh(events, START)[(events >= full) & (events < until)] == 1).all()
    else:
        assert not works.any()


def test_one_source_hands_in_the_labels_of_other_wines(make_wines):
    before, after = drift(make_wines(4_000), some("wrong_labels"))
    theirs = after["source"] == "partner"
    assert theirs.mean() == pytest.approx(0.5, abs=0.03)
    assert after.loc[~theirs, "source"].isna().all()
    assert after.loc[~theirs, QUALITY].equals(before.loc[~theirs, QUALITY])
    assert after[list(INPUTS)].equals(before[list(INPUTS)])
    # as good on average as the right ones, and no more alike than chance makes them
    said, true = after.loc[theirs, QUALITY], before.loc[theirs, QUALITY]
    assert said.mean() == pytest.approx(true.mean(), abs=0.15)
    assert np.corrcoef(said, true)[0, 1] == pytest.approx(0, abs=0.1)


# Mistakes


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"kind": "noise", "column": "body_mass_g"}, "no measurement: choose fixed_acidity"),
        ({"kind": "noise", "column": "type"}, "no measurement"),
        ({"kind": "noise", "column": "pH", "standard_deviations": 0}, "greater than 0"),
        ({"kind": "noise", "colum": "pH"}, "colum"),
        ({"kind": "earthquake"}, "noise.*shift.*staleness"),
        ({"kind": "shift", "column": "pH"}, "either standard_deviations or an amount"),
        ({"kind": "shift", "column": "pH", "amount": float("nan")}, "finite"),
        ({"kind": "missing", "column": "pH", "share": 1.2}, "share"),
        ({"kind": "mix", "shares": {"red": -0.1, "white": 1.1}}, "shares"),
        ({"kind": "mix", "shares": {"red": 0.4, "white": 0.4}}, "add up to 1"),
        ({"kind": "mix", "shares": {"rosé": 1}}, "shares"),
        ({"kind": "mix", "shares": {}}, "shares"),
        ({"kind": "concept", "points": 1, "onset": "2026-01-01T00:00:00"}, "timezone"),
        ({"kind": "concept", "points": 1, "onset": -1}, "-1 hours are not from 0"),
        ({"kind": "concept", "points": 1, "onset": 6, "until": 5}, "lies before onset"),
        (
            {"kind": "concept", "points": 1, "onset": START, "until": START - HOUR},
            "lies before onset",
        ),
        ({"kind": "concept", "points": 1, "until": 100_000}, "100000 hours are not"),
        ({"kind": "wrong_labels", "source": "", "share": 0.5}, "source"),
        ({"kind": "wrong_labels", "source": "a partner", "share": 0.5}, "source"),
        ({"column": "pH"}, "kind"),
    ],
)
def test_a_wrong_setting_is_named(setting, message):
    with pytest.raises(ValidationError, match=message):
        DriftParameters.model_validate({"enabled": True, "scenarios": {"x": setting}})


def test_a_measurement_nobody_has_cannot_drift(make_wines):
    wines = make_wines(5).assign(pH=[3.1, None, None, None, None])
    with pytest.raises(WineQualityError, match="Drift in pH needs at least two wines"):
        drift(wines, scenario("noise", column="pH"))
    nothing = wines.assign(pH=np.nan)
    with pytest.raises(WineQualityError, match="No wine has pH"):
        drift(nothing, scenario("stuck", column="pH"))


def test_a_mix_needs_wines_of_both_types(make_wines):
    whites = make_wines(50).query("type == 'white'")
    with pytest.raises(WineQualityError, match="no red wine to draw from"):
        drift(whites, scenario("mix", shares={"red": 0.5, "white": 0.5}))


@pytest.mark.parametrize("kind", ["concept", "label_shift", "staleness", "wrong_labels"])
def test_judgements_cannot_drift_without_any(make_wines, kind):
    with pytest.raises(WineQualityError, match="no quality"):
        drift(make_wines(20).drop(columns=QUALITY), some(kind))


def test_every_measurement_can_drift(make_wines):
    wines = make_wines(20)
    for column in MEASUREMENT_NAMES:
        before, after = drift(wines, scenario("shift", column=column, standard_deviations=0.5))
        assert (after[column] > before[column]).all()
