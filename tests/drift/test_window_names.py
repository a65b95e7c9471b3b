from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wine_quality.drift.window_names import (
    DAY,
    MINUTE,
    SECOND,
    folder_name,
    in_words,
    read_folder_name,
    shortest_form,
    span_in_words,
)

START = datetime(2026, 1, 3, tzinfo=UTC)
SECONDS = st.integers(0, 10**9).map(lambda n: START + timedelta(seconds=n))


def test_seconds_are_told_only_where_there_are_any():
    assert in_words(START) == "2026-01-03 00:00"
    assert in_words(START + timedelta(seconds=5)) == "2026-01-03 00:00:05"


@pytest.mark.parametrize(
    ("hours", "length", "words"),
    [
        (0, "1D", "2026-01-03"),
        (0, "2D", "2026-01-03 to 2026-01-04"),
        (9, "1h", "2026-01-03 09:00 to 10:00"),
        (23, "1h", "2026-01-03 23:00 to 24:00"),
        (0, "1h", "2026-01-03 00:00 to 01:00"),
        (12, "12h", "2026-01-03 12:00 to 24:00"),
        (20, "6h", "2026-01-03 20:00 to 2026-01-04 02:00"),
        (9, "90s", "2026-01-03 09:00 to 09:01:30"),
    ],
)
def test_a_stretch_of_time_is_named_shortly(hours, length, words):
    start = START + timedelta(hours=hours)
    assert span_in_words(start, start + pd.Timedelta(length)) == words


@given(SECONDS, SECONDS)
def test_different_windows_have_different_names_that_sort_by_time(one, other):
    for name in (in_words, lambda start: folder_name(start, "1")):
        assert (name(one) == name(other)) == (one == other)
    assert (folder_name(one, "1") < folder_name(other, "1")) == (one < other)


@given(SECONDS, st.sampled_from(["1", "12", "2_v3"]))
def test_a_folders_name_is_read_back(start, version):
    assert read_folder_name(folder_name(start, version)) == (start.replace(tzinfo=None), version)


@pytest.mark.parametrize(
    ("length", "form"), [("1D", DAY), ("6h", MINUTE), ("15min", MINUTE), ("90s", SECOND)]
)
def test_starts_are_written_no_longer_than_it_takes_to_tell_them_apart(length, form):
    starts = pd.date_range(START, periods=9, freq=length)
    assert shortest_form(starts) == form
    assert starts.strftime(form).is_unique
