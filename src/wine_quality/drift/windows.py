"""Windows as a row of time: hours put together, small ones merged, gaps found."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.drift.profiles import Profile
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.sources import timeline_of
from wine_quality.drift.verdicts import TRAFFIC, VERDICTS_DTYPES
from wine_quality.drift.vocabulary import ALARMS, UNFINISHED, count_of, window_table

PRECEDING = 14
"""Windows whose median is the ordinary traffic: two weeks of days."""
FEWEST_PRECEDING = 3
"""Windows with traffic before a number of wines can be called unusual."""
CLOCK_TOLERANCE = timedelta(hours=1)
"""Clocks differ by less; an event time farther ahead is a mistake."""


def window_of(starts: NDArray[np.int64], settings: DriftSettings) -> NDArray[np.int64]:
    """Find the window of each hour; all in seconds since 1970, shape (h,)."""
    return settings.calendar.starts(starts)


def split_future(profile: Profile, now: datetime) -> tuple[Profile, Profile]:
    """Divide a profile's hours into those that can be, and those that lie in the future."""
    first = int(np.searchsorted(profile.starts, (now + CLOCK_TOLERANCE).timestamp()))
    return profile.rows(0, first), profile.rows(first, len(profile))


def make_windows(profile: Profile, settings: DriftSettings) -> tuple[Profile, NDArray[np.int64]]:
    """Put hours together to windows.

    With `small_windows: merge`, windows are merged from the oldest on until they hold `min_rows`
    wines; what is left at the end stays too small, and grows.

    Args:
        profile: Counts by hour of one model version.
        settings: Length of a window, fewest wines, and whether to merge at all.

    Returns:
        The profile by window, a merged one under the start of its first; and the end of each,
        seconds since 1970.
    """
    windows = profile.regroup(window_of(profile.starts, settings))
    if settings.small_windows != "merge" or not len(windows):
        return windows, settings.calendar.ends(windows.starts)
    first = _firsts(windows.starts.tolist(), windows.wines.tolist(), settings.min_rows)
    merged = windows.regroup(np.array(first, dtype=np.int64))
    last = np.append(np.flatnonzero(np.diff(first)), len(first) - 1)
    return merged, settings.calendar.ends(windows.starts[last])


def newest_starts(starts: Iterable[NDArray[np.int64]], windows: int) -> int | None:
    """Start of the first of so many newest windows of all model versions; None without any."""
    together = np.unique(np.concatenate([np.empty(0, np.int64), *starts]))
    return int(together[-windows:][0]) if len(together) else None


def mark_unfinished(verdicts: pd.DataFrame, now: datetime) -> pd.DataFrame:
    """Say of windows that are still going on that they are: they are judged when they are over.

    Args:
        verdicts: Rows with `model_version`, `window_end`, `verdict` and `reason`.
        now: The present, with a time zone; timelines apart have none.
    """
    going_on = (verdicts["window_end"] > now) & verdicts["model_version"].map(timeline_of).eq("")
    reason = "goes on; so far: " + verdicts["reason"]
    return verdicts.assign(
        verdict=verdicts["verdict"].mask(going_on, UNFINISHED),
        reason=verdicts["reason"].mask(going_on, reason),
    )


def judge_traffic(
    profiles: Mapping[str, Profile], settings: DriftSettings, now: datetime | None
) -> pd.DataFrame:
    """Judge how many wines came in each window of a timeline, all model versions together.

    A window without any is `no_traffic`; windows in a row are one such stretch. One with less than
    `min_traffic_share` of the median of the windows before it, or with more than that median
    divided by the share, is `data_quality`.

    Args:
        profiles: Counts by hour of all windows, by model version; at least one window.
        settings: Length of a window, what is unusual, and until when traffic is expected.
        now: The present, with a time zone; None where the timeline has none.

    Returns:
        A row per window, with the columns and types of `VERDICTS_DTYPES` and `traffic` for a
        column: `value` and `n` are the wines, `threshold` the limit that they are nearer to. It is
        filed under the model version that made most of the window's predictions; a stretch without
        traffic under that of the window before it.
    """
    calendar = settings.calendar
    sizes = pd.concat(
        [
            pd.DataFrame(
                {"start": window_of(profile.starts, settings), "n": profile.wines, "version": name}
            )
            for name, profile in profiles.items()
        ]
    )
    by_version = sizes.groupby(["start", "version"])["n"].sum().reset_index()
    ordered = by_version.sort_values(["start", "n"], kind="stable")
    windows = ordered.groupby("start").agg({"n": "sum", "version": "last"})
    ends = calendar.ends(windows.index.to_numpy(np.int64))
    rows = []
    for place, (start, n, version) in enumerate(windows.itertuples(name=None)):
        before = windows["n"].iloc[max(0, place - PRECEDING) : place]
        verdict, limit, words = _judge_number(int(n), before, settings)
        end = int(ends[place])
        rows.append((start, end, version, verdict, n, limit, words))
        next_start = _next(windows.index, place)
        if next_start is None and now is not None and settings.traffic_until == "now":
            next_start = _current_window(now, settings)[0]
        if next_start is not None and next_start > end:
            missed = calendar.between(end, next_start)
            words = f"not one wine in {count_of(missed, 'window')}"
            rows.append((end, next_start, version, "no_traffic", 0, limit, words))
    return window_table(
        [
            (start, end, version, TRAFFIC, "all", verdict, n, limit, n, np.nan, words)
            for start, end, version, verdict, n, limit, words in rows
        ],
        VERDICTS_DTYPES,
    )


