import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.base import clone

from wine_quality.errors import WineQualityError
from wine_quality.modelling.candidates import Candidate, EarlyStopping, build_model, fit_candidate
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, QUALITY

TREE = Candidate(estimator="sklearn.tree.DecisionTreeRegressor", settings={"max_depth": 3})
SMALL = {
    "sklearn.tree.DecisionTreeClassifier": {"max_depth": 3},
    "sklearn.ensemble.RandomForestClassifier": {"n_estimators": 4},
    "sklearn.ensemble.RandomForestRegressor": {"n_estimators": 4},
    "sklearn.ensemble.ExtraTreesClassifier": {"n_estimators": 4},
    "sklearn.ensemble.ExtraTreesRegressor": {"n_estimators": 4},
    "sklearn.neighbors.KNeighborsRegressor": {"n_neighbors": 3},
    "xgboost.XGBRegressor": {"n_estimators": 4, "n_jobs": 1},
}


def fit(candidate, wines, seed=0):
    return build_model(candidate, seed).fit(wines[list(INPUTS)], wines[QUALITY])


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("estimator", SMALL)
def test_a_model_takes_wines_as_they_come(labelled_wines, estimator, scale):
    candidate = Candidate(estimator=estimator, settings=SMALL[estimator], scale=scale)
    model = fit(candidate, labelled_wines)
    assert type(model[-1]).__name__ == estimator.rpartition(".")[2]
    bare = labelled_wines[list(INPUTS)].head(4).assign(**dict.fromkeys(MEASUREMENT_NAMES, np.nan))
    prediction = model.predict(bare)
    assert prediction.shape == (4,)
    assert ((prediction >= 3) & (prediction <= 9)).all()


def test_a_missing_value_counts_as_the_training_mean(labelled_wines):
    model = fit(TREE, labelled_wines)
    means = labelled_wines[list(MEASUREMENT_NAMES)].mean()
    wine = labelled_wines[list(INPUTS)].head(1)
    missing = wine.assign(**dict.fromkeys(MEASUREMENT_NAMES, np.nan))
    filled = wine.assign(**means)
    assert model[0].transform(missing) == pytest.approx(model[0].transform(filled))


def test_a_measurement_that_was_never_taken_stops_nothing(labelled_wines, recwarn):
    model = fit(TREE, labelled_wines.assign(chlorides=np.nan))
    # it is still among the inputs, where a later wine may have it
    assert model[0].transform(labelled_wines).shape == (len(labelled_wines), 13)
    assert np.isfinite(model.predict(labelled_wines[list(INPUTS)])).all()
    assert not recwarn.list


def test_the_type_becomes_two_columns_also_where_one_type_trains(labelled_wines):
    red = labelled_wines[labelled_wines["type"] == "red"]
    inputs = fit(TREE, red)[0]
    both = inputs.transform(labelled_wines[list(INPUTS)])
    assert both.shape == (len(labelled_wines), 2 + len(MEASUREMENT_NAMES))
    assert (both[:, 0] == (labelled_wines["type"] == "red")).all()
    assert (both[:, 1] == (labelled_wines["type"] == "white")).all()


def test_measurements_are_standardised_where_asked_for(labelled_wines):
    def measurements(scale):
        candidate = Candidate(estimator=TREE.estimator, scale=scale)
        return fit(candidate, labelled_wines)[0].transform(labelled_wines)[:, 2:]

    assert measurements(True).mean(axis=0) == pytest.approx(np.zeros(11), abs=1e-9)
    assert measurements(True).std(axis=0) == pytest.approx(np.ones(11))
    assert measurements(False).mean(axis=0) == pytest.approx(
        labelled_wines[list(MEASUREMENT_NAMES)].mean().to_numpy()
    )


def test_settings_and_seed_reach_the_estimator():
    model = build_model(TREE, 41)
    assert model[-1].get_params()["max_depth"] == 3
    assert model[-1].get_params()["random_state"] == 41
    assert clone(model) is not model


