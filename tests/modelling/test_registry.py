import hashlib
import multiprocessing
import os
import sys
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.tracking._tracking_service.utils import _use_tracking_uri
from pandas.testing import assert_frame_equal

from wine_quality.database import locks
from wine_quality.database.addresses import sqlite_file
from wine_quality.errors import WineQualityError
from wine_quality.modelling import onnx_export
from wine_quality.modelling.candidates import Candidate, build_model
from wine_quality.modelling.loading import BrokenVersionError, read_fitted_wines
from wine_quality.modelling.registry import (
    CHALLENGER,
    CHAMPION,
    FORMER_CHAMPIONS_TAG,
    ONNX_ARTIFACT,
    ChampionChangedError,
    ModelRegistry,
    TrainedModel,
)
from wine_quality.modelling.registry_lock import promotion_lock
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, PREDICTION, QUALITY, wine_hashes

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
    assert (version.version, version.tags["candidate"]) == ("1", "x")
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


def test_a_version_that_was_not_promoted_is_no_champion(registry, register, labelled_wines):
    register(train(labelled_wines, max_depth=2))
    with pytest.raises(WineQualityError, match="yet: its version 1 was not promoted"):
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


# What travels with a version


def artifact(version, path):
    return Path(mlflow.artifacts.download_artifacts(f"runs:/{version.run_id}/{path}"))


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_version_has_an_onnx_model_that_answers_alike(register, labelled_wines):
    trained = train(labelled_wines, max_depth=4)
    version = register(trained)
    path = artifact(version, ONNX_ARTIFACT)
    assert (version.tags["onnx"], version.tags["onnx_parity"]) == ("yes", "passed")
    assert float(version.tags["onnx_max_difference"]) <= onnx_export.TOLERANCE
    assert version.tags["onnx_sha256"] == digest(path)
    answers = onnx_export.run(path.read_bytes(), labelled_wines)
    assert answers == pytest.approx(trained.reference[PREDICTION].to_numpy(), abs=1e-4)


def test_a_version_has_the_digest_of_its_model(register, labelled_wines, tmp_path):
    version = register(train(labelled_wines, max_depth=2))
    mlflow.artifacts.download_artifacts(address(version), dst_path=str(tmp_path))
    assert version.tags["model_sha256"] == digest(tmp_path / "model.skops")


def test_a_model_without_an_onnx_form_says_so_and_may_be_champion(
    registry, register, labelled_wines
):
    version = register(train(labelled_wines, "sklearn.neighbors.KNeighborsRegressor", p=1))
    assert version.tags["onnx"].startswith("KNeighborsRegressor with metric manhattan and weights")
    assert "onnx_sha256" not in version.tags
    with pytest.raises((MlflowException, OSError)):
        artifact(version, ONNX_ARTIFACT)
    registry.promote(version.version, instead_of=None)
    assert registry.champion().version == version


def test_a_model_whose_onnx_form_answers_otherwise_cannot_be_champion(
    registry, register, labelled_wines, monkeypatch
):
    monkeypatch.setattr(onnx_export, "run", lambda _, wines: np.zeros(len(wines)))
    version = register(train(labelled_wines, max_depth=2))
    assert version.tags["onnx_parity"] == "failed"
    with pytest.raises((MlflowException, OSError)):
        artifact(version, ONNX_ARTIFACT)
    with pytest.raises(WineQualityError, match="cannot become champion: the converted model diff"):
        registry.promote(version.version, instead_of=None)
    assert registry.version(CHAMPION) is None


def test_files_travel_with_the_version(register, labelled_wines):
    trained = train(labelled_wines, max_depth=2)
    files = {"model_card.md": "# Ein Wein für alle", "reference/profile.json": "{}"}
    version = register(TrainedModel(trained.model, trained.reference, {}, files))
    for path, text in files.items():
        assert artifact(version, path).read_text(encoding="utf-8") == text


def test_a_version_bears_the_tags_of_its_run(registry, experiment_id, labelled_wines):
    with mlflow.start_run(experiment_id=experiment_id):
        mlflow.set_tags({"environment": "uci", "git_revision": "abc+", "other": "not taken"})
        version = registry.register(train(labelled_wines, tags={"candidate": "x"}, max_depth=2))
    tags = registry.version("1").tags
    assert tags == version.tags
    assert (tags["environment"], tags["git_revision"]) == ("uci", "abc+")
    assert tags["candidate"] == "x"
    assert "other" not in tags


