"""Where windows of event time begin and end: by the clock, in a time zone, from an hour on."""

from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Seconds = NDArray[np.int64]

UTC = "UTC"
HOUR_S, DAY_S, WEEK_S = 3_600, 86_400, 7 * 86_400
FIRST_MONDAY = 4
"""Days from 1970-01-01, a Thursday, to the first Monday."""


@dataclass(frozen=True)
class WindowCalendar:
    """Windows of one length. Moments are seconds since 1970 UTC.

    In UTC all windows are of the same length. In another zone, days (and weeks, …) begin at the
    same hour of the local clock, so that one with a change of the clocks is an hour shorter or
    longer; windows of hours divide these days, and the last one of a day may be shorter.

    Attributes:
        length: Seconds of a window.
        zone: Name of a time zone.
        offset: Seconds after midnight (in weeks: of Monday) at which windows begin.
    """

    length: int
    zone: str = UTC
    offset: int = 0

    @property
    def grain(self) -> int:
        """Seconds that wines are counted by: an hour, or what divides windows into whole parts."""
        parts = gcd(self.length, HOUR_S, self.offset)
        return parts if self.zone == UTC else gcd(parts, _zone_step(self.zone))

    @property
    def _days(self) -> int:
        """Days of a window of whole days, or of the days that shorter windows divide."""
        return max(self.length // DAY_S, 1)

    def starts(self, moments: Seconds) -> Seconds:
        """Find the start of the window of each moment."""
        return self._bounds(moments)[0]

    def ends(self, starts: Seconds) -> Seconds:
        """Find the end of windows, by their starts."""
        return self._bounds(starts)[1]

    def between(self, since: int, until: int) -> int:
        """Count the windows from one that starts at `since` to one that starts at `until`."""
        if self.zone == UTC:
            return (until - since) // self.length
        days = self._day_starts(since, until)
        per_day = -(-np.diff(days) // self.length) if self.length < DAY_S else 1
        whole = np.broadcast_to(per_day, len(days) - 1)
        first, last = np.searchsorted(days, [since, until], side="right") - 1
        into = [
            (moment - int(days[place])) // self.length if self.length < DAY_S else 0
            for moment, place in ((since, first), (until, last))
        ]
        return int(whole[first:last].sum()) + into[1] - into[0]

    def _bounds(self, moments: Seconds) -> tuple[Seconds, Seconds]:
        if self.zone == UTC:
            first = self.offset + (FIRST_MONDAY * DAY_S if self.length % WEEK_S == 0 else 0)
            starts = (moments - first) // self.length * self.length + first
            return starts, starts + self.length
        if not len(moments):
            return moments, moments
        days = self._day_starts(int(moments.min()), int(moments.max()))
        place = np.searchsorted(days, moments, side="right") - 1
        begins, ends = days[place], days[place + 1]
        if self.length >= DAY_S:
            return begins, ends
        starts = begins + (moments - begins) // self.length * self.length
        return starts, np.minimum(starts + self.length, ends)

    def _day_starts(self, first: int, last: int) -> Seconds:
        """Starts of windows of days from before a moment to after another."""
        anchor = FIRST_MONDAY if self._days % 7 == 0 else 0
        low, high = ((moment // DAY_S - anchor) // self._days for moment in (first, last))
        days = np.arange(low - 2, high + 4) * self._days + anchor
        local = pd.to_datetime(days, unit="D") + pd.Timedelta(self.offset, unit="s")
        # where a clock shows an hour twice, a window begins the first time
        zoned = local.tz_localize(
            self.zone, ambiguous=np.ones(len(local), dtype=bool), nonexistent="shift_forward"
        )
        return np.asarray(zoned.tz_convert(UTC).as_unit("s").asi8, dtype=np.int64)


@lru_cache(maxsize=64)
def _zone_step(zone: str) -> int:
    """Seconds that divide a zone's distance from UTC in every month from 2000 to 2060."""
    months = pd.date_range("2000-01-01", "2060-01-01", freq="MS", tz=UTC)
    distances = {moment.to_pydatetime().astimezone(ZoneInfo(zone)).utcoffset() for moment in months}
    return gcd(*(int(distance.total_seconds()) for distance in distances if distance is not None))
