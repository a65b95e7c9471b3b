"""Ground truth as frames hand it in: checked before it is written anywhere."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd

from wine_quality.errors import WineQualityError
from wine_quality.serving.moments import utc_moments
from wine_quality.wines import QUALITY, QUALITY_BOUNDS, QUALITY_IS_WHOLE

_NAMES_IN_A_MESSAGE = 5


class UnknownPredictionsError(WineQualityError):
    """Ground truth names predictions that the log does not hold.

    Attributes:
        names: All of them, as they were given.
    """

    def __init__(self, message: str, names: Sequence[str]) -> None:
        super().__init__(message)
        self.names = tuple(names)


def read_labels(labels: pd.DataFrame) -> tuple[list[dict[str, Any]], list[str]]:
    """Check labels.

    Args:
        labels: As ``InferenceLog.append_ground_truth`` takes them.

    Returns:
        Mappings of ``prediction_id`` (a UUID), ``quality`` and ``labelled_at`` (UTC); and the ids
        among the labels' that are none.

    Raises:
        WineQualityError: If a column is missing, or a quality or moment is not one.
    """
    missing = {"prediction_id", QUALITY} - set(labels.columns)
    if missing:
        raise WineQualityError(
            f"Ground truth lacks the column(s) {', '.join(sorted(missing))}: give the "
            "prediction_id and the quality of every wine."
        )
    moments = utc_moments(
        labels["labelled_at"] if "labelled_at" in labels else datetime.now(UTC),
        len(labels),
        "labelled_at",
    )
    rows: list[dict[str, Any]] = []
    malformed: list[str] = []
    for name, quality, moment in zip(
        labels["prediction_id"], labels[QUALITY], moments, strict=True
    ):
        label = {QUALITY: _checked_quality(quality, name), "labelled_at": moment}
        try:
            rows.append({"prediction_id": UUID(str(name)), **label})
        except ValueError:
            malformed.append(str(name))
    return rows, malformed


def _checked_quality(quality: Any, name: Any) -> float:
    low, high = QUALITY_BOUNDS
    number = isinstance(quality, int | float | np.integer | np.floating)
    whole = number and float(quality).is_integer()
    if number and low <= quality <= high and (whole or not QUALITY_IS_WHOLE):
        return int(quality) if QUALITY_IS_WHOLE else float(quality)
    kind = "an integer" if QUALITY_IS_WHOLE else "a number"
    raise WineQualityError(
        f"The {QUALITY} {quality!r} of prediction {name} is none: give {kind} from {low} to {high}."
    )


def unknown_predictions(names: Sequence[str], submitted: int) -> UnknownPredictionsError:
    """Make the error that refuses labels.

    Args:
        names: The ids that the log does not hold.
        submitted: How many labels came.
    """
    shown = ", ".join(names[:_NAMES_IN_A_MESSAGE])
    more = ", …" if len(names) > _NAMES_IN_A_MESSAGE else ""
    return UnknownPredictionsError(
        f"{len(names)} of {submitted} labels name predictions that are not in the inference log "
        f"({shown}{more}): nothing of this batch was written; send ids that the service answered.",
        names,
    )
