import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import betabinom

from wine_quality.drift.profiles import count, window_profile
from wine_quality.drift.reference import JOINT, Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import COPIES, LEFT_OUT, VERDICTS_DTYPES, _chance_limit, decide
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, PARTS_OF_TOTALS, PREDICTION

COLUMNS = [*INPUTS, PREDICTION]
SUBJECTS = [*COLUMNS, JOINT, COPIES]
SETTINGS = DriftSettings()
DAY_S = 86_400
((PART, WHOLE),) = PARTS_OF_TOTALS


@pytest.fixture(scope="module")
def judge(reference):
    """Judge wines as one window: verdicts by subject."""

    def judge(wines, against=reference, settings=SETTINGS):
        profile = window_profile(wines, against)
        verdicts = decide(profile, profile.starts + DAY_S, against, "3", settings)
        assert verdicts["column"].tolist() == SUBJECTS
        return verdicts.set_index("column")

    return judge


@pytest.fixture(scope="module")
def window(draw_wines):
    return draw_wines(200, 77)


def only(verdicts: pd.DataFrame, **expected: str) -> bool:
    """Whether the named columns have these verdicts, and all others are ok.

    How measurements go together is not looked at unless it is named: whatever moves one of them
    may show there too.
    """
    found = verdicts["verdict"].to_dict()
    looked_at = [c for c in SUBJECTS if c != JOINT or JOINT in expected]
    return {c: found[c] for c in looked_at} == {c: expected.get(c, "ok") for c in looked_at}


def with_gaps(wines: pd.DataFrame, column: str, n: int, value: object = None) -> pd.DataFrame:
    """Replace the first n values of a column."""
    values = wines[column].astype(object).tolist()
    return wines.assign(**{column: [value] * n + values[n:]})


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 100, 400, 2000])
def test_unchanged_wines_are_quiet(n, draw_wines, as_log):
    """Of windows compared with ten references about one in a hundred may be flagged."""
    flagged = []
    for seed in range(10):
        own = Reference.from_wines(draw_wines(1000, seed))
        profile = count(as_log(draw_wines(max(2000, 10 * n), 500 + seed), n), own)
        verdicts = decide(profile, profile.starts + DAY_S, own, "3", SETTINGS)
        flagged += (verdicts["verdict"] != "ok").groupby(verdicts["window_start"]).any().tolist()
    # drift and faults have the rate each
    expected = 0.02 * len(flagged)
    assert sum(flagged) <= expected + 3 * np.sqrt(expected) + 1


@pytest.mark.parametrize("column", MEASUREMENT_NAMES)
def test_a_shifted_measurement_drifts_and_no_other(column, window, judge):
    moved = window.assign(**{column: window[column] + window[column].std()})
    verdicts = judge(moved)
    assert only(verdicts, **{column: "drift"})
    row = verdicts.loc[column]
    assert row["value"] > row["threshold"]
    assert row["psi"] > 0.3
    assert row["n"] == 200


def test_the_reason_says_what_moved(window, judge):
    verdicts = judge(window.assign(alcohol=window["alcohol"] + 2, type="red"))
    reason = verdicts.loc["alcohol", "reason"]
    assert reason.startswith(("score ", "among red wines: score "))
    assert "exceeds" in reason
    assert "at 200 wines; median moved from 10.44 to 12.57, PSI 2." in reason
    assert "share of red moved from 26.8 % to 100 %" in verdicts.loc["type", "reason"]
    assert "is within" in verdicts.loc["pH", "reason"]
    # next to nothing is not written as nothing at all
    alike = verdicts["psi"] < 0.001
    assert alike.any()
    assert verdicts["reason"].str.endswith(", PSI < 0.001").tolist() == alike.tolist()


def test_thousands_are_set_off_in_reasons(draw_wines, judge):
    wines = draw_wines(1200, 76)
    assert "at 1,200 wines" in judge(wines).loc["type", "reason"]
    verdicts = judge(wines.assign(pH=np.nan))
    assert "of 1,200 values are missing" in verdicts.loc["pH", "reason"]


