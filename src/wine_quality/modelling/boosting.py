"""Boosting that finds out by itself how many rounds it needs."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin, clone

from wine_quality.modelling.splitting import assign_parts
from wine_quality.wines import INPUTS, QUALITY

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline as Model


class EarlyStopped(RegressorMixin, BaseEstimator):  # type: ignore[misc] # sklearn has no types
    """Fits a boosting model twice: to find its number of rounds, then on all wines.

    The first fit holds back a part of the wines that it is given, equal wines together, and stops
    when the error on them no longer falls. The second takes that number of rounds and every wine.
    What comes out is a plain scikit-learn pipeline with a plain `XGBRegressor`, so that saving,
    converting and loading it need nothing of this project.

    Args:
        model: Unfitted pipeline whose last step is called `estimator` and takes
            `early_stopping_rounds`; its `n_estimators` is the most rounds that it may have.
        rounds: How many rounds without a lower error end the first fit.
        held_back_share: Share of the wines held back from the first fit.
        seed: Seed of the division.

    Attributes:
        model_: The pipeline, fitted on all wines.
        rounds_: Its number of rounds.
        curve_: Error (RMSE) on the held-back wines after each round of the first fit.
    """

    def __init__(self, model: "Model", rounds: int, held_back_share: float, seed: int) -> None:
        self.model = model
        self.rounds = rounds
        self.held_back_share = held_back_share
        self.seed = seed

    def fit(self, wines: pd.DataFrame, quality: pd.Series | np.ndarray) -> "EarlyStopped":
        """Fit on wines of shape (n, 12) and their qualities of shape (n,).

        Raises:
            WineQualityError: There are too few wines to hold some back.
        """
        quality = np.asarray(quality)
        labelled = wines[list(INPUTS)].assign(**{QUALITY: quality})
        back = assign_parts(labelled, round(1 / self.held_back_share), self.seed) == 0
        inputs = clone(self.model[:-1])
        measured = inputs.fit_transform(wines[~back], quality[~back])
        first = clone(self.model[-1]).set_params(early_stopping_rounds=self.rounds)
        unseen = [(inputs.transform(wines[back]), quality[back])]
        first.fit(measured, quality[~back], eval_set=unseen, verbose=False)
        (self.curve_,) = first.evals_result()["validation_0"].values()
        self.rounds_ = int(first.best_iteration) + 1
        whole = clone(self.model).set_params(estimator__n_estimators=self.rounds_)
        self.model_ = whole.fit(wines, quality)
        return self

    def predict(self, wines: pd.DataFrame) -> np.ndarray:
        """Predict qualities, shape (n,)."""
        prediction: np.ndarray = self.model_.predict(wines)
        return prediction
