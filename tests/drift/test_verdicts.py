import numpy as np
import pandas as pd
import pytest

from wine_quality.drift.profiles import Reference, profile_windows
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import VERDICTS_DTYPES, decide
from wine_quality.errors import WineQualityError
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, PREDICTION

COLUMNS = [*INPUTS, PREDICTION]
SETTINGS = DriftSettings()


@pytest.fixture(scope="module")
def judge(reference, as_log):
    """Judge wines as one day's window: verdicts by column."""

    def judge(wines, against=reference, settings=SETTINGS):
        verdicts = decide(profile_windows(as_log(wines), against), against, settings)
        return verdicts.set_index("column").loc[COLUMNS]

    return judge


@pytest.fixture(scope="module")
def window(draw_wines):
    return draw_wines(200, 77)


def only(verdicts: pd.DataFrame, **expected: str) -> bool:
    """Whether the named columns have these verdicts, and all others are ok."""
    return verdicts["verdict"].to_dict() == {c: expected.get(c, "ok") for c in COLUMNS}


def with_gaps(wines: pd.DataFrame, column: str, n: int, value: object = None) -> pd.DataFrame:
    """Replace the first n values of a column."""
    values = wines[column].astype(object).tolist()
    return wines.assign(**{column: [value] * n + values[n:]})


@pytest.mark.parametrize("n", [50, 100, 400, 2000])
def test_unchanged_wines_are_quiet(n, draw_wines, as_log):
    """Of windows held against ten references about one in a hundred may be flagged."""
    flagged = []
    for seed in range(10):
        own = Reference.from_wines(draw_wines(1000, seed))
        log = as_log(draw_wines(max(2000, 20 * n), 500 + seed), n)
        verdicts = decide(profile_windows(log, own), own, SETTINGS)
        flagged += (verdicts["verdict"] != "ok").groupby(verdicts["window_start"]).any().tolist()
    expected = 0.01 * len(flagged)
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
    assert reason.startswith("alcohol: score ")
    assert "exceeds" in reason
    assert "at 200 wines; median moved from 10.44 to 12.57, PSI 2.6" in reason
    assert "share of red moved from 26.8 % to 100 %" in verdicts.loc["type", "reason"]
    assert "is within" in verdicts.loc["pH", "reason"]
    # next to nothing is not written as nothing at all
    alike = verdicts["psi"] < 0.001
    assert alike.any()
    assert verdicts["reason"].str.endswith(", PSI < 0.001").tolist() == alike.tolist()


def test_thousands_are_set_off_in_reasons(window, judge):
    verdicts = judge(pd.concat([window] * 6))
    assert "at 1,200 wines" in verdicts.loc["alcohol", "reason"]
    verdicts = judge(pd.concat([window] * 6).assign(pH=np.nan))
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
    assert verdicts.loc["pH", "n"] == 200 - n


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
    pd.testing.assert_frame_equal(verdicts.drop("alcohol"), clean.drop("alcohol"))


@pytest.mark.parametrize("column", COLUMNS)
def test_an_absent_column_is_named(column, window, judge):
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
    assert "49 wines are fewer than the 50" in small.loc["pH", "reason"]
    assert small.loc["pH", ["value", "threshold", "psi"]].isna().all()


def test_too_few_values_for_a_judgement(held_out, window, judge):
    own = Reference.from_wines(with_gaps(held_out, "pH", 1200))
    verdicts = judge(with_gaps(window, "pH", 160), own)
    assert only(verdicts, pH="insufficient_data")
    assert "only 40 wines have a value" in verdicts.loc["pH", "reason"]


def test_windows_and_versions_are_judged_apart(window, reference, as_log):
    day = as_log(window)
    moved = day.assign(alcohol=day["alcohol"] + 3, model_version="4")
    later = day.assign(event_time=day["event_time"] + pd.Timedelta("12h"))
    settings = DriftSettings(window="12h")
    profile = profile_windows(pd.concat([day, moved, later]), reference, "12h")
    verdicts = decide(profile, reference, settings)
    assert len(verdicts) == 3 * len(COLUMNS)
    drifted = verdicts[verdicts["verdict"] == "drift"]
    assert drifted[["model_version", "column"]].to_numpy().tolist() == [["4", "alcohol"]]
    assert (verdicts["window_end"] - verdicts["window_start"] == pd.Timedelta("12h")).all()
    assert verdicts["window_start"].min() == pd.Timestamp("2026-03-01", tz="UTC")


def test_no_data_gives_no_verdicts_of_the_right_types(window, reference, as_log):
    verdicts = decide(profile_windows(as_log(window).head(0), reference), reference, SETTINGS)
    assert verdicts.empty
    assert verdicts.dtypes.astype(str).to_dict() == VERDICTS_DTYPES


def test_a_profile_without_a_column_of_the_reference_is_refused(window, reference, as_log):
    profile = profile_windows(as_log(window), reference)
    rest = profile.counts[profile.counts["column"] != "pH"]
    with pytest.raises(WineQualityError, match="does not count pH"):
        decide(type(profile)(rest, profile.errors), reference, SETTINGS)


def test_nothing_is_mutated(window, reference, as_log):
    log = as_log(window)
    before = log.copy(deep=True)
    profile = profile_windows(log, reference)
    counts = profile.counts.copy(deep=True)
    decide(profile, reference, SETTINGS)
    pd.testing.assert_frame_equal(log, before)
    pd.testing.assert_frame_equal(profile.counts, counts)