def test_the_profile_of_a_version(registry, register, labelled_wines):
    trained = train(labelled_wines, max_depth=2)
    files = {"reference/profile.json": '{"columns": [1]}'}
    register(TrainedModel(trained.model, trained.reference, {}, files))
    register(trained)
    assert registry.reference_profile("1") == {"columns": [1]}
    with pytest.raises(WineQualityError, match=r"Version 2 of .* has no reference"):
        registry.reference_profile("2")


def test_a_version_says_which_wines_it_was_fitted_on(registry, register, labelled_wines):
    trained = train(labelled_wines, max_depth=2)
    told = register(replace(trained, fitted=wine_hashes(labelled_wines)))
    distinct = np.unique(wine_hashes(labelled_wines))
    assert told.tags["fitted_wines"] == str(len(distinct))
    assert registry.fitted_wines(told).tolist() == distinct.tolist()
    assert registry.fitted_wines(register(trained)) is None


@pytest.mark.parametrize(
    "content", [b"", b"no array", np.array([{}]), np.array([1.5]), np.zeros((1, 1), "u8")]
)
def test_a_list_of_fitted_wines_that_is_something_else_is_refused(tmp_path, content):
    path = tmp_path / "fitted_wines.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(BrokenVersionError, match="its list of fitted wines"):
        read_fitted_wines(path)


# Promotion and rollback


@pytest.fixture
def versions(registry, tmp_path):
    """Five versions without a model: who is champion has nothing to do with what they are."""
    return make_versions(registry.name, tmp_path)


def make_versions(name, folder):
    client = MlflowClient()
    client.create_registered_model(name)
    run = client.create_run(client.create_experiment(f"{name} {uuid4().hex}"))
    for _ in range(5):
        client.create_model_version(name, run.info.artifact_uri, run.info.run_id)
    return client


def champion_of(registry):
    return registry.version(CHAMPION).version


def test_a_promotion_holds_only_against_the_champion_that_it_was_judged_against(registry, versions):
    registry.promote("1", instead_of=None)
    registry.promote("2", instead_of=registry.version("1"))
    with pytest.raises(ChampionChangedError) as caught:
        registry.promote("3", instead_of=registry.version("1"))
    assert str(caught.value) == (
        f"Version 3 of {registry.name} was judged against version 1, but meanwhile version 2 has "
        "become champion: train again, or promote it by hand with 'kedro champion promote 3'."
    )
    assert champion_of(registry) == "2"
    with pytest.raises(ChampionChangedError, match="against no champion"):
        registry.promote("3", instead_of=None)


def test_a_version_is_told_from_one_of_its_number_in_a_deleted_model(registry, versions, tmp_path):
    registry.promote("1", instead_of=None)
    judged_against = registry.version("1")
    assert judged_against.is_same_as(registry.version(CHAMPION))
    assert not judged_against.is_same_as(registry.version("2"))
    versions.delete_registered_model(registry.name)
    make_versions(registry.name, tmp_path)
    registry.promote("1", instead_of=None)
    assert not judged_against.is_same_as(registry.version("1"))
    with pytest.raises(ChampionChangedError) as caught:
        registry.promote("2", instead_of=judged_against)
    assert "against version 1, but meanwhile another version 1 has become champion" in str(
        caught.value
    )
    assert champion_of(registry) == "1"


def test_a_promoted_challenger_is_challenger_no_more(registry, versions):
    registry.set_alias(CHALLENGER, "2")
    registry.promote("1", instead_of=None)
    assert registry.version(CHALLENGER).version == "2"
    registry.promote("2", instead_of=registry.version("1"))
    assert registry.version(CHALLENGER) is None


def test_rolling_back_goes_through_the_champions_before(registry, versions):
    registry.promote("1", instead_of=None)
    registry.promote("2", instead_of=registry.version("1"))
    # set by hand in MLflow, past all of this
    versions.set_registered_model_alias(registry.name, CHAMPION, "4")
    registry.promote("3", instead_of=registry.version("4"))
    registry.promote("3", instead_of=registry.version("3"))
    assert registry.former_champions() == ("1", "4")
    assert [registry.roll_back().version for _ in range(2)] == ["4", "1"]
    assert champion_of(registry) == "1"
    with pytest.raises(WineQualityError, match="had no champion before the present one"):
        registry.roll_back()
    assert champion_of(registry) == "1"


