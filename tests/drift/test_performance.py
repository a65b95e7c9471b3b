import numpy as np
import pandas as pd
import pytest

from wine_quality.drift.performance import PERFORMANCE_DTYPES, judge_performance
from wine_quality.drift.profiles import Reference, profile_windows
from wine_quality.drift.settings import DriftSettings


@pytest.fixture(scope="module")
def judge(reference, as_log):
    """Judge the model on wines as one day's window: rows by segment."""

    def judge(wines, against=reference, settings=DriftSettings()):  # noqa: B008
        verdicts = judge_performance(profile_windows(as_log(wines), against), against, settings)
        return verdicts.set_index("segment").loc[["all", "red", "white"]]

    return judge


@pytest.fixture(scope="module")
def window(draw_wines):
    return draw_wines(400, 78)


def test_the_figures_are_those_of_the_labelled_wines(window, reference, judge):
    labelled = window.assign(quality=window["quality"].where(window.index < 300))
    row = judge(labelled).loc["all"]
    error = (window["prediction"] - window["quality"])[:300]
    assert row["n"] == 300
    assert row["mae"] == pytest.approx(error.abs().mean())
    assert row["rmse"] == pytest.approx((error**2).mean() ** 0.5)
    assert row["bias"] == pytest.approx(error.mean())
    assert row["accuracy_within_half"] == pytest.approx((error.abs() <= 0.5).mean())
    assert row["accuracy_within_one"] == pytest.approx((error.abs() <= 1).mean())
    sums = sum(np.array(e.sums) for e in reference.errors)
    assert row["reference_mae"] == pytest.approx(sums[2] / sums[0])


def test_a_model_as_good_as_before_is_ok(window, judge):
    verdicts = judge(window)
    assert set(verdicts["verdict"]) == {"ok"}
    assert "is within" in verdicts.loc["all", "reason"]


@pytest.mark.parametrize("by", [-0.6, 0.6])
def test_a_model_that_errs_more_has_decayed(by, window, judge):
    verdicts = judge(window.assign(prediction=window["prediction"] + by))
    assert verdicts.loc["all", "verdict"] == "decayed"
    assert verdicts.loc["all", "value"] > verdicts.loc["all", "threshold"]
    assert verdicts.loc["all", "bias"] == pytest.approx(by, abs=0.1)
    assert "exceeds" in verdicts.loc["all", "reason"]
    assert verdicts.loc["all", "reason"].startswith("all: mean absolute error 0.")


def test_a_model_that_errs_less_has_not_decayed(window, judge):
    verdicts = judge(window.assign(prediction=window["quality"]))
    assert set(verdicts["verdict"]) == {"ok"}
    assert (verdicts["value"] < -5).all()


def test_decay_on_one_type_is_seen_there(window, judge):
    red = window["type"] == "red"
    verdicts = judge(window.assign(prediction=window["prediction"] + np.where(red, 0.8, 0)))
    assert verdicts.loc["red", "verdict"] == "decayed"
    assert verdicts.loc["white", "verdict"] == "ok"


def test_without_labels_that_is_the_verdict(window, judge):
    verdicts = judge(window.assign(quality=np.nan))
    assert set(verdicts["verdict"]) == {"no_labels"}
    assert (verdicts["n"] == 0).all()
    assert verdicts[["value", "threshold", "mae"]].isna().all(axis=None)
    assert verdicts.loc["red", "reason"] == "red: no ground truth yet"


def test_thousands_are_set_off_in_reasons(window, judge):
    assert "at 1,200 labelled wines" in judge(pd.concat([window] * 3)).loc["all", "reason"]


def test_few_labels_are_not_judged(window, judge):
    verdicts = judge(window.head(60).assign(prediction=0.0))
    assert verdicts.loc["all", "verdict"] == "decayed"
    assert verdicts.loc["red", "verdict"] == "insufficient_data"
    assert "labelled wines are fewer than the 50" in verdicts.loc["red", "reason"]
    fewer = judge(window.head(49).assign(prediction=0.0))
    assert set(fewer["verdict"]) == {"insufficient_data"}
    assert fewer["threshold"].isna().all()


def test_few_held_out_wines_of_a_type_are_not_a_reference(held_out, window, judge):
    reds = held_out[held_out["type"] == "red"].head(20)
    own = Reference.from_wines(pd.concat([held_out[held_out["type"] == "white"], reds]))
    verdicts = judge(window, own)
    assert verdicts.loc["red", "verdict"] == "insufficient_data"
    assert "20 held-out wines are fewer" in verdicts.loc["red", "reason"]


def test_wines_of_unknown_type_count_among_all(window, judge):
    assert judge(window.assign(type="rosé"))["n"].tolist() == [400, 0, 0]


def test_a_small_rise_is_too_small_to_matter(draw_wines, judge):
    own = Reference.from_wines(draw_wines(20_000, 3))
    wines = draw_wines(20_000, 4)
    worse = wines.assign(
        prediction=wines["quality"] + 1.05 * (wines["prediction"] - wines["quality"])
    )
    row = judge(worse, own).loc["all"]
    assert row["value"] > row["threshold"]
    assert row["verdict"] == "ok"
    assert "too small to matter" in row["reason"]
    strict = judge(worse, own, DriftSettings(min_mae_rise=0.0))
    assert strict.loc["all", "verdict"] == "decayed"


def test_false_alarms_keep_to_the_chosen_rate(draw_wines, as_log):
    settings = DriftSettings(false_alarm_rate=0.05, resamples=500, min_mae_rise=0)
    flagged = []
    for seed in range(10):
        own = Reference.from_wines(draw_wines(800, seed))
        profile = profile_windows(as_log(draw_wines(12_000, 60 + seed), 240), own)
        verdicts = judge_performance(profile, own, settings)
        decayed = verdicts["verdict"] == "decayed"
        flagged += decayed.groupby(verdicts["window_start"]).any().tolist()
    # 500 windows in ten groups that share a reference: 25 expected
    assert 0.015 <= np.mean(flagged) <= 0.09


def test_no_data_gives_no_verdicts_of_the_right_types(window, reference, as_log):
    profile = profile_windows(as_log(window).head(0), reference)
    verdicts = judge_performance(profile, reference, DriftSettings())
    assert verdicts.empty
    assert verdicts.dtypes.astype(str).to_dict() == PERFORMANCE_DTYPES
