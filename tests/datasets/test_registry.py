import json
from dataclasses import replace

import mlflow
import pytest
from kedro.io import DatasetError
from pandas.testing import assert_frame_equal

from wine_quality.cli import explain
from wine_quality.datasets import (
    ChampionDataset,
    ModelRegistryDataset,
    ModelVersionDataset,
    ReferencesDataset,
)
from wine_quality.drift.reference import Reference
from wine_quality.errors import WineQualityError
from wine_quality.modelling.candidates import Candidate, build_model
from wine_quality.modelling.promotion import Promotion, Settlement
from wine_quality.modelling.registry import (
    CHAMPION,
    PROFILE_ARTIFACT,
    ModelRegistry,
    TrainedModel,
)
from wine_quality.wines import INPUTS, PREDICTION, QUALITY


@pytest.fixture
def trained(labelled_wines):
    candidate = Candidate(estimator="sklearn.tree.DecisionTreeRegressor", settings={"max_depth": 2})
    model = build_model(candidate, 0).fit(labelled_wines[list(INPUTS)], labelled_wines[QUALITY])
    reference = labelled_wines[[*INPUTS, QUALITY]].assign(
        **{PREDICTION: model.predict(labelled_wines)}
    )
    return TrainedModel(model, reference, {"candidate": "tree"})


@pytest.fixture
def save_version(registry, experiment_id, trained):
    """Saves a version as a run does; gives the run's dataset."""

    def save(**changes):
        dataset = ModelVersionDataset(model_name=registry.name)
        with mlflow.start_run(experiment_id=experiment_id):
            dataset.save(replace(trained, **changes))
        return dataset

    return save


def test_before_the_first_version(registry):
    name = registry.name
    assert not ModelVersionDataset(model_name=name).exists()
    assert not ChampionDataset(model_name=name).exists()
    with pytest.raises(DatasetError) as caught:
        ChampionDataset(model_name=name).load()
    assert "has no champion" in explain(caught.value)


def test_a_run_gets_back_the_version_that_it_registered_itself(registry, save_version):
    one, other = save_version(), save_version()
    assert (one.load().version, other.load().version) == ("1", "2")
    assert one.load().tags["candidate"] == "tree"
    assert one.load().run_id != other.load().run_id


def test_the_version_of_another_run_is_nobodys_own(registry, save_version):
    save_version()
    dataset = ModelVersionDataset(model_name=registry.name)
    assert not dataset.exists()
    with pytest.raises(DatasetError, match=f"has registered no version of {registry.name}"):
        dataset.load()


def test_references_know_the_registered_profile_and_the_version_for_good(
    registry, save_version, trained
):
    profile = json.loads(json.dumps(Reference.from_wines(trained.reference).to_dict()))
    save_version()
    save_version(files={PROFILE_ARTIFACT: json.dumps(profile)})
    save_version(files={PROFILE_ARTIFACT: json.dumps({"rows": 5})})
    references = ReferencesDataset(model_name=registry.name).load()
    assert references.profile("2") == profile
    # those of a time before references had segments, and before there were any
    assert references.profile("3") is None
    assert references.profile("1") is None
    assert references.key("1") != references.key("2")
    with pytest.raises(WineQualityError, match=r"Version 9 of .* is not in the registry"):
        references.key("9")


def test_a_model_saved_outside_of_a_run_is_refused(registry, trained):
    with pytest.raises(DatasetError) as caught:
        ModelVersionDataset(model_name=registry.name).save(trained)
    assert explain(caught.value).startswith("No MLflow run is active")


def settled_with(champion):
    return Settlement(Promotion("wine", "1", "run", True, "1", None, "so"), champion)


def test_a_run_goes_on_with_the_champion_that_it_ended_with(
    registry, save_version, trained, labelled_wines
):
    own = save_version().load()
    registry.promote("1", instead_of=None)
    champion = ChampionDataset(model_name=registry.name)
    champion.save(settled_with(own))
    save_version()
    registry.promote("2", instead_of=own)
    assert champion.load().version == own
    loaded = ChampionDataset(model_name=registry.name).load()
    assert loaded.version.version == "2"
    assert (loaded.model.predict(labelled_wines) == trained.model.predict(labelled_wines)).all()


def test_a_run_that_ended_without_a_champion_says_so(registry, save_version):
    save_version()
    champion = ChampionDataset(model_name=registry.name)
    champion.save(settled_with(None))
    with pytest.raises(DatasetError) as caught:
        champion.load()
    assert "has no champion" in explain(caught.value)


def test_the_registry_is_given_with_the_database_of_its_lock(registry):
    dataset = ModelRegistryDataset(
        model_name=registry.name, credentials={"url": "sqlite:////data/log.db"}
    )
    assert dataset.load().name == registry.name
    assert dataset.load()._lock_database == "sqlite:////data/log.db"


def test_before_a_run_a_champion_that_cannot_be_compared_with_is_told(
    registry, save_version, caplog
):
    dataset = ModelRegistryDataset(model_name=registry.name)
    dataset.check_before_run()
    save_version()
    registry.promote("1", instead_of=None)
    dataset.check_before_run()
    assert caplog.text == ""
    client = mlflow.MlflowClient()
    client.create_model_version(registry.name, "/nowhere")
    registry.set_alias(CHAMPION, "2")
    dataset.check_before_run()
    (line,) = caplog.messages
    assert line.startswith(f"Version 2, the champion of {registry.name}, has no reference")
    assert "'kedro champion promote VERSION'" in line


def test_before_a_run_a_champion_that_does_not_answer_is_told(registry, save_version, caplog):
    dataset = ModelRegistryDataset(model_name=registry.name)
    made = save_version()
    registry.promote("1", instead_of=None)
    client = mlflow.MlflowClient()
    # its reference stays, its model is somebody else's
    client.create_model_version(registry.name, "/nowhere", run_id=made.load().run_id)
    registry.set_alias(CHAMPION, "2")
    dataset.check_before_run()
    (line,) = caplog.messages
    assert line.startswith(
        f"Version 2, the champion of {registry.name}, does not answer (Version 2 of "
        f"{registry.name} is refused: its files are not where the registry says: put them back, or "
        "promote another version): where there are held-out wines that it was not judged on, the "
        "new version will be challenger, until "
    )


def test_before_a_run_a_lock_that_cannot_be_taken_ends_it(registry, monkeypatch):
    def refuse(self):
        raise WineQualityError("the database of locks cannot be used")

    monkeypatch.setattr(ModelRegistry, "check_lock", refuse)
    with pytest.raises(WineQualityError, match="database of locks"):
        ModelRegistryDataset(model_name=registry.name).check_before_run()


def test_references_are_loaded_by_version(registry, save_version, trained):
    references = ReferencesDataset(model_name=registry.name).load()
    save_version()
    assert_frame_equal(references.wines("1"), trained.reference)


@pytest.mark.parametrize("kind", [ModelRegistryDataset, ReferencesDataset])
def test_what_is_read_only_cannot_be_saved(registry, kind):
    with pytest.raises(DatasetError, match="read only"):
        kind(model_name=registry.name).save("anything")


def test_a_dataset_names_its_model():
    assert "wine-quality" in str(ChampionDataset(model_name="wine-quality"))