def test_other_types_of_wine_drift(window, judge):
    assert only(
        judge(window.assign(type=np.where(window.index < 90, "red", "white"))), type="drift"
    )


def test_narrower_values_drift_though_their_median_stays(window, judge):
    middle = window["alcohol"].median()
    narrowed = window.assign(alcohol=middle + 0.4 * (window["alcohol"] - middle))
    assert only(judge(narrowed), alcohol="drift")


def test_shifted_predictions_drift(window, judge):
    assert only(judge(window.assign(prediction=window["prediction"] + 0.5)), prediction="drift")


def test_columns_that_are_left_out_are_shown_and_raise_no_alarm(draw_wines, judge):
    wines = draw_wines(1000, 61).assign(pH=9.0, alcohol=np.nan)
    settings = DriftSettings(columns_left_out=("pH", "alcohol", JOINT))
    judged = judge(wines, settings=settings)
    for name in ("pH", "alcohol", JOINT):
        assert judged.loc[name, "verdict"] == "insufficient_data"
        assert judged.loc[name, "reason"] == LEFT_OUT
    assert set(judged.drop(["pH", "alcohol", JOINT])["verdict"]) == {"ok"}
    # fewer columns share the rate of false alarms, so that each needs less
    before = judge(wines).loc["density", "threshold"]
    assert judged.loc["density", "threshold"] < before


def test_the_effect_floor_keeps_large_windows_quiet_about_trifles(draw_wines, judge):
    against = Reference.from_wines(draw_wines(30_000, 5))
    wines = draw_wines(30_000, 6)
    shift = 0.08 * wines["pH"].std()  # moves 3 % of the wines
    moved = wines.assign(pH=wines["pH"] + shift)
    quiet = judge(moved, against)
    assert only(quiet)
    assert quiet.loc["pH", "value"] > quiet.loc["pH", "threshold"]
    assert "too small to matter" in quiet.loc["pH", "reason"]
    assert only(judge(moved, against, DriftSettings(min_share_moved=0)), pH="drift")
    assert only(judge(wines.assign(pH=wines["pH"] + 4 * shift), against), pH="drift")


@pytest.mark.parametrize(("n", "verdict"), [(1, "ok"), (3, "ok"), (20, "data_quality")])
def test_missing_values_are_a_matter_of_data_quality(n, verdict, window, judge):
    verdicts = judge(with_gaps(window, "pH", n))
    assert only(verdicts, pH=verdict)
    # of a segment where nothing is faulty
    assert verdicts.loc["pH", "n"] == 200 - n or verdict == "ok"


def test_the_reason_names_the_faulty_share(window, judge):
    row = judge(with_gaps(window, "pH", 30)).loc["pH"]
    assert row["value"] == 0.15
    assert row["value"] > row["threshold"] >= 0.02
    assert "15 % of 200 values are missing, against 0 % in the reference" in row["reason"]


def test_missing_values_as_in_the_reference_are_ok(held_out, window, judge):
    own = Reference.from_wines(with_gaps(held_out, "pH", 150))
    assert only(judge(with_gaps(window, "pH", 20), own))
    assert only(judge(with_gaps(window, "pH", 60), own), pH="data_quality")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("alcohol", 55.0, "outside of the plausible range"),
        ("alcohol", np.inf, "no finite number"),
        ("alcohol", "12.1", "no finite number"),
        ("type", "rosé", "of an unknown category"),
    ],
)
def test_faulty_values_are_a_matter_of_data_quality(column, value, words, window, judge):
    verdicts = judge(with_gaps(window, column, 12, value))
    assert only(verdicts, **{column: "data_quality"})
    assert f"6 % of 200 values are {words}" in verdicts.loc[column, "reason"]
    assert only(judge(with_gaps(window, column, 1, value)))


