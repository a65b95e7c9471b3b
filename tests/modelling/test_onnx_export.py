import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsRegressor
from sklearn.svm import SVR

from wine_quality.modelling import onnx_export
from wine_quality.modelling.candidates import Candidate, build_model
from wine_quality.modelling.onnx_export import (
    TOLERANCE,
    NotConvertibleError,
    convert,
    export,
    run,
    trying_wines,
)
from wine_quality.traffic.fit_figures import read_uci
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, PREDICTION, QUALITY, TYPE

ENSEMBLE = "sklearn.ensemble"
CANDIDATES = {
    "decision tree": ("sklearn.tree.DecisionTreeClassifier", {"max_depth": 6}, False),
    "regression tree": ("sklearn.tree.DecisionTreeRegressor", {}, False),
    "forest of classes": (f"{ENSEMBLE}.RandomForestClassifier", {"n_estimators": 8}, False),
    "blurred classes": (
        f"{ENSEMBLE}.ExtraTreesClassifier",
        {"n_estimators": 8, "min_samples_leaf": 3, "class_weight": "balanced"},
        False,
    ),
    "forest": (f"{ENSEMBLE}.RandomForestRegressor", {"n_estimators": 8}, False),
    "extra trees": (f"{ENSEMBLE}.ExtraTreesRegressor", {"n_estimators": 8}, False),
    "scaled trees": (f"{ENSEMBLE}.ExtraTreesRegressor", {"n_estimators": 8}, True),
    "neighbours": ("sklearn.neighbors.KNeighborsRegressor", {"n_neighbors": 5}, False),
    "scaled neighbours": ("sklearn.neighbors.KNeighborsRegressor", {"n_neighbors": 5}, True),
    "neighbours by distance": (
        "sklearn.neighbors.KNeighborsRegressor",
        {"n_neighbors": 9, "weights": "distance"},
        True,
    ),
    "boosting": ("xgboost.XGBRegressor", {"n_estimators": 20, "n_jobs": 1}, False),
    "a line, by the library": ("sklearn.linear_model.Ridge", {}, True),
    "classes, by the library": ("sklearn.linear_model.LogisticRegression", {}, True),
}


def fitted(wines, estimator, settings=None, scale=False):
    candidate = Candidate(estimator=estimator, settings=settings or {}, scale=scale)
    return build_model(candidate, 0).fit(wines[list(INPUTS)], wines[QUALITY])


def with_estimator(wines, estimator):
    model = build_model(Candidate(estimator="sklearn.svm.SVR"), 0)
    model.steps[-1] = ("estimator", estimator)
    return model.fit(wines[list(INPUTS)], wines[QUALITY])


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_converted_model_answers_as_it_did(labelled_wines, name):
    model = fitted(labelled_wines, *CANDIDATES[name])
    # the training wines themselves: that is where distances are 0
    found = export(model, labelled_wines)
    assert (found.parity, found.content is None) == ("passed", False), found.reason
    assert found.max_difference <= TOLERANCE
    if hasattr(model, "classes_"):
        assert found.max_difference == 0


def test_the_file_takes_and_gives_what_the_service_expects(labelled_wines):
    import onnxruntime

    content = convert(fitted(labelled_wines, *CANDIDATES["forest"]))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    given = {i.name: (i.type, i.shape[1]) for i in session.get_inputs()}
    assert given == {
        "type": ("tensor(string)", 1),
        "measurements": ("tensor(float)", len(MEASUREMENT_NAMES)),
    }
    (answer,) = session.get_outputs()
    assert (answer.name, answer.type, answer.shape[1]) == (PREDICTION, "tensor(float)", 1)


def test_the_answer_to_a_wine_does_not_depend_on_the_others(labelled_wines):
    content = convert(fitted(labelled_wines, *CANDIDATES["neighbours by distance"]))
    together = run(content, labelled_wines)
    alone = [run(content, labelled_wines.iloc[[i]])[0] for i in range(10)]
    assert alone == pytest.approx(together[:10], abs=1e-6)


