"""Windows as a row of time: small ones merged, and those in which nothing came."""

from datetime import datetime

import numpy as np
import pandas as pd

from wine_quality.drift.alerts import ALARMS
from wine_quality.drift.profiles import WINDOW_KEYS, Profile
from wine_quality.drift.settings import DriftSettings, window_length
from wine_quality.drift.verdicts import TRAFFIC, VERDICTS_DTYPES
from wine_quality.wines import PREDICTION

PRECEDING = 14
"""Windows whose median is the ordinary traffic: two weeks of days."""
FEWEST_PRECEDING = 3
"""Windows with traffic before a number of wines can be called unusual."""


def merge_small_windows(profile: Profile, settings: DriftSettings) -> tuple[Profile, pd.Series]:
    """Merge windows with too few wines into windows that have enough.

    From the oldest on, windows of a model version are merged until they hold `min_rows` wines; what
    is left at the end stays too small, and grows.

    Args:
        profile: Counts of single windows.
        settings: Length of a window, fewest wines, and whether to merge at all.

    Returns:
        The profile, with a merged window under the start of its first; and the end of each window,
        by its start and model version.
    """
    length = window_length(settings.window)
    sizes = window_sizes(profile.counts).sort_values(["model_version", "window_start"])
    first = sizes["window_start"]
    if settings.small_windows == "merge" and len(sizes):
        by_version = [rows for _, rows in sizes.groupby("model_version")]
        first = pd.concat([_firsts(rows, settings.min_rows) for rows in by_version])
    placed = sizes.assign(first=first, end=sizes["window_start"] + length)
    new_start = placed.set_index(list(WINDOW_KEYS))["first"]

    def move(table: pd.DataFrame) -> pd.DataFrame:
        keys = pd.MultiIndex.from_frame(table[list(WINDOW_KEYS)])
        starts = new_start.reindex(keys).to_numpy()
        return table.assign(window_start=pd.to_datetime(starts, utc=True).as_unit("us"))

    merged = profile
    if not placed["first"].equals(placed["window_start"]):
        nothing = Profile(profile.counts.iloc[:0], profile.errors.iloc[:0])
        merged = Profile(move(profile.counts), move(profile.errors)).merge(nothing)
    return merged, placed.groupby(["first", "model_version"])["end"].max()


def windows_needed(settings: DriftSettings) -> int | None:
    """How many windows have to be known to judge the newest ones the same in every run.

    The traffic is held against the windows before. Merging begins at the first window of all, or
    each further window would shift the others.

    Returns:
        Their number; None for all.
    """
    return None if settings.small_windows == "merge" else settings.newest_windows + PRECEDING


def keep_newest(profile: Profile, windows: int) -> Profile:
    """Leave out all but the newest windows.

    Args:
        profile: Counts of windows.
        windows: How many to keep.
    """
    starts = sorted(profile.counts["window_start"].unique())
    if len(starts) <= windows:
        return profile
    first = starts[-windows]
    counts, errors = profile.counts, profile.errors
    return Profile(counts[counts["window_start"] >= first], errors[errors["window_start"] >= first])


def judge_traffic(counts: pd.DataFrame, settings: DriftSettings, now: datetime) -> pd.DataFrame:
    """Judge how many wines came in each window, all model versions together.

    A window without any is `no_traffic`; windows in a row are one such stretch. One with less than
    `min_traffic_share` of the median of the windows before it is `data_quality`, unless it is still
    going on.

    Args:
        counts: Of all windows, see `Profile`; at least one window.
        settings: Length of a window, what is too little, and until when traffic is expected.
        now: The present, with a time zone.

    Returns:
        A row per window, with the columns and types of `VERDICTS_DTYPES` and `traffic` for a
        column: `value` and `n` are the wines, `threshold` the fewest that are ordinary. It is filed
        under the model version that made most of the window's predictions; a stretch without
        traffic under that of the window before it.
    """
    length = window_length(settings.window)
    by_version = window_sizes(counts).sort_values(["window_start", "n"], kind="stable")
    windows = by_version.groupby("window_start").agg({"n": "sum", "model_version": "last"})
    rows = []
    for place, (start, n, version) in enumerate(windows.itertuples(name=None)):
        before = windows["n"].iloc[max(0, place - PRECEDING) : place]
        known = len(before) >= FEWEST_PRECEDING
        fewest = max(1.0, settings.min_traffic_share * before.median()) if known else 1.0
        low = n < fewest and start + length <= now
        words = f"{n:,} wines"
        if known:
            words += f", {before.median():,.6g} is the median of the {len(before)} windows before"
        if low:
            words += f"; fewer than {fewest:,.6g} are unusual"
        verdict = "data_quality" if low else "ok"
        rows.append((start, start + length, version, verdict, n, fewest, words))
        next_start = _next(windows.index, place)
        if next_start is None and settings.traffic_until == "now":
            next_start = pd.Timestamp(now) - (pd.Timestamp(now) - start) % length
        if next_start is not None and next_start > start + length:
            missed = (next_start - start) // length - 1
            words = f"not one wine in {missed} window{'s' if missed > 1 else ''}"
            rows.append((start + length, next_start, version, "no_traffic", 0, fewest, words))
    return pd.DataFrame(
        [
            (start, end, version, TRAFFIC, verdict, n, fewest, n, np.nan, f"{TRAFFIC}: {words}")
            for start, end, version, verdict, n, fewest, words in rows
        ],
        columns=list(VERDICTS_DTYPES),
    ).astype(VERDICTS_DTYPES)


def chosen_windows(
    verdicts: pd.DataFrame, model_verdicts: pd.DataFrame, alarming: int
) -> list[tuple[pd.Timestamp, pd.Timestamp, str]]:
    """Choose the windows that are worth a report: the newest, and the newest alarming ones.

    Args:
        verdicts: Rows of `verdicts.decide`, and perhaps of `judge_traffic`.
        model_verdicts: Rows of `performance.judge_performance`.
        alarming: How many windows at most are chosen for an alarm.

    Returns:
        Start, end and model version of each, the newest first; each once.
    """
    columns = verdicts[verdicts["column"] != TRAFFIC]
    key = ["window_start", "window_end", "model_version"]
    judged = pd.concat([columns[[*key, "verdict"]], model_verdicts[[*key, "verdict"]]])
    alarms = judged[judged["verdict"].isin(ALARMS)].sort_values("window_start", kind="stable")
    flagged = alarms[key].drop_duplicates().iloc[::-1].head(alarming)
    chosen = pd.concat([columns[key].iloc[[-1]], flagged]).drop_duplicates()
    return list(chosen.itertuples(index=False, name=None))


def window_sizes(counts: pd.DataFrame) -> pd.DataFrame:
    """Count the wines of each window and model version.

    Args:
        counts: See `Profile`; over the bins of any one column, `n` adds up to the window's wines.

    Returns:
        One row per `window_start` and `model_version`, and `n`.
    """
    one = counts[counts["column"] == PREDICTION]
    return one.groupby(list(WINDOW_KEYS))["n"].sum().reset_index()


def _firsts(sizes: pd.DataFrame, enough: int) -> pd.Series:
    """The start of the window that each window of a model version is merged into."""
    firsts: list[pd.Timestamp] = []
    rows = enough
    for start, n in zip(sizes["window_start"], sizes["n"], strict=True):
        # where the window before is full, begin anew
        firsts.append(start if rows >= enough else firsts[-1])
        rows = n if rows >= enough else rows + n
    return pd.Series(firsts, sizes.index)


def _next(starts: pd.Index, place: int) -> pd.Timestamp | None:
    return starts[place + 1] if place + 1 < len(starts) else None
