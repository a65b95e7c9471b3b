"""Verdicts on a model version's windows: columns and model together."""

import numpy as np
import pandas as pd

from wine_quality.drift.performance import judge_performance
from wine_quality.drift.profiles import Profile, count, grain_seconds
from wine_quality.drift.reference import Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import decide
from wine_quality.drift.windows import make_windows

Verdicts = tuple[pd.DataFrame, pd.DataFrame]
"""Rows of `verdicts.decide`, and of `performance.judge_performance`."""


def judge_hours(
    hours: Profile, reference: Reference, version: str, settings: DriftSettings, since: int = 0
) -> Verdicts:
    """Judge the windows that a version's hours make.

    Args:
        hours: Counts by hour, in the reference's cells.
        reference: What they are compared with.
        version: The model version.
        settings: Windows, false-alarm rate, sizes and floors.
        since: Start of the first window that is judged, seconds since 1970; those before count
            where small windows are merged.
    """
    windows, ends = make_windows(hours, settings)
    first = int(np.searchsorted(windows.starts, since))
    judged = windows.rows(first, len(windows)), ends[first:], reference, version, settings
    return decide(*judged), judge_performance(*judged)


def judge_log(log: pd.DataFrame, reference: Reference, settings: DriftSettings) -> Verdicts:
    """Judge a log that is at hand as the pipeline does.

    Args:
        log: As `profiles.count` takes it, with `model_version`; versions are judged apart, all
            against the same reference.
        reference: What they are compared with.
        settings: Windows, false-alarm rate, sizes and floors.
    """
    grain = grain_seconds(settings.window)
    judged = [
        judge_hours(count(rows, reference, grain), reference, str(version), settings)
        for version, rows in log.groupby("model_version", sort=True)
    ]
    columns, model = (pd.concat(tables, ignore_index=True) for tables in zip(*judged, strict=True))
    return columns, model
