"""Verdicts on a model version's windows: columns and model together."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.drift.accepted import AcceptedPeriod, epochs_of_windows
from wine_quality.drift.performance import judge_performance
from wine_quality.drift.profiles import Profile, count
from wine_quality.drift.reference import Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import decide
from wine_quality.drift.windows import make_windows

Verdicts = tuple[pd.DataFrame, pd.DataFrame]
"""Rows of `verdicts.decide`, and of `performance.judge_performance`."""


def judge_hours(
    hours: Profile,
    reference: Reference,
    version: str,
    settings: DriftSettings,
    since: int = 0,
    accepted: Sequence[AcceptedPeriod] = (),
    changed: NDArray[np.int64] | None = None,
) -> Verdicts:
    """Judge the windows that a version's hours make.

    Args:
        hours: Counts by hour, in the reference's cells.
        reference: That of the version, in whose cells they are counted.
        version: The model version.
        settings: Windows, false-alarm rate, sizes and floors.
        since: Start of the first window that is judged, seconds since 1970; those before count
            where small windows are merged.
        accepted: The version's accepted periods, the earliest first: from the start of each on,
            windows are compared with its wines.
        changed: Starts of hours: judged are the windows before `since` that hold one of them.
    """
    windows, ends = make_windows(hours, settings)
    wanted = windows.starts >= since
    if changed is not None:
        wanted = ~wanted & _hold(windows.starts, ends, changed)
    windows, ends = windows.take(np.flatnonzero(wanted)), ends[wanted]
    columns, model = [], []
    for epoch in epochs_of_windows(reference, accepted):
        first, last = np.searchsorted(windows.starts, [epoch.since, epoch.until]).tolist()
        if first == last and epoch.ended_by is not None:
            continue
        part = windows.rows(first, last), ends[first:last], epoch.reference, version, settings
        columns.append(decide(*part))
        model.append(judge_performance(*part))
    return pd.concat(columns, ignore_index=True), pd.concat(model, ignore_index=True)


def _hold(
    starts: NDArray[np.int64], ends: NDArray[np.int64], moments: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell which windows hold one of some moments, all in seconds since 1970."""
    first, last = np.searchsorted(np.sort(moments), [starts, ends])
    return np.asarray(first < last)


def judge_log(log: pd.DataFrame, reference: Reference, settings: DriftSettings) -> Verdicts:
    """Judge a log that is at hand as the pipeline does.

    Args:
        log: As `profiles.count` takes it, with `model_version`; versions are judged apart, all
            against the same reference.
        reference: What they are compared with.
        settings: Windows, false-alarm rate, sizes and floors.
    """
    grain = settings.calendar.grain
    judged = [
        judge_hours(count(rows, reference, grain), reference, str(version), settings)
        for version, rows in log.groupby("model_version", sort=True)
    ]
    columns, model = (pd.concat(tables, ignore_index=True) for tables in zip(*judged, strict=True))
    return columns, model