def test_a_type_that_nobody_knows_is_refused_by_both(labelled_wines):
    model = fitted(labelled_wines, *CANDIDATES["forest"])
    rose = labelled_wines.head(1).assign(type="rosé")
    with pytest.raises(ValueError, match="unknown categories"):
        model.predict(rose)
    with pytest.raises(Exception, match=r"[Uu]nknown"):
        run(convert(model), rose)


def test_a_measurement_that_was_never_taken_is_converted(labelled_wines):
    wines = labelled_wines.assign(chlorides=np.nan)
    assert (
        export(fitted(wines, *CANDIDATES["scaled neighbours"]), labelled_wines).parity == "passed"
    )


def test_the_wines_to_agree_on(labelled_wines):
    tried = trying_wines(labelled_wines)
    pd.testing.assert_frame_equal(
        tried.head(len(labelled_wines)), labelled_wines[list(INPUTS)], check_dtype=False
    )
    missing = tried[list(MEASUREMENT_NAMES)].isna()
    assert (missing.sum() >= 20).all()
    assert set(tried.loc[missing.all(axis=1), TYPE]) == {"red", "white"}
    known = labelled_wines[list(MEASUREMENT_NAMES)]
    assert (tried[list(MEASUREMENT_NAMES)].max() > known.max()).all()
    pd.testing.assert_frame_equal(tried, trying_wines(labelled_wines))


def test_a_model_that_answers_otherwise_is_not_exported(labelled_wines, monkeypatch):
    other = convert(fitted(labelled_wines, *CANDIDATES["neighbours"]))
    monkeypatch.setattr(onnx_export, "convert", lambda _: other)
    found = export(fitted(labelled_wines, *CANDIDATES["forest"]), labelled_wines)
    assert (found.parity, found.content) == ("failed", None)
    assert found.max_difference > TOLERANCE
    assert found.reason.startswith("the converted model differs from scikit-learn by up to")


def test_a_model_that_answers_no_number_is_not_exported(labelled_wines, monkeypatch):
    monkeypatch.setattr(onnx_export, "run", lambda _, wines: np.full(len(wines), np.nan))
    found = export(fitted(labelled_wines, *CANDIDATES["forest"]), labelled_wines)
    assert (found.parity, found.max_difference) == ("failed", np.inf)


def test_a_file_that_does_not_run_is_not_exported(labelled_wines, monkeypatch):
    monkeypatch.setattr(onnx_export, "convert", lambda _: b"no model")
    found = export(fitted(labelled_wines, *CANDIDATES["forest"]), labelled_wines)
    assert (found.parity, found.content) == ("failed", None)
    assert found.reason.startswith("ONNX Runtime does not run the converted model")


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (
            KNeighborsRegressor(metric="manhattan"),
            "KNeighborsRegressor with metric manhattan and weights uniform cannot be converted",
        ),
        (
            KNeighborsRegressor(weights=np.sqrt),
            "KNeighborsRegressor with metric euclidean and weights",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_onnx_form_says_so(labelled_wines, estimator, reason):
    model = with_estimator(labelled_wines, estimator)
    with pytest.raises(NotConvertibleError, match=reason):
        convert(model)
    found = export(model, labelled_wines)
    assert (found.parity, found.content, found.max_difference) == ("none", None, None)
    assert found.reason.startswith(reason)


class Unheard(SVR):
    """An estimator that no converter knows."""


def test_an_estimator_that_no_converter_knows_says_so(labelled_wines):
    found = export(with_estimator(labelled_wines, Unheard()), labelled_wines)
    assert found.parity == "none"
    assert found.reason.startswith("Unheard cannot be converted: ")
    assert "\n" not in found.reason


@pytest.mark.slow
@pytest.mark.parametrize("name", CANDIDATES)
def test_converted_models_agree_on_the_real_wines(real_data, name):
    wines = read_uci(real_data / "uci")
    training = np.random.default_rng(1).random(len(wines)) < 0.8
    found = export(fitted(wines[training], *CANDIDATES[name]), wines)
    assert found.parity == "passed", found.reason
