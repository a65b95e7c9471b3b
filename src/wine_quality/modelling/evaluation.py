"""Cross-validation that cannot leak: equal wines share a fold, preprocessing is fitted in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from wine_quality.modelling.candidates import FittedCandidate, unwrap
from wine_quality.modelling.metrics import METRICS, score_slices
from wine_quality.modelling.splitting import assign_parts
from wine_quality.wines import INPUTS, PREDICTION, QUALITY, TYPE, WINE_TYPES, wine_groups

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline as Model

    from wine_quality.modelling.boosting import EarlyStopped

LEAST_GROUPS = 50
"""Fewer different wines than this are no fit worth showing, and too few for some estimators."""


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


@dataclass(frozen=True)
class FoldScores:
    """What one fold came to.

    Attributes:
        scores: `repeat`, `fold`, the metrics of `score` on the wines of the fold, predicted by the
            model fitted on the others, and those of each type as `<metric>_<type>`; NaN where the
            fold has no wine of the type.
        fitted: The model fitted on the others.
        rows: Places of the fold's wines, shape (k,).
        prediction: What the model says of them, shape (k,).
    """

    scores: dict[str, float]
    fitted: FittedCandidate
    rows: np.ndarray
    prediction: np.ndarray


def score_folds(
    model: "Model | EarlyStopped", wines: pd.DataFrame, folds: pd.DataFrame
) -> Iterator[FoldScores]:
    """Fit and score a model fold by fold, for who may want to stop before the last one.

    Args:
        model: Unfitted model; each fold fits a clone.
        wines: n wines with inputs and quality.
        folds: As `assign_folds` gives them for these wines.
    """
    from sklearn.base import clone

    inputs, quality = wines[list(INPUTS)], wines[QUALITY].to_numpy()
    for repeat, assigned in enumerate(folds.to_numpy().T):
        for fold in np.unique(assigned):
            inside = assigned == fold
            fitted = clone(model).fit(inputs[~inside], quality[~inside])
            prediction = np.asarray(fitted.predict(inputs[inside]), dtype=float)
            of_slice = score_slices(
                wines.loc[inside, [TYPE, QUALITY]].assign(**{PREDICTION: prediction})
            )
            by_type = {
                f"{metric}_{name}": of_slice.get(name, {}).get(metric, float("nan"))
                for name in WINE_TYPES
                for metric in METRICS
            }
            place = {"repeat": repeat, "fold": int(fold)}
            yield FoldScores(
                place | of_slice["all"] | by_type,
                unwrap(fitted),
                np.flatnonzero(inside),
                prediction,
            )


def out_of_fold(folds: Sequence[FoldScores], wines: int) -> np.ndarray:
    """Put the predictions of the first repeat's folds together.

    Args:
        folds: As `score_folds` gives them.
        wines: Number of wines.

    Returns:
        Of each wine the prediction of the model that was not fitted on it, shape (wines,).
    """
    prediction = np.full(wines, np.nan)
    for fold in folds:
        if fold.scores["repeat"] == 0:
            prediction[fold.rows] = fold.prediction
    return prediction


def permutation_importance(
    model: "Model",
    wines: pd.DataFrame,
    seed: int,
    repeats: int,
    max_wines: int = 1000,
) -> pd.DataFrame:
    """Measure how much worse a model predicts without what an input tells.

    An input's values are dealt anew among the wines, which keeps their distribution and takes away
    their tie to the quality (Breiman, Random Forests, Machine Learning 45, 2001). Inputs that tell
    the same (density, alcohol and sugar) share their importance: each looks less important than it
    is, because the others still tell it.

    Args:
        model: Fitted model.
        wines: Wines that it was not fitted on, with inputs and quality.
        seed: Seed of the dealing, and of the choice of wines.
        repeats: How often to deal each input.
        max_wines: Of more wines, this many are drawn.

    Returns:
        One row an input, the most important first: `input`, and `increase`, the mean rise of the
        mean absolute error in points of quality, with its standard deviation `spread`.
    """
    rng = np.random.default_rng(seed)
    if len(wines) > max_wines:
        wines = wines.iloc[np.sort(rng.choice(len(wines), max_wines, replace=False))]
    inputs, quality = wines[list(INPUTS)].reset_index(drop=True), wines[QUALITY].to_numpy(float)

    def errors(given: pd.DataFrame) -> np.ndarray:
        prediction = np.asarray(model.predict(given), dtype=float).reshape(-1, len(quality))
        found: np.ndarray = np.abs(prediction - quality).mean(axis=1)
        return found

    (before,) = errors(inputs)
    rows = []
    for name in INPUTS:
        dealt = [
            inputs.assign(**{name: inputs[name].to_numpy()[rng.permutation(len(inputs))]})
            for _ in range(repeats)
        ]
        # one prediction for all: a forest's threads cost more to start than to use
        rise = errors(pd.concat(dealt, ignore_index=True)) - before
        rows.append({"input": name, "increase": rise.mean(), "spread": rise.std()})
    table = pd.DataFrame(rows)
    return table.sort_values("increase", ascending=False, kind="stable", ignore_index=True)


def learning_curve(
    model: "Model",
    wines: pd.DataFrame,
    assigned: pd.Series,
    shares: Sequence[float],
    seed: int,
) -> pd.DataFrame:
    """Fit a model on ever more wines, and judge it each time on the same others.

    Args:
        model: Unfitted model; each share fits a clone.
        wines: n wines with inputs and quality.
        assigned: Fold of each wine, one column of `assign_folds`; fold 0 judges.
        shares: Shares of the groups of equal wines in the other folds to fit on; larger ones hold
            the smaller.
        seed: Seed of the order in which groups are added.

    Returns:
        One row a share: `wines` fitted on, `training_mae` on these and `validation_mae` on fold 0.
    """
    from sklearn.base import clone

    judged, others = wines[assigned == 0], wines[assigned != 0]
    groups = wine_groups(others).to_numpy()
    count = groups.max() + 1
    place = np.random.default_rng(seed).permutation(count)[groups]
    sizes = {min(count, max(LEAST_GROUPS, round(share * count))) for share in shares}
    rows = []
    for size in sorted(sizes):
        used = others[place < size]
        fitted = clone(model).fit(used[list(INPUTS)], used[QUALITY].to_numpy())
        training, validation = (
            float(np.abs(fitted.predict(part[list(INPUTS)]) - part[QUALITY]).mean())
            for part in (used, judged)
        )
        rows.append({"wines": len(used), "training_mae": training, "validation_mae": validation})
    return pd.DataFrame(rows)
