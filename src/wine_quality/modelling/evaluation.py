"""Cross-validation that cannot leak: equal wines share a fold, preprocessing is fitted in it."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from wine_quality.modelling.metrics import score
from wine_quality.modelling.splitting import assign_parts
from wine_quality.wines import INPUTS, QUALITY

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline as Model


def assign_folds(wines: pd.DataFrame, folds: int, repeats: int, seed: int) -> pd.DataFrame:
    """Give every wine a fold, once per repeat.

    Folds are the parts that `assign_parts` makes.

    Args:
        wines: n wines with inputs and quality.
        folds: Number of folds.
        repeats: How often to divide anew.
        seed: Seed of the first repeat; each further one counts up.

    Returns:
        Frame of shape (n, repeats), columns `repeat_0`, …, values 0 to folds - 1.

    Raises:
        WineQualityError: There are fewer distinct wines than folds.
    """
    return pd.DataFrame(
        {f"repeat_{i}": assign_parts(wines, folds, seed + i) for i in range(repeats)},
        index=wines.index,
    )


def cross_validate(model: "Model", wines: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    """Fit and score a model on every fold of every repeat.

    Args:
        model: Unfitted model; each fold fits a clone.
        wines: n wines with inputs and quality.
        folds: As `assign_folds` gives them for these wines.

    Returns:
        One row a repeat and fold: `repeat`, `fold`, and the metrics of `score` on the wines of
        the fold, predicted by the model fitted on the others.
    """
    from sklearn.base import clone

    inputs, quality = wines[list(INPUTS)], wines[QUALITY].to_numpy()
    rows = []
    for repeat, assigned in enumerate(folds.to_numpy().T):
        for fold in np.unique(assigned):
            inside = assigned == fold
            fitted = clone(model).fit(inputs[~inside], quality[~inside])
            prediction = np.asarray(fitted.predict(inputs[inside]), dtype=float)
            scores = score(quality[inside].astype(float), prediction)
            rows.append({"repeat": repeat, "fold": int(fold)} | scores)
    return pd.DataFrame(rows)
