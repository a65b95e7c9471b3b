import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from wine_quality.errors import WineQualityError
from wine_quality.modelling.boosting import EarlyStopped
from wine_quality.modelling.candidates import Candidate, build_model, fit_candidate
from wine_quality.modelling.splitting import assign_parts
from wine_quality.wines import INPUTS, QUALITY, wine_groups

SETTINGS = {"n_estimators": 200, "learning_rate": 0.3, "max_depth": 3, "n_jobs": 1}
BOOSTED = Candidate.model_validate(
    {
        "estimator": "xgboost.XGBRegressor",
        "settings": SETTINGS,
        "early_stopping": {"rounds": 5, "held_back_share": 0.2},
    }
)


@pytest.fixture
def fitted(labelled_wines):
    return build_model(BOOSTED, 3).fit(labelled_wines[list(INPUTS)], labelled_wines[QUALITY])


def test_it_stops_when_the_error_no_longer_falls(fitted):
    assert fitted.rounds_ < 200
    assert len(fitted.curve_) == fitted.rounds_ + 5
    assert np.argmin(fitted.curve_) == fitted.rounds_ - 1


def test_the_last_fit_has_that_many_rounds_and_every_wine(fitted, labelled_wines):
    plain = build_model(
        Candidate(estimator=BOOSTED.estimator, settings=SETTINGS).with_settings(
            {"n_estimators": fitted.rounds_}
        ),
        3,
    ).fit(labelled_wines[list(INPUTS)], labelled_wines[QUALITY])
    assert (fitted.predict(labelled_wines) == plain.predict(labelled_wines)).all()


def test_what_it_leaves_needs_nothing_of_this_project(labelled_wines):
    import skops.io

    found = fit_candidate(BOOSTED, labelled_wines, 3)
    assert type(found.model) is Pipeline
    assert found.rounds == found.model[-1].n_estimators
    assert len(found.curve) == found.rounds + 5
    types = skops.io.get_untrusted_types(data=skops.io.dumps(found.model))
    assert not [name for name in types if name.startswith("wine_quality")]


def test_equal_wines_are_held_back_together(labelled_wines, monkeypatch):
    seen = {}

    def assign(wines, parts, seed):
        seen["wines"], seen["parts"] = wines, assign_parts(wines, parts, seed)
        return seen["parts"]

    monkeypatch.setattr("wine_quality.modelling.boosting.assign_parts", assign)
    fit_candidate(BOOSTED, labelled_wines, 3)
    back = seen["parts"] == 0
    groups = wine_groups(seen["wines"]).to_numpy()
    assert not set(groups[back]) & set(groups[~back])
    assert back.mean() == pytest.approx(0.2, abs=0.03)


def test_the_seed_decides_what_is_held_back(labelled_wines):
    def curve(seed):
        return fit_candidate(BOOSTED, labelled_wines, seed).curve

    assert curve(1) == curve(1)
    assert curve(1) != curve(2)


def test_it_can_be_cloned_and_given_settings():
    model = build_model(BOOSTED, 3)
    assert isinstance(clone(model), EarlyStopped)
    model.set_params(model__estimator__max_depth=2)
    assert model.model[-1].max_depth == 2


def test_too_few_wines_are_an_error(labelled_wines):
    with pytest.raises(WineQualityError, match="cannot be divided into 5 parts"):
        fit_candidate(BOOSTED, labelled_wines.head(3), 3)
