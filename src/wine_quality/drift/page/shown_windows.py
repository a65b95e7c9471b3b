"""The windows that the page shows, in the order of time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.drift.page.charts import FEW, Path, Tick, line, points
from wine_quality.drift.page.words import VERDICTS
from wine_quality.drift.profiles import Profile
from wine_quality.drift.reference import ALL
from wine_quality.drift.sources import timeline_of
from wine_quality.drift.vocabulary import ALARMS, UNFINISHED, count_of
from wine_quality.drift.window_names import DAY, folder_name, span_in_words

MOST_WINDOWS = 400
"""Windows on the page, the newest; those before are in the verdicts' history."""
MOST_LABELS = 6
"""Moments named below a chart."""
LAST = chr(0x10FFFF)
"""Sorts behind every name."""
KEY = ["window_start", "model_version"]


@dataclass(frozen=True)
class Window:
    """A window of one model version.

    Attributes:
        start: Where it begins.
        end: Where it ends.
        version: The model version.
        place: Where it stands in charts; windows of several versions at one time share a place.
        wines: How many it has.
        labelled: How many of them have ground truth.
        alarms: How many subjects have a verdict that alarms.
        is_judged: Whether any subject could be judged.
        goes_on: Whether it is not over.
    """

    start: datetime
    end: datetime
    version: str
    place: int
    wines: int
    labelled: int
    alarms: int
    is_judged: bool
    goes_on: bool

    @property
    def key(self) -> str:
        """What addresses call it."""
        return folder_name(self.start, self.version)

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{span_in_words(self.start, self.end)}, version {self.version}"

    @property
    def option(self) -> str:
        """Its name in a list to choose from."""
        if self.goes_on:
            return f"{self.name} {VERDICTS[UNFINISHED]}"
        if self.alarms:
            return f"{self.name} {VERDICTS['drift'][0]} {count_of(self.alarms, 'alarm')}"
        return f"{self.name} {VERDICTS['ok' if self.is_judged else '']}"


