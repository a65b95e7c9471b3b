import pandas as pd
import pytest
from pydantic import ValidationError

from wine_quality.drift.settings import DriftSettings, window_length


@pytest.mark.parametrize(
    ("window", "length"), [("1D", "24h"), ("6h", "6h"), ("15min", "15min"), ("1W", "168h")]
)
def test_windows_are_lengths_of_time(window, length):
    assert window_length(window) == pd.Timedelta(length)


@pytest.mark.parametrize("window", ["", "a month", "0s", "-1D", "500ms", "7"])
def test_a_window_without_a_fixed_whole_length_is_refused(window):
    with pytest.raises(ValidationError, match="window"):
        DriftSettings(window=window)


def test_a_threshold_needs_resamples_beyond_it():
    with pytest.raises(ValidationError, match="set resamples to 5000 or more"):
        DriftSettings(false_alarm_rate=0.001)
    assert DriftSettings(false_alarm_rate=0.001, resamples=5000).resamples == 5000


def test_a_column_to_leave_out_has_to_be_one():
    assert DriftSettings(columns_left_out=["pH", "joint"]).columns_left_out == ("pH", "joint")
    with pytest.raises(ValidationError, match="there is no column 'ph', choose type, "):
        DriftSettings(columns_left_out=["ph"])


def test_an_unknown_key_is_refused_by_name():
    with pytest.raises(ValidationError, match="treshold"):
        DriftSettings(treshold=3)