def test_a_champion_that_was_deleted_cannot_come_back(registry, versions):
    registry.promote("1", instead_of=None)
    registry.promote("2", instead_of=registry.version("1"))
    versions.delete_model_version(registry.name, "1")
    with pytest.raises(WineQualityError, match="has no version 1"):
        registry.roll_back()
    assert champion_of(registry) == "2"


@pytest.mark.parametrize("version", ["9", "champion", "-1"])
def test_only_a_version_can_be_promoted(registry, versions, version):
    registry.promote("1", instead_of=None)
    with pytest.raises(WineQualityError, match=f"has no version {version}: "):
        registry.promote(version, instead_of=registry.version("1"))


def test_nobody_was_champion_of_nothing(registry):
    assert registry.former_champions() == ()


@pytest.fixture(scope="module")
def registry_server(tmp_path_factory, free_port, run_server):
    """Address of an MLflow server, which knows no locks."""
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    # of no use here, and slow to begin
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    health = f"http://127.0.0.1:{port}/health"
    with run_server(command, health, folder / "log", env=environment):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(params=["sqlite", "postgresql"])
def own_database(request, tmp_path, postgres_schema):
    """Address of the project's own database, one of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/data/inference_log.db"
        return
    with postgres_schema("lock promotions in PostgreSQL") as address:
        yield address


def promote_at_once(uri, name, own_database, version, start, results):
    mlflow.set_tracking_uri(uri)
    registry = ModelRegistry(name, lock_database=own_database)
    registry.version(CHAMPION)
    start.wait(60)
    try:
        registry.promote(version, instead_of=registry.version("1"))
        results.put((version, "champion"))
    except ChampionChangedError:
        results.put((version, "refused"))


def assert_that_one_promotes(registry, uri, own_database):
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(3), context.Queue()
    processes = [
        context.Process(
            target=promote_at_once,
            args=(uri, registry.name, own_database, version, start, results),
        )
        for version in ("2", "3", "4")
    ]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
    assert sorted(found.values()) == ["champion", "refused", "refused"]
    assert found[champion_of(registry)] == "champion"
    assert registry.former_champions() == ("1",)


def test_of_processes_at_once_only_one_promotes(registry, versions):
    registry.promote("1", instead_of=None)
    assert_that_one_promotes(registry, mlflow.get_tracking_uri(), None)


@pytest.mark.slow
def test_of_processes_at_once_only_one_promotes_on_a_server(
    registry_server, own_database, tmp_path
):
    with _use_tracking_uri(registry_server):
        registry = ModelRegistry(f"wine-{uuid4().hex}", lock_database=own_database)
        make_versions(registry.name, tmp_path)
        registry.promote("1", instead_of=None)
        assert_that_one_promotes(registry, registry_server, own_database)
        # nothing but the model is in the registry
        assert [m.name for m in MlflowClient().search_registered_models()].count(registry.name) == 1
        assert not [m.name for m in MlflowClient().search_registered_models() if "lock" in m.name]


@pytest.mark.slow
def test_a_promotion_on_a_server_needs_a_database_for_its_lock(registry_server, tmp_path):
    with _use_tracking_uri(registry_server):
        registry = ModelRegistry(f"wine-{uuid4().hex}")
        make_versions(registry.name, tmp_path)
        with pytest.raises(WineQualityError, match="no database was named for the lock"):
            registry.promote("1", instead_of=None)
        assert registry.version(CHAMPION) is None


def test_a_promotion_whose_lock_was_lost_changes_nothing(registry, versions, monkeypatch):
    registry.promote("1", instead_of=None)
    lock = Path(f"{sqlite_file(mlflow.get_tracking_uri())}.{registry.name}.promotion-lock")
    monkeypatch.setattr(
        ModelRegistry, "former_champions", lambda _: lock.unlink() or ("never", "there")
    )
    with pytest.raises(WineQualityError, match="lock for changing the champion was lost"):
        registry.promote("2", instead_of=registry.version("1"))
    assert champion_of(registry) == "1"
    assert versions.get_registered_model(registry.name).tags[FORMER_CHAMPIONS_TAG] == ""


def test_a_process_waits_for_the_lock_and_says_so_when_it_gives_up(registry, versions, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_S", 0.2)
    with (
        promotion_lock(mlflow.get_tracking_uri(), registry.name, None),
        pytest.raises(WineQualityError, match="Another process has been changing the champion"),
    ):
        registry.promote("1", instead_of=None)
    registry.promote("1", instead_of=None)
    assert champion_of(registry) == "1"
