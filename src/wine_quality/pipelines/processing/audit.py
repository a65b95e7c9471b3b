"""Counts what a data scientist wants to know before trusting wines or a split of them."""

from typing import Any

import pandas as pd

from wine_quality.pipelines.processing.reading import LABELLED_COLUMNS, REASON, SOURCE
from wine_quality.wines import (
    INPUTS,
    MEASUREMENT_NAMES,
    QUALITY,
    TYPE,
    fingerprint,
    implausible,
    quality_classes,
    wine_groups,
)


def audit(wines: pd.DataFrame, rejected: pd.DataFrame) -> dict[str, Any]:
    """Count what was read, and what is odd among the accepted wines.

    Args:
        wines: n accepted wines with `source`.
        rejected: m rejected rows with `reason`.

    Returns:
        read = accepted + rejected; rows by file, type, quality and reason of rejection; exact
        duplicates (rows equal to an earlier one in inputs and quality); contradictory groups (same
        inputs, different quality); missing and implausible values by column; the fingerprint.
    """
    qualities = wines[QUALITY].groupby(wine_groups(wines)).nunique()
    return {
        "read": len(wines) + len(rejected),
        "accepted": len(wines),
        "rejected": len(rejected),
        "rejected_by_reason": _counts(rejected[REASON].str.split(":").str[0]),
        "by_file": _counts(wines[SOURCE]),
        "by_type": _counts(wines[TYPE]),
        "by_quality": _counts(quality_classes(wines[QUALITY])),
        "exact_duplicates": int(wines.duplicated(list(LABELLED_COLUMNS)).sum()),
        "contradictory_groups": int((qualities > 1).sum()),
        "missing": _non_zero(wines[list(MEASUREMENT_NAMES)].isna().sum()),
        "implausible": _non_zero(implausible(wines).sum()),
        "fingerprint": fingerprint(wines),
    }


def audit_leakage(training: pd.DataFrame, held_out: pd.DataFrame) -> dict[str, Any]:
    """Count how many held-out wines also stand among the training wines.

    Returns:
        `held_out_rows_in_training` counts rows by their twelve inputs (missing equals missing);
        `distinct_complete_rows_in_training` of `distinct_complete_rows` counts distinct held-out
        rows without a missing value by inputs and quality, the figure that literature quotes.
    """
    known = training[list(INPUTS)].drop_duplicates()
    leaked = held_out[list(INPUTS)].merge(known, how="inner")
    complete = held_out[list(LABELLED_COLUMNS)].dropna().drop_duplicates()
    found = complete.merge(training[list(LABELLED_COLUMNS)].drop_duplicates(), how="inner")
    return {
        "training_rows": len(training),
        "held_out_rows": len(held_out),
        "held_out_rows_in_training": len(leaked),
        "distinct_complete_rows": len(complete),
        "distinct_complete_rows_in_training": len(found),
    }


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(key): int(n) for key, n in values.value_counts().sort_index().items()}


def _non_zero(counts: pd.Series) -> dict[str, int]:
    return {str(key): int(n) for key, n in counts.items() if n}
