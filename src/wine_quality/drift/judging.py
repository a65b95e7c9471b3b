"""Verdicts on rows that are at hand, without a log or a store."""

import pandas as pd

from wine_quality.drift.performance import judge_performance
from wine_quality.drift.profiles import count, grain_seconds
from wine_quality.drift.reference import Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import decide
from wine_quality.drift.windows import make_windows


def judge_log(
    log: pd.DataFrame, reference: Reference, settings: DriftSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Judge a log's windows as the pipeline does.

    Args:
        log: As `profiles.count` takes it, with `model_version`; versions are judged apart, all
            against the same reference.
        reference: What they are compared with.
        settings: Windows, false-alarm rate, sizes and floors.

    Returns:
        Rows of `verdicts.decide`, and of `performance.judge_performance`.
    """
    tables = []
    for version, rows in log.groupby("model_version", sort=True):
        windows, ends = make_windows(
            count(rows, reference, grain_seconds(settings.window)), settings
        )
        judged = windows, ends, reference, str(version), settings
        tables.append((decide(*judged), judge_performance(*judged)))
    columns, model = zip(*tables, strict=True)
    return pd.concat(columns, ignore_index=True), pd.concat(model, ignore_index=True)
