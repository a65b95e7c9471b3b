"""Nodes of the processing pipeline: raw files in, training and held-out wines out."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from wine_quality.datasets.labelled_traffic import LabelledTraffic
from wine_quality.drift.verdict_store import HISTORY_DTYPES, VerdictStore
from wine_quality.errors import WineQualityError
from wine_quality.modelling.splitting import hold_out
from wine_quality.pipelines.processing import audit, reading
from wine_quality.pipelines.processing.parameters import ProcessingParameters
from wine_quality.pipelines.retraining.parameters import RetrainingParameters
from wine_quality.retraining import traffic

Json = dict[str, Any]
NO_WINDOWS = pd.DataFrame(columns=list(HISTORY_DTYPES))


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
            f"{first[reading.REASON]}. Correct the files (all reasons are in the dataset "
            "rejected_wines), or go on without them: --params processing.allow=[rejected_rows]"
        )
    if validated_wines.empty:
        raise WineQualityError("No row is a wine: see the reasons in the dataset rejected_wines.")
    return validated_wines


def sort_traffic(
    accepted_wines: pd.DataFrame,
    labelled_traffic: LabelledTraffic,
    recorded_verdicts: VerdictStore,
    retraining: RetrainingParameters,
) -> tuple[pd.DataFrame, pd.DataFrame, Json]:
    """Join labelled traffic to the raw wines, where that is asked for, and keep garbage out.

    Returns:
        The wines to divide: accepted ones and traffic; the traffic that was left out, each row with
        the `rule` that it breaks; and how many rows each rule leaves out.
    """
    settings = retraining.traffic
    rows = labelled_traffic.newest(settings.most_labels if retraining.use_traffic else 0)
    faulty = recorded_verdicts.windows_judged("data_quality") if len(rows) else NO_WINDOWS
    sorted_rows = traffic.sort_traffic(rows, accepted_wines, faulty, settings)
    return (
        traffic.join_traffic(accepted_wines, sorted_rows),
        sorted_rows[sorted_rows[traffic.RULE] != ""].reset_index(drop=True),
        traffic.audit_traffic(sorted_rows, retraining.use_traffic),
    )


def split_wines(
    usable_wines: pd.DataFrame, parameters: ProcessingParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide the wines into training and held-out wines.

    Returns:
        Training and held-out wines; together every usable wine once, in their order.

    Raises:
        WineQualityError: The file to hold out is not among those read, or is the only one; or the
            wines are so few that all come to one side.
    """
    split = parameters.split
    if split.method == "file":
        held_out = usable_wines[reading.SOURCE] == split.held_out_file
        if not held_out.any() or held_out.all():
            files = ", ".join(sorted(usable_wines[reading.SOURCE].unique()))
            raise WineQualityError(
                f"{split.held_out_file} cannot be held out of the files read ({files}): "
                "set processing.split.held_out_file to one of several files."
            )
    else:
        side = hold_out(usable_wines, split.held_out_share, split.seed)
        held_out = pd.Series(side, index=usable_wines.index)
        if not held_out.any() or held_out.all():
            raise WineQualityError(
                f"All {len(usable_wines)} wines come to one side of the split, so there is "
                f"nothing to {'train on' if held_out.any() else 'judge a model by'}: bring more "
                "wines."
            )
    return (
        usable_wines[~held_out].reset_index(drop=True),
        usable_wines[held_out].reset_index(drop=True),
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
