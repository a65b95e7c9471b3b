"""Nodes of the processing pipeline: raw files in, training and held-out wines out."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from wine_quality.errors import WineQualityError
from wine_quality.modelling.splitting import hold_out
from wine_quality.pipelines.processing import audit, reading
from wine_quality.pipelines.processing.parameters import ProcessingParameters

Json = dict[str, Any]


def read_wines(raw_wines: dict[str, Callable[[], str]]) -> pd.DataFrame:
    """Read the raw folder's files, every value as it is written.

    Raises:
        WineQualityError: A file cannot be read; the message names it.
    """
    return reading.read_files({f"{name}.csv": load for name, load in raw_wines.items()})


def validate_wines(read_wines: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sort rows into wines that can be true and rejected rows; nothing disappears."""
    return reading.sort_rows(read_wines)


def audit_wines(validated_wines: pd.DataFrame, rejected_wines: pd.DataFrame) -> Json:
    """Count rows, duplicates, missing and implausible values."""
    return audit.audit(validated_wines, rejected_wines)


def accept_wines(
    validated_wines: pd.DataFrame, rejected_wines: pd.DataFrame, parameters: ProcessingParameters
) -> pd.DataFrame:
    """Pass the valid wines on, unless rows were rejected and the environment does not allow it.

    Raises:
        WineQualityError: Rows were rejected; the message shows the first with file and line.
    """
    if len(rejected_wines) and "rejected_rows" not in parameters.allow:
        first = rejected_wines.iloc[0]
        raise WineQualityError(
            f"{len(rejected_wines):,} of {len(validated_wines) + len(rejected_wines):,} rows "
            f"rejected, the first at {first[reading.SOURCE]} line {first[reading.LINE]}: "
            f"{first[reading.REASON]}. Mend the files (all reasons are in the dataset "
            "rejected_wines), or go on without them: --params processing.allow=[rejected_rows]"
        )
    if validated_wines.empty:
        raise WineQualityError("No row is a wine: see the reasons in the dataset rejected_wines.")
    return validated_wines


def split_wines(
    accepted_wines: pd.DataFrame, parameters: ProcessingParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide the wines into training and held-out wines.

    Returns:
        Training and held-out wines; together every accepted wine once, in their order.

    Raises:
        WineQualityError: The file to hold out is not among those read, or is the only one; or the
            wines are so few that all come to one side.
    """
    split = parameters.split
    if split.method == "file":
        held_out = accepted_wines[reading.SOURCE] == split.held_out_file
        if not held_out.any() or held_out.all():
            files = ", ".join(sorted(accepted_wines[reading.SOURCE].unique()))
            raise WineQualityError(
                f"{split.held_out_file} cannot be held out of the files read ({files}): "
                "set processing.split.held_out_file to one of several files."
            )
    else:
        side = hold_out(accepted_wines, split.held_out_share, split.seed)
        held_out = pd.Series(side, index=accepted_wines.index)
        if not held_out.any() or held_out.all():
            raise WineQualityError(
                f"All {len(accepted_wines)} wines come to one side of the split, so there is "
                f"nothing to {'train on' if held_out.any() else 'judge a model by'}: bring more "
                "wines."
            )
    return (
        accepted_wines[~held_out].reset_index(drop=True),
        accepted_wines[held_out].reset_index(drop=True),
    )


def audit_split(training_split: pd.DataFrame, held_out_split: pd.DataFrame) -> Json:
    """Count held-out wines that also stand among the training wines."""
    return audit.audit_leakage(training_split, held_out_split)


def approve_split(
    training_split: pd.DataFrame,
    held_out_split: pd.DataFrame,
    split_audit: Json,
    parameters: ProcessingParameters,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pass the split on, unless it leaks and the environment does not allow that by name.

    Raises:
        WineQualityError: Held-out wines stand among the training wines.
    """
    leaked = split_audit["held_out_rows_in_training"]
    if leaked and "leakage" not in parameters.allow:
        raise WineQualityError(
            f"{leaked:,} of {split_audit['held_out_rows']:,} held-out wines also stand among the "
            "training wines, so scores on them would mean nothing. Split with "
            "processing.split.method=hash, or allow it: --params processing.allow=[leakage]"
        )
    return training_split, held_out_split