def test_an_estimator_without_a_seed_gets_none():
    knn = Candidate(estimator="sklearn.neighbors.KNeighborsRegressor")
    assert "random_state" not in build_model(knn, 41)[-1].get_params()


def test_the_same_seed_gives_the_same_model(labelled_wines):
    settings = {"n_estimators": 4, "max_depth": 3}
    forest = Candidate(estimator="sklearn.ensemble.ExtraTreesRegressor", settings=settings)
    inputs = labelled_wines[list(INPUTS)]
    first, same, other = (fit(forest, labelled_wines, seed).predict(inputs) for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()


@pytest.mark.parametrize(
    ("estimator", "settings", "why"),
    [
        ("sklearn.tree.NoSuchTree", {}, "module 'sklearn.tree' has no attribute 'NoSuchTree'"),
        (
            "no_such_package.Model",
            {},
            "cannot be imported: No module named 'no_such_package'. Install what has "
            "no_such_package ('pip install no_such_package' for most), or correct its estimator",
        ),
        (TREE.estimator, {"depth": 3}, "unexpected keyword argument 'depth'"),
        ("collections.Counter", {}, "get_params"),
    ],
)
def test_a_candidate_that_cannot_be_built_says_which_and_why(estimator, settings, why):
    with pytest.raises(WineQualityError, match="training parameters") as caught:
        build_model(Candidate(estimator=estimator, settings=settings), 0)
    assert str(caught.value).startswith(f"Candidate {estimator} ")
    assert why in str(caught.value)


def test_a_class_without_its_module_is_refused():
    with pytest.raises(ValidationError, match="estimator"):
        Candidate(estimator="DecisionTreeRegressor")


def test_a_misspelt_key_is_named():
    with pytest.raises(ValidationError, match="setings"):
        Candidate(estimator=TREE.estimator, setings={})


# Search spaces


def space(**changes):
    plain = {"type": "int", "low": 2, "high": 8} | changes
    return Candidate(estimator=TREE.estimator, search_space={"max_depth": plain}).search_space


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"low": 8}, "low has to be less than high"),
        ({"low": 0, "log": True}, "needs low above 0"),
        ({"low": 2.5}, "low"),
        ({"type": "integer"}, "type"),
        ({"step": 2}, "step"),
        ({"type": "categorical"}, "choices"),
    ],
)
def test_a_wrong_search_space_is_refused(changes, why):
    with pytest.raises(ValidationError, match=why):
        space(**changes)


@pytest.mark.parametrize(
    ("given", "held", "not_held"),
    [
        ({"type": "int", "low": 2, "high": 8}, [2, 8], [1, 9, 2.5, True, "2", None]),
        ({"type": "float", "low": 0.5, "high": 2}, [0.5, 1, 2.0], [0.4, 2.1, True, None]),
        ({"type": "categorical", "choices": [None, 1, "a"]}, [None, 1, "a"], [True, 1.0, "b"]),
    ],
)
def test_what_a_range_holds(given, held, not_held):
    candidate = Candidate(estimator=TREE.estimator, search_space={"x": given})
    assert all(candidate.search_space["x"].holds(value) for value in held)
    assert not any(candidate.search_space["x"].holds(value) for value in not_held)


def test_some_settings_can_be_replaced():
    changed = TREE.with_settings({"max_depth": 5, "min_samples_leaf": 2})
    assert changed.settings == {"max_depth": 5, "min_samples_leaf": 2}
    assert TREE.settings == {"max_depth": 3}


def test_only_boosting_can_stop_early():
    stopping = {"rounds": 5, "held_back_share": 0.2}
    with pytest.raises(WineQualityError, match="cannot stop early: take early_stopping out"):
        build_model(TREE.model_copy(update={"early_stopping": EarlyStopping(**stopping)}), 0)


def test_a_candidate_without_early_stopping_is_fitted_as_it_is(labelled_wines):
    fitted = fit_candidate(TREE, labelled_wines, 0)
    assert (fitted.curve, fitted.rounds) == ((), None)
    same = fit(TREE, labelled_wines)
    assert (fitted.model.predict(labelled_wines) == same.predict(labelled_wines)).all()
