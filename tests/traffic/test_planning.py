"""Planning: which wines come and when, the same for the same seed however they are cut."""

import itertools
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from pydantic import ValidationError

from wine_quality.contracts import LABELLED_WINES
from wine_quality.errors import WineQualityError
from wine_quality.traffic import planning
from wine_quality.traffic.planning import Rhythm, plan_traffic
from wine_quality.wines import INPUTS

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = pd.Timedelta(hours=1)


def plan(wines: pd.DataFrame | None, **changes: Any) -> pd.DataFrame:
    arguments = {"samples": 95, "start": NOON, "duration": DAY, "seed": 1, **changes}
    return pd.concat(plan_traffic(wines, **arguments))


@given(
    samples=st.integers(1, 60),
    wines=st.integers(1, 40),
    seed=st.integers(0, 2**64 - 1),
    duration=st.timedeltas(timedelta(microseconds=1), timedelta(days=400)),
    amplitude=st.floats(0, 1),
)
def test_a_plan_holds_what_was_asked_for(make_wines, samples, wines, seed, duration, amplitude):
    pool = make_wines(wines)
    rhythm = Rhythm(amplitude=amplitude)
    asked = {"samples": samples, "duration": duration, "seed": seed, "rhythm": rhythm}
    planned = plan(pool, **asked)

    assert list(planned) == [*pool, "event_time"]
    assert planned.index.tolist() == list(range(samples))
    assert str(planned["event_time"].dtype) == "datetime64[us, UTC]"
    assert planned["event_time"].is_monotonic_increasing
    assert planned["event_time"].between(NOON, NOON + duration, inclusive="left").all()
    drawn = planned.drop(columns="event_time")
    assert len(drawn.merge(pool)) == samples
    # none comes once more before all the others have come
    times = drawn.value_counts().reindex(pd.MultiIndex.from_frame(pool), fill_value=0)
    assert times.max() - times.min() <= 1
    assert_frame_equal(planned, plan(pool, **asked))


@settings(max_examples=40)
@given(
    samples=st.integers(1, 300),
    chunk_rows=st.integers(1, 120),
    seed=st.integers(0, 2**64 - 1),
    synthetic=st.booleans(),
)
def test_the_rows_do_not_depend_on_the_chunks(make_wines, samples, chunk_rows, seed, synthetic):
    pool = None if synthetic else make_wines(50)
    asked = {"samples": samples, "start": NOON, "duration": 3 * DAY, "seed": seed}
    parts = list(plan_traffic(pool, **asked, chunk_rows=chunk_rows))
    assert [len(part) for part in parts[:-1]] == [chunk_rows] * (len(parts) - 1)
    assert_frame_equal(pd.concat(parts), plan(pool, **asked), check_index_type=False)


def test_synthetic_wines_are_drawn_anew_for_every_seed() -> None:
    one, other = plan(None, seed=1), plan(None, seed=2)
    assert_frame_equal(LABELLED_WINES.validate(one), one)
    assert not one[list(INPUTS)].equals(other[list(INPUTS)])


def test_the_first_of_ten_million_wines_come_at_once() -> None:
    traffic = plan_traffic(
        None, samples=10_000_000, start=NOON, duration=DAY, seed=1, chunk_rows=1000
    )
    first, second = itertools.islice(traffic, 2)
    assert second["event_time"].iloc[-1] < pd.Timestamp(NOON) + HOUR
    assert second.index[0] == len(first) == 1000


def test_even_event_times_fill_the_duration(make_wines) -> None:
    hours = (plan(make_wines(200), samples=2_400)["event_time"] - NOON) // HOUR
    per_hour = hours.value_counts()
    assert len(per_hour) == 24
    assert per_hour.between(60, 140).all()


def test_a_daily_rhythm_has_its_peak_and_its_ebb(make_wines) -> None:
    rhythm = Rhythm(amplitude=0.8, peak_hour=15)
    planned = plan(make_wines(200), samples=40_000, duration=4 * DAY, rhythm=rhythm)
    per_hour = planned["event_time"].dt.hour.value_counts().sort_index()
    middle = np.arange(24) + 0.5
    expected = 40_000 / 24 * (1 + 0.8 * np.cos(2 * np.pi * (middle - 15) / 24))
    np.testing.assert_allclose(per_hour, expected, atol=5 * np.sqrt(expected.max()))
    assert per_hour.idxmax() in (13, 14, 15, 16)


def test_many_wines_in_a_short_time_are_sliced(monkeypatch) -> None:
    """No slice is large, whatever the duration: that bounds the memory."""
    monkeypatch.setattr(planning, "_SLICE_WINES", 100)
    first = pd.Timestamp(NOON)
    duration = timedelta(minutes=10)
    slices = list(planning._offsets(5_000, first, duration, planning.EVEN, 1))
    assert len(slices) == 50
    assert max(part.size for part in slices) < 200
    assert sum(part.size for part in slices) == 5_000


def test_the_seed_says_which_wines_and_when(make_wines) -> None:
    one, other = plan(make_wines(200), seed=1), plan(make_wines(200), seed=2)
    assert not one[list(INPUTS)].equals(other[list(INPUTS)])
    assert not one["event_time"].equals(other["event_time"])


def test_the_start_may_be_given_in_any_timezone(make_wines) -> None:
    local = plan(make_wines(200), start=NOON.astimezone(timezone(timedelta(hours=9))))
    assert_frame_equal(local, plan(make_wines(200)))


def test_what_is_no_wine_is_left_behind(make_wines) -> None:
    planned = plan(make_wines(200).assign(line=1))
    assert "line" not in planned
    assert list(plan(make_wines(200).drop(columns="quality")))[-1] == "event_time"


@pytest.mark.parametrize(
    ("wines", "changes", "message"),
    [
        (9, {"samples": 0}, "samples must be 1 or more, not 0"),
        (0, {}, "no wines to send"),
        (9, {"duration": timedelta(0)}, "duration of the traffic must be above 0"),
        (9, {"duration": -DAY}, "duration of the traffic must be above 0"),
        (9, {"start": datetime(2026, 1, 31)}, "start needs a date with a timezone"),
    ],
)
def test_an_impossible_plan_is_refused(make_wines, wines, changes, message) -> None:
    with pytest.raises(WineQualityError, match=message):
        plan(make_wines(wines), **changes)


@pytest.mark.parametrize("wrong", [{"amplitude": 1.5}, {"peak_hour": 24}, {"amplitudes": 0}])
def test_a_wrong_rhythm_is_named(wrong) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Rhythm(**wrong)
