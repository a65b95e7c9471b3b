"""Moments: in UTC, one by one or as a column."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wine_quality.errors import WineQualityError
from wine_quality.serving.moments import utc_moment, utc_moments

ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"])
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2199, 12, 31), timezones=st.just(UTC))


@given(
    values=st.lists(MOMENTS, min_size=1, max_size=20),
    zone=ZONES,
    unit=st.sampled_from(["us", "ns"]),
)
def test_a_column_gives_what_its_moments_give(values, zone, unit) -> None:
    index = pd.DatetimeIndex(values).as_unit(unit).tz_convert(zone)
    for column in (index, index.to_series()):
        moments = utc_moments(column, len(values), "event_time")
        assert moments == [utc_moment(value, "event_time") for value in column] == values
        assert {moment.tzinfo for moment in moments} == {UTC}
        assert {type(moment) for moment in moments} == {datetime}


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([pd.Timestamp("2026-01-01", tz="UTC"), pd.NaT]),
        pd.Series([pd.Timestamp("2026-01-01"), pd.Timestamp("2026-01-02")]),
        pd.Series(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
        [datetime(2026, 1, 1, tzinfo=UTC), None],
    ],
)
def test_every_moment_has_a_timezone(values) -> None:
    with pytest.raises(WineQualityError, match="event_time needs a date with a timezone"):
        utc_moments(values, 2, "event_time")


def test_one_for_all_or_one_each() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert utc_moments(moment, 3, "event_time") == [moment] * 3
    column = pd.Series([moment, moment + timedelta(hours=1)])
    with pytest.raises(WineQualityError, match="3 rows came with 2 values of event_time"):
        utc_moments(column, 3, "event_time")
