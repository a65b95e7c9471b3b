from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.pipeline import make_pipeline

from wine_quality.errors import WineQualityError
from wine_quality.modelling.evaluation import (
    assign_folds,
    learning_curve,
    permutation_importance,
    score_folds,
)
from wine_quality.modelling.metrics import METRICS
from wine_quality.modelling.splitting import assign_parts
from wine_quality.wines import INPUTS, QUALITY, WINE_TYPES, wine_groups


def cross_validate(model, wines, folds):
    return pd.DataFrame([fold.scores for fold in score_folds(model, wines, folds)])


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
    by_type = [f"{metric}_{wine_type}" for wine_type in WINE_TYPES for metric in METRICS]
    assert list(scores) == ["repeat", "fold", *METRICS, *by_type]
    assert scores[["repeat", "fold"]].to_numpy().tolist() == [
        [repeat, fold] for repeat in (0, 1) for fold in (0, 1, 2)
    ]
    inside = folds["repeat_1"] == 2
    quality = labelled_wines[QUALITY]
    error = quality[~inside].mean() - quality[inside]
    assert scores["mae"].iloc[-1] == pytest.approx(error.abs().mean())
    assert scores["rmse"].iloc[-1] == pytest.approx((error**2).mean() ** 0.5)
    red = error[labelled_wines["type"] == "red"]
    assert scores["mae_red"].iloc[-1] == pytest.approx(red.abs().mean())


def test_a_fold_without_a_type_has_no_score_of_it(labelled_wines):
    white = labelled_wines[labelled_wines["type"] == "white"]
    folds = assign_folds(white, folds=2, repeats=1, seed=5)
    scores = cross_validate(make_pipeline(MeanQuality()), white, folds)
    assert scores["rmse_red"].isna().all()
    assert scores["rmse_white"].tolist() == scores["rmse"].tolist()


def test_the_given_model_stays_unfitted(labelled_wines):
    model = make_pipeline(MeanQuality())
    folds = assign_folds(labelled_wines, folds=2, repeats=1, seed=5)
    cross_validate(model, labelled_wines, folds)
    assert not hasattr(model[-1], "mean_")


def test_folds_can_be_stopped_after_any(labelled_wines):
    SEEN.clear()
    folds = assign_folds(labelled_wines, folds=3, repeats=1, seed=5)
    first = next(score_folds(make_pipeline(MeanQuality()), labelled_wines, folds))
    assert len(SEEN) == 1
    assert first.scores["fold"] == 0
    assert first.fitted.model[-1].mean_ == labelled_wines[QUALITY][folds["repeat_0"] != 0].mean()


class AlcoholAlone(RegressorMixin, BaseEstimator):
    """Predicts from alcohol and nothing else."""

    def fit(self, wines, quality):
        self.fitted_ = len(wines)
        return self

    def predict(self, wines):
        return wines["alcohol"].to_numpy() / 2


def test_only_what_the_model_looks_at_is_important(labelled_wines):
    wines = labelled_wines.assign(quality=(labelled_wines["alcohol"] / 2).round().fillna(5))
    wines = wines[wines["alcohol"].notna()].assign(quality=lambda w: w["quality"].astype(int))
    before = wines.copy()
    table = permutation_importance(AlcoholAlone(), wines, seed=1, repeats=4)
    assert table["input"].iloc[0] == "alcohol"
    assert table["increase"].iloc[0] > 0.1
    assert (table["increase"].iloc[1:] == 0).all()
    assert set(table["input"]) == set(INPUTS)
    pd.testing.assert_frame_equal(wines, before)
    same = permutation_importance(AlcoholAlone(), wines, seed=1, repeats=4)
    pd.testing.assert_frame_equal(same, table)
    fewer = permutation_importance(AlcoholAlone(), wines, seed=1, repeats=4, max_wines=60)
    assert fewer["input"].iloc[0] == "alcohol"


def test_a_learning_curve_adds_wines_and_judges_on_the_same_others(labelled_wines):
    SEEN.clear()
    assigned = assign_folds(labelled_wines, folds=3, repeats=1, seed=5)["repeat_0"]
    model = make_pipeline(MeanQuality())
    curve = learning_curve(model, labelled_wines, assigned, [1.0, 0.5, 0.7], seed=2)
    assert curve["wines"].is_monotonic_increasing
    assert curve["wines"].iloc[-1] == (assigned != 0).sum()
    groups = wine_groups(labelled_wines)
    others = set(groups[assigned == 0])
    fitted_on = [set(fitted.index) for fitted, _ in SEEN[::2]]
    for smaller, larger in pairwise(fitted_on):
        assert smaller < larger
    for wines in fitted_on:
        assert not set(groups[list(wines)]) & others
        # equal wines come in together
        left = (assigned != 0) & ~labelled_wines.index.isin(wines)
        assert not set(groups[list(wines)]) & set(groups[left])
    error = labelled_wines[QUALITY][assigned == 0] - labelled_wines[QUALITY][assigned != 0].mean()
    assert curve["validation_mae"].iloc[-1] == pytest.approx(error.abs().mean())


def test_few_wines_are_not_divided_further(labelled_wines):
    assigned = assign_folds(labelled_wines, folds=3, repeats=1, seed=5)["repeat_0"]
    model = make_pipeline(MeanQuality())
    curve = learning_curve(model, labelled_wines, assigned, [0.01, 0.02, 1.0], seed=2)
    assert len(curve) == 2
    assert curve["wines"].iloc[0] >= 50
