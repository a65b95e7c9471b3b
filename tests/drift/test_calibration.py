import numpy as np
import pytest

from wine_quality.drift.calibration import (
    DRIFT_COLUMNS,
    calibrate,
    expected_repetition,
    reference_counts,
    round_down,
)
from wine_quality.drift.profiles import count
from wine_quality.drift.reference import ALL, SEGMENTS, Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import decide


@pytest.mark.parametrize(
    ("n", "rounded"), [(1, 1), (99, 99), (100, 100), (129, 120), (1378, 1300), (100_999, 100_000)]
)
def test_sizes_are_rounded_down_to_two_digits(n, rounded):
    assert round_down(n) == rounded


def test_thresholds_are_shared_by_windows_of_nearly_one_size(reference):
    settings = DriftSettings(resamples=500)
    first = calibrate(reference, ALL, 1378, settings)
    assert calibrate(reference, ALL, 1300.4, settings) is first
    assert calibrate(reference, ALL, 1400, settings) is not first
    assert calibrate(reference, "red", 1300, settings) is not first


def test_an_equal_reference_finds_the_same_threshold_and_another_seed_another(held_out, reference):
    settings = DriftSettings(seed=4, resamples=500)
    again = calibrate(Reference.from_wines(held_out), ALL, 200, settings)
    assert again is calibrate(reference, ALL, 200, settings)
    other = calibrate(reference, ALL, 200, settings.model_copy(update={"seed": 5}))
    assert other.threshold != again.threshold
    lax = calibrate(reference, ALL, 200, settings.model_copy(update={"false_alarm_rate": 0.1}))
    assert lax.threshold < again.threshold


def test_the_counts_of_all_wines_are_those_of_the_types_together(reference):
    parts = [reference_counts(reference, segment, "pH") for segment in SEGMENTS]
    assert (parts[0] == parts[1] + parts[2]).all()
    assert parts[0].sum() == reference.rows


def test_a_column_that_hardly_varies_does_not_lift_the_threshold(held_out, reference):
    settings = DriftSettings()
    usual = calibrate(reference, ALL, 200, settings).threshold
    rare = Reference.from_wines(held_out.assign(pH=np.where(held_out.index < 2, 3.9, 3.2)))
    assert calibrate(rare, ALL, 200, settings).threshold < 1.15 * usual


@pytest.mark.filterwarnings("error")
def test_a_reference_without_a_single_number_still_calibrates(held_out):
    reference = Reference.from_wines(held_out.assign(pH=np.nan, type="red"))
    settings = DriftSettings(resamples=500)
    calibration = calibrate(reference, ALL, 200, settings)
    assert np.isnan(calibration.mean[DRIFT_COLUMNS.index("pH")])
    assert np.isfinite(calibration.threshold)
    # nor does a type of which there is no wine
    assert np.isnan(calibrate(reference, "white", 200, settings).mean).all()


def test_repeated_wines_are_worth_less():
    assert expected_repetition(100, 1500, 1.0) == 1
    assert expected_repetition(100, 1500, 1.5) == pytest.approx(1 + 0.5 / 16)
    # a window as large as the stock repeats its wines as the reference does
    assert expected_repetition(10**9, 1500, 1.5) == pytest.approx(1.5, rel=1e-5)


def flagged_windows(held_out, windows, as_log, per_day, settings) -> float:
    reference = Reference.from_wines(held_out)
    profile = count(as_log(windows, per_day), reference)
    verdicts = decide(profile, profile.starts + 86_400, reference, "1", settings)
    return (verdicts["verdict"] == "drift").groupby(verdicts["window_start"]).any().mean()


@pytest.mark.slow
def test_false_alarms_keep_to_the_chosen_rate(draw_wines, as_log):
    settings = DriftSettings(false_alarm_rate=0.05, resamples=500, min_share_moved=0)
    rates = [
        flagged_windows(draw_wines(1200, s), draw_wines(20_000, 100 + s), as_log, 200, settings)
        for s in range(5)
    ]
    # 500 windows over all columns and segments: 25 expected at most
    assert 0.01 <= np.mean(rates) <= 0.075


@pytest.mark.slow
def test_repeated_wines_raise_no_more_alarms(draw_wines, as_log):
    """References in which each wine occurs three times, windows of other wines, once each."""
    settings = DriftSettings(false_alarm_rate=0.05, resamples=500)
    reckoned, ignored = [], []
    for s in range(4):
        held_out = draw_wines(300, s).iloc[np.repeat(np.arange(300), 3)].reset_index(drop=True)
        # a trace on one measurement hides the repetition, and changes nothing else
        hidden = held_out.assign(pH=held_out["pH"] + 1e-9 * held_out.index)
        windows = draw_wines(4000, 100 + s)
        reckoned.append(flagged_windows(held_out, windows, as_log, 400, settings))
        ignored.append(flagged_windows(hidden, windows, as_log, 400, settings))
    assert np.mean(reckoned) <= 0.1
    assert np.mean(ignored) >= 0.2