def test_drift_and_faults_together_are_drift_and_both_are_named(window, judge):
    wrong_unit = judge(window.assign(density=window["density"] * 1000))
    assert only(wrong_unit, density="drift")
    assert "outside of the plausible range" in wrong_unit.loc["density", "reason"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([None] * 200, "100 % of 200 values are missing"),
        ([np.inf, -np.inf] * 100, "100 % of 200 values are no finite number"),
        (["dry"] * 200, "100 % of 200 values are no finite number"),
        ([10.5] * 200, "all 200 values are 10.5, the reference's vary"),
        ([10.5] * 60 + [None] * 140, "all 60 values are 10.5"),
    ],
)
def test_a_column_that_cannot_be_judged_is_named_and_leaves_the_others_alone(
    values, words, window, judge
):
    clean, verdicts = judge(window), judge(window.assign(alcohol=values))
    assert only(verdicts, alcohol="data_quality")
    assert words in verdicts.loc["alcohol", "reason"]
    # what depends on several measurements is computed of others
    others = [column for column in COLUMNS if column != "alcohol"]
    pd.testing.assert_frame_equal(verdicts.loc[others], clean.loc[others])


@pytest.mark.parametrize("column", COLUMNS)
def test_an_absent_column_is_named_and_hides_no_other(column, window, judge):
    verdicts = judge(window.drop(columns=column))
    assert only(verdicts, **{column: "data_quality"})
    assert "the log has no such column" in verdicts.loc[column, "reason"]


def test_a_constant_that_the_reference_shares_is_ok(held_out, window, judge):
    own = Reference.from_wines(held_out.assign(pH=3.2))
    assert only(judge(window.assign(pH=3.2), own))
    assert only(judge(window.assign(pH=3.3), own), pH="drift")
    assert only(judge(window.assign(pH=3.1), own), pH="drift")


def test_a_value_that_most_wines_have_may_be_the_only_one(held_out, judge, draw_wines):
    """A classifier's predictions: 97 % of them six."""
    six = held_out.assign(prediction=np.where(held_out.index % 33 == 0, 5.0, 6.0))
    own = Reference.from_wines(six)
    assert only(judge(draw_wines(60, 9).assign(prediction=6.0), own))


def test_a_column_without_values_in_the_reference_is_not_judged(held_out, window, judge):
    verdicts = judge(window, Reference.from_wines(held_out.assign(pH=np.nan)))
    assert only(verdicts, pH="insufficient_data")
    assert "the reference has no values" in verdicts.loc["pH", "reason"]


def test_small_windows_are_not_judged(window, judge):
    small = judge(window.head(49).assign(alcohol=99.0))
    assert set(small["verdict"]) == {"insufficient_data"}
    assert "49 wines, fewer than the 50" in small.loc["pH", "reason"]
    assert small.loc["pH", ["value", "threshold", "psi"]].isna().all()


def test_too_few_values_for_a_judgement(held_out, window, judge):
    own = Reference.from_wines(with_gaps(held_out, "pH", 1200))
    verdicts = judge(with_gaps(window, "pH", 160), own)
    assert only(verdicts, pH="insufficient_data")
    assert "only 40 values to judge by" in verdicts.loc["pH", "reason"]


def test_windows_are_judged_apart(window, reference, as_log):
    day = as_log(window)
    later = day.assign(
        event_time=day["event_time"] + pd.Timedelta("12h"), alcohol=day["alcohol"] + 3
    )
    profile = count(pd.concat([day, later]), reference, 12 * 3600)
    verdicts = decide(profile, profile.starts + 12 * 3600, reference, "4", SETTINGS)
    assert len(verdicts) == 2 * len(SUBJECTS)
    assert set(verdicts["model_version"]) == {"4"}
    drifted = verdicts[(verdicts["verdict"] == "drift") & (verdicts["column"] != JOINT)]
    assert drifted["column"].tolist() == ["alcohol"]
    assert drifted["window_start"].tolist() == [pd.Timestamp("2026-03-01T12:00", tz="UTC")]
    assert (verdicts["window_end"] - verdicts["window_start"] == pd.Timedelta("12h")).all()
    alone = window_profile(later, reference)
    expected = decide(alone, alone.starts + 12 * 3600, reference, "4", SETTINGS)
    moments = ["window_start", "window_end"]
    pd.testing.assert_frame_equal(
        verdicts[len(SUBJECTS) :].drop(columns=moments).reset_index(drop=True),
        expected.drop(columns=moments),
    )


