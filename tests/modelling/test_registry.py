import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pandas.testing import assert_frame_equal

from wine_quality.errors import WineQualityError
from wine_quality.modelling.candidates import Candidate, build_model
from wine_quality.modelling.registry import CHALLENGER, CHAMPION, TrainedModel
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, PREDICTION, QUALITY

TREE = "sklearn.tree.DecisionTreeRegressor"
TREE_TYPE = "sklearn.tree._tree.Tree"


def train(wines, estimator=TREE, tags=None, **settings):
    model = build_model(Candidate(estimator=estimator, settings=settings), 0)
    model.fit(wines[list(INPUTS)], wines[QUALITY])
    prediction = np.asarray(model.predict(wines[list(INPUTS)]), dtype=float)
    reference = wines[[*INPUTS, QUALITY]].assign(**{PREDICTION: prediction})
    return TrainedModel(model, reference, tags or {})


@pytest.fixture
def register(registry, experiment_id):
    """Registers a trained model as a pipeline run does: in an MLflow run of its own."""

    def register_in_run(trained):
        with mlflow.start_run(experiment_id=experiment_id):
            return registry.register(trained)

    return register_in_run


def address(version):
    return f"models:/{version.name}/{version.version}"


# Round trip


@pytest.mark.parametrize(
    ("estimator", "settings", "foreign"),
    [
        (TREE, {"max_depth": 3}, TREE_TYPE),
        ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 3}, TREE_TYPE),
        ("sklearn.ensemble.ExtraTreesRegressor", {"n_estimators": 3}, TREE_TYPE),
        ("sklearn.neighbors.KNeighborsRegressor", {}, None),
        ("xgboost.XGBRegressor", {"n_estimators": 3, "n_jobs": 1}, "xgboost.sklearn.XGBRegressor"),
    ],
)
def test_a_champion_comes_back_as_it_was_trained(
    registry, register, labelled_wines, estimator, settings, foreign
):
    trained = train(labelled_wines, estimator, {"candidate": "x"}, **settings)
    version = register(trained)
    registry.set_alias(CHAMPION, version.version)
    champion = registry.champion()
    assert champion.version == version
    assert (version.version, version.tags) == ("1", {"candidate": "x"})
    assert (champion.model.predict(labelled_wines) == trained.reference[PREDICTION]).all()
    assert_frame_equal(registry.reference(version.version), trained.reference)
    # the version names the types that skops has to trust, and no more than that
    flavor = mlflow.models.get_model_info(address(version)).flavors["sklearn"]
    trusted = flavor["skops_trusted_types"]
    assert foreign is None or foreign in trusted
    assert all(name.startswith(("numpy.", "sklearn.", "xgboost.")) for name in trusted)


def test_a_version_holds_what_serving_it_takes(register, labelled_wines, tmp_path):
    version = register(train(labelled_wines, max_depth=3))
    mlflow.artifacts.download_artifacts(address(version), dst_path=str(tmp_path))
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {"MLmodel", "model.skops", "requirements.txt", "input_example.json"} <= files
    # a pickle would run code when it is loaded
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".joblib"))]
    requirements = (tmp_path / "requirements.txt").read_text()
    assert "scikit-learn==" in requirements
    assert "skops==" in requirements
    assert "xgboost" not in requirements


def test_a_boosted_version_asks_for_its_library(register, labelled_wines, tmp_path):
    version = register(train(labelled_wines, "xgboost.XGBRegressor", n_estimators=2, n_jobs=1))
    mlflow.artifacts.download_artifacts(f"{address(version)}", dst_path=str(tmp_path))
    assert "xgboost==" in (tmp_path / "requirements.txt").read_text()


def test_the_signature_is_the_twelve_inputs(register, labelled_wines):
    version = register(train(labelled_wines, max_depth=3))
    columns = mlflow.models.get_model_info(address(version)).signature.inputs.to_dict()
    assert [column["name"] for column in columns] == list(INPUTS)
    assert [column["type"] for column in columns] == ["string", *["double"] * 11]


def test_a_served_version_takes_wines_with_missing_values(register, labelled_wines):
    trained = train(labelled_wines, max_depth=3)
    wines = labelled_wines[list(INPUTS)]
    assert wines.isna().any(axis=None)
    served = mlflow.pyfunc.load_model(address(register(trained)))
    assert (served.predict(wines) == trained.reference[PREDICTION]).all()


def test_a_measurement_that_was_never_taken_does_not_stop_the_registration(
    register, registry, labelled_wines
):
    trained = train(labelled_wines.assign(chlorides=np.nan), max_depth=3)
    version = register(trained)
    assert registry.reference(version.version)["chlorides"].isna().all()


def test_a_measurement_of_whole_numbers_may_be_missing_when_served(register, labelled_wines):
    whole = labelled_wines.assign(free_sulfur_dioxide=range(len(labelled_wines)))
    served = mlflow.pyfunc.load_model(address(register(train(whole, max_depth=3))))
    wines = labelled_wines[list(INPUTS)].assign(**dict.fromkeys(MEASUREMENT_NAMES, np.nan))
    assert np.isfinite(served.predict(wines)).all()


def test_without_a_run_nothing_is_registered(registry, labelled_wines):
    with pytest.raises(WineQualityError, match="No MLflow run is active"):
        registry.register(train(labelled_wines, max_depth=2))
    assert registry.newest() is None


# Versions and aliases


def test_an_alias_points_to_one_version(registry, register, labelled_wines):
    trained = train(labelled_wines, max_depth=2)
    first, second = register(trained), register(trained)
    assert (first.version, second.version) == ("1", "2")
    registry.set_alias(CHAMPION, "1")
    registry.set_alias(CHALLENGER, "2")
    assert (registry.version(CHAMPION), registry.version(CHALLENGER)) == (first, second)
    registry.set_alias(CHAMPION, "2")
    assert registry.version(CHAMPION) == second
    assert registry.version("1") == first
    assert registry.newest() == second


def test_the_newest_version_is_the_highest_number(registry, tmp_path):
    client = MlflowClient()
    client.create_registered_model(registry.name)
    for _ in range(11):
        client.create_model_version(registry.name, source=tmp_path.as_uri())
    assert registry.newest().version == "11"


@pytest.mark.parametrize("name", ["2", "0", "challenger", "no such alias", ""])
def test_there_is_no_such_version(registry, register, labelled_wines, name):
    register(train(labelled_wines, max_depth=2))
    assert registry.version(name) is None


def test_an_empty_registry(registry):
    assert registry.newest() is None
    assert registry.version(CHAMPION) is None
    with pytest.raises(WineQualityError, match=f"no champion of {registry.name} yet: train one"):
        registry.champion()


def test_a_version_that_is_not_registered_has_no_reference(registry):
    with pytest.raises(WineQualityError, match=r"Version 9 of .*: it is not registered there"):
        registry.reference("9")


def test_a_version_that_was_registered_elsewhere_has_no_reference(registry, experiment_id):
    client = MlflowClient()
    client.create_registered_model(registry.name)
    run = client.create_run(experiment_id)
    client.create_model_version(registry.name, run.info.artifact_uri, run.info.run_id)
    with pytest.raises(WineQualityError, match=r"Version 1 of .* has no reference in the"):
        registry.reference("1")


def test_trouble_with_the_server_is_not_taken_for_an_unknown_version(registry, monkeypatch):
    def refuse(*_):
        raise MlflowException("out of order")

    monkeypatch.setattr(registry._client, "get_model_version_by_alias", refuse)
    with pytest.raises(MlflowException, match="out of order"):
        registry.version(CHAMPION)
