"""One version of the model that takes frames of wines, and what it takes and answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.errors import RefusedBatchError, WineQualityError
from wine_quality.modelling.model import Model
from wine_quality.wines import INPUTS, MEASUREMENTS, TYPE, WINE_TYPES

_MISTAKES_IN_A_MESSAGE = 3
_POSSIBLE = {m.name: f"{m.possible[0]} to {m.possible[1]} {m.unit}".rstrip() for m in MEASUREMENTS}


@dataclass(frozen=True)
class ModelDescription:
    """Which model answers.

    Attributes:
        name: Name in the registry.
        version: Version in the registry.
    """

    name: str
    version: str


class Predictor:
    """A loaded model version."""

    def __init__(self, model: Model, name: str, version: str) -> None:
        """Take a model.

        Args:
            model: Predicts the quality of n wines, given as a frame of their twelve inputs.
            name: Its name in the registry.
            version: Its version in the registry.
        """
        self._model = model
        self.description = ModelDescription(name, version)

    def predict(self, wines: pd.DataFrame) -> NDArray[np.float64]:
        """Predict the quality of wines.

        Args:
            wines: Frame with the twelve inputs, n rows; measurements may be missing (NaN). Other
                columns are left out.

        Returns:
            Predicted quality, shape (n,).

        Raises:
            WineQualityError: If an input is missing or impossible, or the model does not answer
                with one finite number a wine.
        """
        return self.predict_checked(check_wines(wines))

    def predict_checked(self, inputs: pd.DataFrame) -> NDArray[np.float64]:
        """Predict the quality of wines that ``check_wines`` has passed.

        Args:
            inputs: Frame of the twelve inputs, n rows.

        Returns:
            Predicted quality, shape (n,).

        Raises:
            WineQualityError: If the model does not answer with one finite number a wine.
        """
        if inputs.empty:
            return np.empty(0)
        return check_predictions(self._model.predict(inputs), len(inputs), self.description)


def check_wines(wines: pd.DataFrame) -> pd.DataFrame:
    """Check that these can be wines.

    Args:
        wines: Frame with the twelve inputs, n rows.

    Returns:
        The twelve inputs alone, in canonical order and of canonical types, n rows.

    Raises:
        RefusedBatchError: If one is missing or impossible; it names row (by the frame's index)
            and column.
    """
    # Pandera takes a second, and few runs check a wine
    import pandera.errors

    from wine_quality.contracts import WINE_INPUTS

    missing = [name for name in INPUTS if name not in wines]
    if missing:
        raise RefusedBatchError(f"The wines lack the column(s) {', '.join(missing)}: add them.")
    twice = [name for name in INPUTS if isinstance(wines[name], pd.DataFrame)]
    if twice:
        raise RefusedBatchError(f"The wines have {', '.join(twice)} more than once: keep one.")
    inputs = wines[list(INPUTS)].reset_index(drop=True)
    try:
        return WINE_INPUTS.validate(inputs, lazy=True).set_axis(wines.index)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases.drop_duplicates(["column", "index"])
        rows = cases.dropna(subset=["index"]).astype({"index": int})
        mistakes = [
            _mistake(wines.index[row], column, inputs[column].iloc[row])
            for row, column in sorted(zip(rows["index"], rows["column"], strict=True))
        ]
        # A column of lists, say, fails as a whole.
        mistakes = mistakes or [
            f"{column}: not of its type" for column in sorted(set(cases["column"]))
        ]
        raise RefusedBatchError(_refusal(mistakes)) from error


def _mistake(row: Any, column: str, value: Any) -> str:
    wanted = " or ".join(WINE_TYPES) if column == TYPE else _POSSIBLE[column]
    shown = "missing" if pd.isna(value) else repr(value.item() if hasattr(value, "item") else value)
    return f"row {row}, {column}: {shown} (possible: {wanted})"


def _refusal(mistakes: list[str]) -> str:
    shown = "; ".join(mistakes[:_MISTAKES_IN_A_MESSAGE])
    more = len(mistakes) - _MISTAKES_IN_A_MESSAGE
    rest = f"; and {more} more" if more > 0 else ""
    return f"These cannot be wines: {shown}{rest}. Correct or leave out these values."


def check_predictions(answer: Any, n: int, model: ModelDescription) -> NDArray[np.float64]:
    """Check that a model has answered.

    Args:
        answer: What it answered.
        n: How many wines it was asked about.
        model: Which model.

    Returns:
        Predicted quality, shape (n,).

    Raises:
        WineQualityError: If it is not one finite number a wine.
    """
    predictions = np.asarray(answer, dtype="float64")
    if predictions.shape != (n,) or not np.isfinite(predictions).all():
        raise WineQualityError(
            f"The model {model.name} version {model.version} did not answer {n} wines with one "
            f"finite number each (shape {predictions.shape}): promote another version."
        )
    return predictions


def answer_frame(
    index: pd.Index, ids: Sequence[object], predictions: Any, versions: Any
) -> pd.DataFrame:
    """Put an answer together.

    Args:
        index: Index of the wines, n.
        ids: n prediction ids; their texts are taken.
        predictions: n predicted qualities.
        versions: n model versions, or the one of all.

    Returns:
        Frame with the index and the columns ``prediction_id``, ``prediction`` and
        ``model_version``.
    """
    return pd.DataFrame(
        {
            "prediction_id": [str(i) for i in ids],
            "prediction": predictions,
            "model_version": versions,
        },
        index=index,
    ).astype({"prediction_id": "str", "prediction": "float64", "model_version": "str"})