def test_no_data_gives_no_verdicts_of_the_right_types(window, reference, as_log):
    profile = count(as_log(window).head(0), reference)
    verdicts = decide(profile, profile.starts, reference, "3", SETTINGS)
    assert verdicts.empty
    assert verdicts.dtypes.astype(str).to_dict() == VERDICTS_DTYPES


# Segments


@pytest.fixture(scope="module")
def many(draw_wines):
    return draw_wines(500, 79)


def test_a_shift_of_one_type_is_found_there(many, held_out, judge):
    is_red = many["type"] == "red"
    shift = 0.8 * held_out.loc[held_out["type"] == "red", "sulphates"].std()
    row = judge(many.assign(sulphates=many["sulphates"] + shift * is_red)).loc["sulphates"]
    assert (row["verdict"], row["segment"]) == ("drift", "red")
    assert row["n"] == is_red.sum()
    assert row["reason"].startswith("among red wines: score ")


def test_half_a_standard_deviation_on_a_quarter_of_the_wines_is_mostly_found(draw_wines, judge):
    hits = 0
    for seed in range(20):
        wines = draw_wines(500, 200 + seed)
        is_red = wines["type"] == "red"
        moved = wines["pH"] + 0.5 * wines["pH"].std() * is_red
        hits += judge(wines.assign(pH=moved)).loc["pH", "verdict"] == "drift"
    assert hits >= 12


@pytest.mark.parametrize("kind", ["red", "white"])
def test_with_one_type_alone_only_the_shares_of_types_drift(kind, draw_wines, held_out, judge):
    own = Reference.from_wines(held_out)
    wines = draw_wines(900, 80)
    verdicts = judge(wines[wines["type"] == kind], own)
    assert only(verdicts, type="drift", joint="ok")
    scored = verdicts.drop(index=[COPIES])
    assert scored["value"].notna().all()
    assert scored["threshold"].notna().all()


def test_a_type_too_rare_to_be_judged_hides_nothing(window, judge):
    rare = window.assign(type=np.where(window.index < 9, "red", "white"))
    verdicts = judge(rare.assign(pH=rare["pH"] + rare["pH"].std()))
    assert verdicts.loc["pH", "verdict"] == "drift"
    assert verdicts["value"].notna().all()
    assert set(verdicts["segment"]) <= {"all", "white"}


# How measurements go together


def test_ordinary_wines_go_together_as_before(many, judge):
    row = judge(many).loc[JOINT]
    assert row["verdict"] == "ok"
    assert row["value"] < row["threshold"]


def related(wines, slope):
    """Wines in which alcohol follows from density; a negative slope as in the reference."""
    z = (wines["density"] - 0.9947) / 0.003
    rng = np.random.default_rng(len(wines))
    return wines.assign(alcohol=10.5 + slope * z + 0.4 * rng.normal(size=len(wines)))


@pytest.mark.parametrize("kind", ["permuted", "flipped"])
def test_a_broken_relation_is_found_and_the_pair_named(kind, held_out, many, judge):
    own = Reference.from_wines(related(held_out, -1.0))
    wines = related(many, -1.0 if kind == "permuted" else 1.0)
    if kind == "permuted":
        shuffled = wines["alcohol"].sample(frac=1, random_state=1).to_numpy()
        wines = wines.assign(alcohol=shuffled)
    verdicts = judge(wines, own)
    assert only(verdicts, joint="drift")
    reason = verdicts.loc[JOINT, "reason"]
    assert "no longer go together: density and alcohol" in reason
    assert re.search(r"correlation \N{MINUS SIGN}0\.\d\d → ", reason)
    assert only(judge(related(many, -1.0), own), joint="ok")


# Copies


