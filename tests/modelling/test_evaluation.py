import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.pipeline import make_pipeline

from wine_quality.errors import WineQualityError
from wine_quality.modelling.evaluation import assign_folds, cross_validate
from wine_quality.modelling.metrics import METRICS
from wine_quality.modelling.splitting import assign_parts
from wine_quality.wines import INPUTS, QUALITY, wine_groups

SEEN: list[tuple[pd.DataFrame, pd.DataFrame]] = []


class MeanQuality(RegressorMixin, BaseEstimator):
    """Predicts the mean quality of what it was fitted on, and notes what it saw."""

    def fit(self, wines, quality):
        self.wines_, self.mean_ = wines, quality.mean()
        return self

    def predict(self, wines):
        SEEN.append((self.wines_, wines))
        return np.full(len(wines), self.mean_)


def test_folds_are_parts_divided_anew_for_each_repeat(labelled_wines):
    wines = labelled_wines.set_axis(range(1000, 1240))
    folds = assign_folds(wines, folds=3, repeats=2, seed=5)
    assert folds.index.equals(wines.index)
    assert list(folds) == ["repeat_0", "repeat_1"]
    assert folds["repeat_0"].tolist() == assign_parts(wines, 3, 5).tolist()
    assert folds["repeat_1"].tolist() == assign_parts(wines, 3, 6).tolist()


def test_too_many_folds_are_an_error(labelled_wines):
    with pytest.raises(WineQualityError, match="cannot be divided into 300 parts"):
        assign_folds(labelled_wines, folds=300, repeats=1, seed=0)


def test_every_wine_is_judged_once_a_repeat_by_a_model_that_never_saw_its_like(labelled_wines):
    SEEN.clear()
    folds = assign_folds(labelled_wines, folds=3, repeats=2, seed=5)
    cross_validate(make_pipeline(MeanQuality()), labelled_wines, folds)
    groups = wine_groups(labelled_wines)
    judged = []
    for fitted_on, judged_on in SEEN:
        assert not set(groups[fitted_on.index]) & set(groups[judged_on.index])
        assert len(fitted_on) + len(judged_on) == len(labelled_wines)
        assert list(fitted_on) == list(INPUTS)
        judged.extend(judged_on.index)
    assert sorted(judged) == sorted([*labelled_wines.index] * 2)


def test_scores_are_those_of_each_fold(labelled_wines):
    folds = assign_folds(labelled_wines, folds=3, repeats=2, seed=5)
    scores = cross_validate(make_pipeline(MeanQuality()), labelled_wines, folds)
    assert list(scores) == ["repeat", "fold", *METRICS]
    assert scores[["repeat", "fold"]].to_numpy().tolist() == [
        [repeat, fold] for repeat in (0, 1) for fold in (0, 1, 2)
    ]
    inside = folds["repeat_1"] == 2
    quality = labelled_wines[QUALITY]
    error = quality[~inside].mean() - quality[inside]
    assert scores["mae"].iloc[-1] == pytest.approx(error.abs().mean())
    assert scores["rmse"].iloc[-1] == pytest.approx((error**2).mean() ** 0.5)


def test_the_given_model_stays_unfitted(labelled_wines):
    model = make_pipeline(MeanQuality())
    folds = assign_folds(labelled_wines, folds=2, repeats=1, seed=5)
    cross_validate(model, labelled_wines, folds)
    assert not hasattr(model[-1], "mean_")
