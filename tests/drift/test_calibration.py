import numpy as np
import pytest

from wine_quality.drift.calibration import calibrate, independent_sizes, round_down
from wine_quality.drift.profiles import Reference, profile_windows
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import decide


@pytest.mark.parametrize(
    ("n", "rounded"), [(1, 1), (99, 99), (100, 100), (129, 120), (1378, 1300), (100_999, 100_000)]
)
def test_sizes_are_rounded_down_to_two_digits(n, rounded):
    assert round_down(n) == rounded


def test_thresholds_are_shared_by_windows_of_nearly_one_size(reference):
    settings = DriftSettings()
    assert calibrate(reference, 1378, settings) is calibrate(reference, 1300, settings)
    assert calibrate(reference, 1400, settings) is not calibrate(reference, 1300, settings)


def test_a_threshold_is_a_matter_of_reference_size_and_seed(held_out, reference):
    again = calibrate(Reference.from_wines(held_out), 200, DriftSettings(seed=4))
    assert again == calibrate(reference, 200, DriftSettings(seed=4))
    assert again != calibrate(reference, 200, DriftSettings(seed=5))
    strict = calibrate(reference, 200, DriftSettings(seed=4, false_alarm_rate=0.1))
    assert strict.threshold < again.threshold


def test_a_column_that_hardly_varies_does_not_lift_the_threshold(held_out, reference):
    settings = DriftSettings()
    usual = calibrate(reference, 200, settings).threshold
    rare = held_out.assign(pH=np.where(held_out.index < 2, 3.9, 3.2))
    assert calibrate(Reference.from_wines(rare), 200, settings).threshold < 1.15 * usual


def test_a_reference_without_a_single_number_still_calibrates(held_out):
    calibration = calibrate(Reference.from_wines(held_out.assign(pH=np.nan)), 200, DriftSettings())
    assert "pH" not in calibration.mean
    assert np.isfinite(calibration.threshold)


def test_repeated_wines_are_worth_less():
    assert independent_sizes(100, 1500, 1.0) == (100, 1500)
    n, m = independent_sizes(100, 1500, 1.5)
    assert m == 1000
    assert n == pytest.approx(100 / (1 + 0.5 / 16))
    # a window as large as the stock repeats its wines as the reference does
    assert independent_sizes(10**9, 1500, 1.5)[0] == pytest.approx(10**9 / 1.5, rel=1e-5)


def flagged_windows(held_out, windows, as_log, per_day, settings) -> float:
    reference = Reference.from_wines(held_out)
    verdicts = decide(profile_windows(as_log(windows, per_day), reference), reference, settings)
    return (verdicts["verdict"] == "drift").groupby(verdicts["window_start"]).any().mean()


def test_false_alarms_keep_to_the_chosen_rate(draw_wines, as_log):
    settings = DriftSettings(false_alarm_rate=0.05, resamples=500)
    rates = [
        flagged_windows(draw_wines(800, s), draw_wines(6000, 100 + s), as_log, 60, settings)
        for s in range(5)
    ]
    # 500 windows: 25 expected; correlated columns make them fewer, never many more
    assert 0.01 <= np.mean(rates) <= 0.075


def test_repeated_wines_raise_no_more_alarms(draw_wines, as_log):
    """References in which each wine occurs three times, windows of other wines, once each."""
    settings = DriftSettings(false_alarm_rate=0.05, resamples=500)
    reckoned, ignored = [], []
    for s in range(6):
        held_out = draw_wines(300, s).iloc[np.repeat(np.arange(300), 3)].reset_index(drop=True)
        # a trace on one measurement hides the repetition, and changes nothing else
        hidden = held_out.assign(pH=held_out["pH"] + 1e-9 * held_out.index)
        windows = draw_wines(4000, 100 + s)
        reckoned.append(flagged_windows(held_out, windows, as_log, 400, settings))
        ignored.append(flagged_windows(hidden, windows, as_log, 400, settings))
    assert np.mean(reckoned) <= 0.1
    assert np.mean(ignored) >= 0.2