@pytest.mark.parametrize("times", [2, 3])
def test_wines_that_come_several_times_are_named_and_raise_no_drift(times, draw_wines, judge):
    drifted = 0
    for seed in range(12):
        verdicts = judge(pd.concat([draw_wines(200, 300 + seed)] * times))
        row = verdicts.loc[COPIES]
        assert row["verdict"] == "data_quality"
        assert row["value"] == pytest.approx(times, rel=0.25)
        drifted += (verdicts["verdict"] == "drift").any()
    # one in a hundred is expected
    assert drifted <= 1


def test_a_health_probe_is_named(draw_wines, judge):
    wines = draw_wines(140, 81)
    verdicts = judge(pd.concat([wines, *[wines.head(1)] * 60]))
    row = verdicts.loc[COPIES]
    assert row["verdict"] == "data_quality"
    assert re.search(r"about (5\d|6\d) of 200 wines are the same one", row["reason"])
    # worth ten different wines: too few to judge the others by
    assert not (verdicts["verdict"] == "drift").any()


def test_wines_that_all_differ_are_no_copies(many, judge):
    row = judge(many).loc[COPIES]
    assert row["verdict"] == "ok"
    assert row["value"] <= row["threshold"]


# Impossible wines


def test_a_part_larger_than_its_total_is_a_fault(window, judge):
    few, some = (
        window.assign(**{PART: window[PART].where(window.index >= n, window[WHOLE] * 1.01)})
        for n in (1, 14)
    )
    assert judge(few).loc[PART, "verdict"] == "ok"
    row = judge(some).loc[PART]
    words = "7 % of 200 values are more than total sulfur dioxide, of which they are a part"
    assert words in row["reason"]
    assert row["verdict"] in ("data_quality", "drift")


# Whatever comes


def odd_windows(window):
    return {
        "one wine": window.head(1),
        "no type": window.assign(type=None),
        "no labels": window.assign(quality=np.nan),
        "absurd": window.assign(**dict.fromkeys(MEASUREMENT_NAMES, 1e300)),
        "the same wine": pd.concat([window.head(1)] * 200),
        "empty": window.map(lambda _: None),
        "no columns": window[[]],
        "infinite": window.assign(prediction=np.inf),
    }


ODD_REFERENCES = {
    "ordinary": lambda w: w,
    "thirty wines": lambda w: w.head(30),
    "a hundred reds": lambda w: pd.concat(
        [w[w["type"] == "white"], w[w["type"] == "red"].head(100)]
    ),
    "one type": lambda w: w.assign(type="white"),
    "an empty measurement": lambda w: w.assign(pH=np.nan),
    "no labels": lambda w: w.assign(quality=np.nan),
    "constant": lambda w: w.assign(**{m: w[m].iloc[0] for m in MEASUREMENT_NAMES}),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ODD_REFERENCES)
def test_odd_wines_are_judged_without_a_warning(kind, window, held_out, judge):
    own = Reference.from_wines(ODD_REFERENCES[kind](held_out))
    few = DriftSettings(resamples=500)
    for name, wines in {"ordinary": window, **odd_windows(window)}.items():
        verdicts = judge(wines, own, few)
        judged = verdicts["verdict"].isin(["ok", "drift"])
        assert verdicts.loc[judged, "value"].notna().all(), name
        assert (verdicts["reason"] != "").all()
        assert not verdicts["reason"].str.contains("nan").any(), name


def test_the_limit_of_a_share_of_faults_is_that_of_the_beta_binomial():
    generator = np.random.default_rng(11)
    for _ in range(200):
        reference_rows, rows = (int(10**power) for power in generator.uniform(1, 4, 2))
        usual = int(generator.integers(0, reference_rows + 1) * generator.choice([0, 0.01, 1]))
        rate = 10 ** generator.uniform(-6, -1)
        expected = betabinom.isf(rate, rows, usual + 0.5, reference_rows - usual + 0.5)
        assert _chance_limit(usual, reference_rows, rows, rate) == expected / rows