@dataclass(frozen=True)
class ShownWindows:
    """The windows on the page, the oldest first, and what was counted in them.

    Attributes:
        windows: Of all model versions.
        counts: By version the counts of its windows that hold wines.
    """

    windows: tuple[Window, ...]
    counts: Mapping[str, Profile]

    @classmethod
    def of(
        cls, judged: pd.DataFrame, model_verdicts: pd.DataFrame, hours: Mapping[str, Profile]
    ) -> "ShownWindows":
        """Find the newest windows.

        Args:
            judged: Verdicts of all subjects that are judged window by window.
            model_verdicts: Rows of `performance.judge_performance` of the same windows.
            hours: By model version, the counts of its hours.
        """
        flagged = judged.assign(
            alarms=judged["verdict"].isin(ALARMS),
            is_judged=judged["verdict"].isin(["ok", *ALARMS]),
            goes_on=judged["verdict"] == UNFINISHED,
        )
        by_window = flagged.groupby(["window_start", "window_end", "model_version"], sort=True)
        found = by_window[["alarms", "is_judged", "goes_on"]].agg(
            {"alarms": "sum", "is_judged": "any", "goes_on": "any"}
        )
        # each timeline in one piece, the real one at the right
        found = found.reset_index()
        apart = found["model_version"].map(timeline_of)
        order = apart.where(apart != "", LAST).sort_values(kind="stable").index
        found = found.loc[order].tail(MOST_WINDOWS)
        counts = {
            str(version): _counted(hours[str(version)], rows)
            for version, rows in found.groupby("model_version")
            if version in hours
        }
        wines = {
            (version, start): n
            for version, profile in counts.items()
            for start, n in zip(profile.starts.tolist(), profile.wines.tolist(), strict=True)
        }
        whole = model_verdicts[model_verdicts["segment"] == ALL]
        labelled = whole.drop_duplicates(KEY, keep="last").set_index(KEY)["n"].to_dict()
        moments = zip(found["model_version"].map(timeline_of), found["window_start"], strict=True)
        places = {moment: k for k, moment in enumerate(dict.fromkeys(moments))}
        windows = tuple(
            Window(
                start.to_pydatetime(),
                end.to_pydatetime(),
                version,
                places[timeline_of(version), start],
                wines.get((version, int(start.timestamp())), 0),
                int(labelled.get((start, version), 0)),
                int(alarms),
                bool(is_judged),
                bool(goes_on),
            )
            for start, end, version, alarms, is_judged, goes_on in found.itertuples(
                index=False, name=None
            )
        )
        return cls(windows, counts)

    @property
    def width(self) -> int:
        """Places in charts."""
        return self.windows[-1].place + 1 if self.windows else 0

    @cached_property
    def starts(self) -> list[datetime]:
        """Where the windows of each place begin."""
        return list({window.place: window.start for window in self.windows}.values())

    @cached_property
    def timelines(self) -> Mapping[str, list[int]]:
        """The windows of each timeline, see `sources.timeline_of`; the real one is the last."""
        found: dict[str, list[int]] = {}
        for k, window in enumerate(self.windows):
            found.setdefault(timeline_of(window.version), []).append(k)
        return found

    @cached_property
    def newest_of_each(self) -> list[int]:
        """The newest window of each timeline that is over; of versions that with most wines."""
        newest = []
        for own in self.timelines.values():
            over = [k for k in own if not self.windows[k].goes_on]
            rank = {k: (self.windows[k].start, self.windows[k].wines) for k in over or own}
            newest.append(max(rank, key=rank.__getitem__))
        return newest

    @property
    def newest(self) -> int:
        """That of the real timeline, if there is one."""
        return self.newest_of_each[-1]

    @cached_property
    def versions(self) -> tuple[str, ...]:
        """Model versions, in the order in which they begin."""
        return tuple(dict.fromkeys(window.version for window in self.windows))

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """The place of each window."""
        return np.array([window.place for window in self.windows], dtype=np.int64)

    def of_version(self, version: str) -> list[int]:
        """The windows of a version, by their number."""
        return [k for k, window in enumerate(self.windows) if window.version == version]

    def at(self, moment: datetime, version: str) -> int | None:
        """The window of a version that holds a moment, or the first after it."""
        own = (k for k in self.of_version(version) if self.windows[k].end > moment)
        return next(own, None)

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """Bring a table into the order of the windows; NaN where it has none.

        Args:
            table: At most one row for each window counts, the last.
        """
        return table.drop_duplicates(KEY, keep="last").set_index(KEY).reindex(self._index)

    @cached_property
    def _index(self) -> pd.MultiIndex:
        return pd.MultiIndex.from_tuples(
            [(pd.Timestamp(window.start), window.version) for window in self.windows], names=KEY
        )

    def lines(self, kind: str, heights: NDArray[np.float64]) -> tuple[Path, ...]:
        """Draw a line for each version, interrupted where windows are missing.

        Args:
            kind: What it shows.
            heights: For each window, NaN where there is none.
        """
        drawn = []
        for version in self.versions:
            own = self.of_version(version)
            ends = [self.windows[k].end for k in own]
            begins = [self.windows[k].start for k in own]
            breaks = [True, *(a != b for a, b in zip(ends[:-1], begins[1:], strict=True))]
            d = line(self.places[own], heights[own], np.array(breaks))
            drawn.append(Path(kind, d))
        if self.width <= FEW:
            drawn.append(Path(f"{kind} points", points(self.places, heights)))
        return tuple(path for path in drawn if path.d)

    def ticks(self) -> tuple[Tick, ...]:
        """Name some of the places by their moments."""
        return time_ticks(self.starts)


def _counted(hours: Profile, windows: pd.DataFrame) -> Profile:
    """Put the hours of windows together."""
    starts, ends = (
        windows[name].dt.as_unit("s").astype("int64").to_numpy()
        for name in ("window_start", "window_end")
    )
    own = hours.between(int(starts[0]), int(ends[-1]))
    place = np.searchsorted(starts, own.starts, side="right") - 1
    return own.regroup(starts[place])


def time_ticks(starts: Sequence[datetime]) -> tuple[Tick, ...]:
    """Name moments below evenly spread places: days, or hours where it is only one day."""
    days = [k for k, start in enumerate(starts) if not k or start.date() != starts[k - 1].date()]
    form = DAY[3:]
    if len(days) < 2 and len(starts) > 1:
        days, form = list(range(len(starts))), "%H:%M"
    chosen = days[:: -(-len(days) // MOST_LABELS) or 1]
    return tuple(Tick(round(100 * k / len(starts), 2), f"{starts[k]:{form}}") for k in chosen)
