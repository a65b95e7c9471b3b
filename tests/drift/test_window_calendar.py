"""Where windows begin and end: by the local clock, however it is changed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from wine_quality.drift.profiles import count
from wine_quality.drift.reference import Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.windows import judge_traffic, make_windows
from wine_quality.traffic.synthetic import draw_wines

HOUR = 3600
LISBON = "Europe/Lisbon"
KATHMANDU = "Asia/Kathmandu"


def calendar(window, zone="UTC", offset="0h"):
    return DriftSettings(window=window, time_zone=zone, window_offset=offset).calendar


def second(moment):
    return int(pd.Timestamp(moment, tz="UTC").timestamp())


def window_of(of, moment):
    start = of.starts(np.array([second(moment)]))
    both = [start[0], of.ends(start)[0]]
    return [f"{pd.Timestamp(int(x), unit='s'):%Y-%m-%d %H:%M}" for x in both]


@pytest.mark.parametrize(
    ("window", "zone", "offset", "moment", "expected"),
    [
        ("1D", "UTC", "0h", "2026-07-01 23:30", ("2026-07-01 00:00", "2026-07-02 00:00")),
        # a Wednesday
        ("7D", "UTC", "0h", "2026-07-01 23:30", ("2026-06-29 00:00", "2026-07-06 00:00")),
        ("7D", "UTC", "6h", "2026-06-29 05:59", ("2026-06-22 06:00", "2026-06-29 06:00")),
        ("5h", "UTC", "0h", "1970-01-01 06:00", ("1970-01-01 05:00", "1970-01-01 10:00")),
        ("1D", "UTC", "6h", "2026-07-01 05:59", ("2026-06-30 06:00", "2026-07-01 06:00")),
        # summer time in Lisbon is UTC+1, winter time UTC
        ("1D", LISBON, "0h", "2026-07-01 23:30", ("2026-07-01 23:00", "2026-07-02 23:00")),
        ("1D", LISBON, "0h", "2026-01-01 23:30", ("2026-01-01 00:00", "2026-01-02 00:00")),
        # clocks go forward on 29 March, and back on 25 October
        ("1D", LISBON, "0h", "2026-03-29 12:00", ("2026-03-29 00:00", "2026-03-29 23:00")),
        ("1D", LISBON, "0h", "2026-10-25 12:00", ("2026-10-24 23:00", "2026-10-26 00:00")),
        ("1D", LISBON, "6h", "2026-03-29 12:00", ("2026-03-29 05:00", "2026-03-30 05:00")),
        ("7D", LISBON, "0h", "2026-03-29 12:00", ("2026-03-23 00:00", "2026-03-29 23:00")),
        ("14D", LISBON, "0h", "2026-07-01 12:00", ("2026-06-21 23:00", "2026-07-05 23:00")),
        # parts of a day: the last one of the long day is short, that of the short day ends with it
        ("6h", LISBON, "0h", "2026-10-25 23:30", ("2026-10-25 23:00", "2026-10-26 00:00")),
        ("6h", LISBON, "0h", "2026-03-29 20:00", ("2026-03-29 18:00", "2026-03-29 23:00")),
        # an hour that clocks show twice is two windows
        ("1h", LISBON, "0h", "2026-10-25 00:30", ("2026-10-25 00:00", "2026-10-25 01:00")),
        ("1h", LISBON, "0h", "2026-10-25 01:30", ("2026-10-25 01:00", "2026-10-25 02:00")),
        ("1D", "Asia/Kolkata", "0h", "2026-07-01 18:29", ("2026-06-30 18:30", "2026-07-01 18:30")),
        ("1D", KATHMANDU, "0h", "2026-07-01 18:15", ("2026-07-01 18:15", "2026-07-02 18:15")),
        ("1D", "UTC", "30min", "2026-07-01 00:29", ("2026-06-30 00:30", "2026-07-01 00:30")),
    ],
)  # fmt: skip
def test_a_window_begins_and_ends_by_the_clock(window, zone, offset, moment, expected):
    assert window_of(calendar(window, zone, offset), moment) == list(expected)


@pytest.mark.parametrize(
    ("window", "zone", "offset", "grain"),
    [
        ("1D", "UTC", "0h", 3600),
        ("1D", LISBON, "6h", 3600),
        ("1D", "UTC", "30min", 1800),
        ("1D", "Asia/Kolkata", "0h", 1800),
        ("1D", KATHMANDU, "0h", 900),
        ("1D", "Australia/Lord_Howe", "0h", 1800),
        ("10min", LISBON, "0h", 600),
    ],
)
def test_wines_are_counted_in_parts_of_which_windows_are_made(window, zone, offset, grain):
    assert calendar(window, zone, offset).grain == grain


@given(
    st.sampled_from(["1h", "6h", "12h", "1D", "2D", "7D"]),
    st.sampled_from(["UTC", LISBON, "America/St_Johns", "Australia/Lord_Howe"]),
    st.sampled_from(["0h", "90min", "2h", "23h"]),
    st.lists(st.integers(second("2001-01-01"), second("2039-12-31")), min_size=1, max_size=20),
)
def test_windows_follow_each_other_and_each_moment_is_in_its_own(window, zone, offset, moments):
    of = calendar(window, zone, offset)
    found = np.array(moments)
    starts = of.starts(found)
    ends = of.ends(starts)
    assert ((starts <= found) & (found < ends)).all()
    assert (of.starts(starts) == starts).all()
    # the window after begins where this one ends, and none lies between
    assert (of.starts(ends) == ends).all()
    assert (of.starts(ends - 1) == starts).all()
    assert not (starts % of.grain).any()
    assert [of.between(int(a), int(b)) for a, b in zip(starts, ends, strict=True)] == [1] * len(
        starts
    )


@pytest.mark.parametrize("window", ["6h", "1D"])
def test_windows_between_are_counted_over_a_change_of_the_clocks(window):
    of = calendar(window, LISBON)
    since = int(of.starts(np.array([second("2026-10-20 12:00")]))[0])
    walked, moment = 0, since
    while moment < second("2026-10-30"):
        moment = int(of.ends(np.array([moment]))[0])
        walked += 1
    assert of.between(since, moment) == walked


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"time_zone": "Europe/Lissabon"}, "there is no time zone 'Europe/Lissabon'"),
        ({"time_zone": "../etc"}, "there is no time zone"),
        ({"window_offset": "soon"}, "window_offset 'soon' is no length of time such as 6h"),
        ({"window_offset": "24h"}, "from 0h to below 24h"),
        ({"window_offset": "-1h"}, "from 0h to below 24h"),
        ({"time_zone": LISBON, "window": "5h"}, "neither divides a day nor is made of"),
        ({"time_zone": LISBON, "window": "36h"}, "neither divides a day nor is made of"),
    ],
)
def test_what_cannot_be_served_is_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        DriftSettings(**settings)


def test_a_days_windows_and_traffic_are_those_of_the_zone():
    """Three local days around the change of the clocks, and a day without wines in between."""
    wines = draw_wines(24 * 6, 1).assign(prediction=6.0)
    reference = Reference.from_wines(wines)
    local = pd.date_range("2026-10-24", "2026-10-25", freq="h", tz=LISBON, inclusive="left")
    late = pd.date_range("2026-10-27", "2026-10-28", freq="h", tz=LISBON, inclusive="left")
    moments = local.append(late).tz_convert("UTC")
    log = wines.head(48).assign(event_time=moments)
    settings = DriftSettings(time_zone=LISBON, min_rows=10)
    hours = count(log, reference, settings.calendar.grain)
    windows, ends = make_windows(hours, settings)
    assert windows.wines.tolist() == [24, 24]
    assert (ends - windows.starts).tolist() == [24 * HOUR, 24 * HOUR]
    traffic = judge_traffic({"1": hours}, settings, None)
    assert traffic["verdict"].tolist() == ["ok", "no_traffic", "ok"]
    assert traffic["reason"].iloc[1] == "not one wine in 2 windows"
    gap = traffic.iloc[1]
    assert gap["window_end"] - gap["window_start"] == pd.Timedelta(hours=49)