def _current_window(now: datetime, settings: DriftSettings) -> tuple[int, int]:
    """Start of the window that goes on, and of the one before it, seconds since 1970."""
    (start,) = window_of(np.array([int(now.timestamp())]), settings).tolist()
    (before,) = window_of(np.array([start - 1]), settings).tolist()
    return start, before


def _judge_number(n: int, before: pd.Series, settings: DriftSettings) -> tuple[str, float, str]:
    """Verdict, limit and words for a number of wines after those of the windows before."""
    words = count_of(n, "wine")
    if len(before) < FEWEST_PRECEDING:
        return "ok", 1.0, words
    median = float(before.median())
    words += f", {median:,.6g} is the median of the {len(before)} windows before"
    fewest = max(1.0, settings.min_traffic_share * median)
    if n < fewest:
        return "data_quality", fewest, f"{words}; fewer than {fewest:,.6g} are unusual"
    if settings.min_traffic_share and n > (most := median / settings.min_traffic_share):
        return "data_quality", most, f"{words}; more than {most:,.6g} are unusual"
    return "ok", fewest, words


EVENT_TIME, REFERENCE = "event_time", "reference"
OF_VERSIONS: tuple[str, ...] = (TRAFFIC, EVENT_TIME, REFERENCE)
"""Subjects that are no column, and have no report."""


def whole_versions(
    references: Mapping[str, object],
    future: Mapping[str, Profile],
    settings: DriftSettings,
    now: datetime,
) -> list[pd.DataFrame]:
    """Judge what is wrong with a version as a whole, filed under the newest finished window.

    Args:
        references: By version; a text where there is none says why.
        future: By version, its hours that lie in the future.
        settings: Length of a window.
        now: The present, with a time zone.

    Returns:
        Tables with the columns and types of `VERDICTS_DTYPES`.
    """
    end, start = _current_window(now, settings)
    found: list[tuple[str, str, int, str]] = [
        (version, REFERENCE, 0, f"not judged: {why}")
        for version, why in references.items()
        if isinstance(why, str)
    ]
    for version, hours in future.items():
        if len(hours):
            n = int(hours.wines.sum())
            latest = pd.Timestamp(int(hours.starts[-1]), unit="s", tz="UTC")
            words = (
                f"{n:,} wine{' has an event time' if n == 1 else 's have event times'} in the "
                f"future, up to {latest:%Y-%m-%d %H:%M} UTC: they are in no window"
            )
            found.append((version, EVENT_TIME, n, words))
    rows = [
        (start, end, version, subject, "all", "data_quality", 1.0, 0.0, n, np.nan, words)
        for version, subject, n, words in found
    ]
    return [window_table(rows, VERDICTS_DTYPES)] if rows else []


def newest_window(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Select the verdicts on the newest window that is over; on the newest of all where none is.

    The traffic and what is wrong with a version as a whole have windows of their own: of these the
    newest row of each is selected.

    Args:
        verdicts: Rows of `verdicts.decide`, `judge_traffic` and `whole_versions`, of one timeline.
    """
    of_version = verdicts["column"].isin(OF_VERSIONS)
    columns, others = verdicts[~of_version], verdicts[of_version]
    finished = columns[columns["verdict"] != UNFINISHED]
    newest = (columns if finished.empty else finished)["window_start"].max()
    last = others.sort_values("window_start", kind="stable").groupby("column").tail(1)
    together: pd.DataFrame = pd.concat(
        [columns[columns["window_start"] == newest], last], ignore_index=True
    )
    return together


def chosen_windows(
    verdicts: pd.DataFrame, model_verdicts: pd.DataFrame, most: int
) -> list[tuple[pd.Timestamp, pd.Timestamp, str]]:
    """Choose the windows that are worth a report: the newest, and the newest alarming ones.

    Args:
        verdicts: Rows of `verdicts.decide`, and perhaps of `judge_traffic`.
        model_verdicts: Rows of `performance.judge_performance`.
        most: How many windows at most are chosen.

    Returns:
        Start, end and model version of each, the newest first; each once.
    """
    columns = verdicts[~verdicts["column"].isin(OF_VERSIONS)]
    key = ["window_start", "window_end", "model_version"]
    judged = pd.concat([columns[[*key, "verdict"]], model_verdicts[[*key, "verdict"]]])
    alarms = judged[judged["verdict"].isin(ALARMS)].sort_values("window_start", kind="stable")
    if columns.empty:
        return []
    newest = pd.concat([columns[key].iloc[[-1]], alarms[key].iloc[::-1]])
    chosen = newest.drop_duplicates().head(most)
    return list(chosen.itertuples(index=False, name=None))


def _firsts(starts: list[int], wines: list[int], enough: int) -> list[int]:
    """The start of the window that each window is merged into."""
    firsts: list[int] = []
    rows = enough
    for start, n in zip(starts, wines, strict=True):
        # where the window before is full, begin the next one
        firsts.append(start if rows >= enough else firsts[-1])
        rows = n if rows >= enough else rows + n
    return firsts


def _next(starts: pd.Index, place: int) -> int | None:
    return int(starts[place + 1]) if place + 1 < len(starts) else None
