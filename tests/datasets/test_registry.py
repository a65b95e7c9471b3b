import mlflow
import pytest
from kedro.io import DatasetError
from pandas.testing import assert_frame_equal

from wine_quality.cli import explain
from wine_quality.datasets import (
    ChampionDataset,
    ModelVersionDataset,
    PreviousChampionDataset,
    ReferencesDataset,
)
from wine_quality.drift.profiles import Reference
from wine_quality.modelling.candidates import Candidate, build_model
from wine_quality.modelling.registry import CHALLENGER, CHAMPION, TrainedModel
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
    def save():
        with mlflow.start_run(experiment_id=experiment_id):
            ModelVersionDataset(model_name=registry.name).save(trained)

    return save


def test_before_the_first_version(registry):
    name = registry.name
    assert not ModelVersionDataset(model_name=name).exists()
    assert not ChampionDataset(model_name=name).exists()
    assert PreviousChampionDataset(model_name=name).load() is None
    with pytest.raises(DatasetError, match=f"The registry has no version of {name}"):
        ModelVersionDataset(model_name=name).load()
    with pytest.raises(DatasetError) as caught:
        ChampionDataset(model_name=name).load()
    assert "has no champion" in explain(caught.value)


def test_a_saved_model_is_the_newest_version(registry, save_version):
    dataset = ModelVersionDataset(model_name=registry.name)
    save_version()
    save_version()
    assert dataset.exists()
    assert (dataset.load().version, dataset.load().tags["candidate"]) == ("2", "tree")


def test_the_profile_of_the_reference_travels_with_the_version(registry, save_version, trained):
    save_version()
    profile = Reference.from_dict(registry.reference_profile("1"))
    assert profile == Reference.from_wines(trained.reference)


def test_a_model_saved_outside_of_a_run_is_refused(registry, trained):
    with pytest.raises(DatasetError) as caught:
        ModelVersionDataset(model_name=registry.name).save(trained)
    assert explain(caught.value).startswith("No MLflow run is active")


def test_a_decision_sets_the_alias(registry, save_version, trained, labelled_wines):
    champion = ChampionDataset(model_name=registry.name)
    save_version()
    champion.save({"promoted": True, "version": "1", "judged_against": None})
    save_version()
    champion.save({"promoted": False, "version": "2"})
    assert champion.exists()
    assert registry.version(CHAMPION).version == "1"
    assert registry.version(CHALLENGER).version == "2"
    loaded = champion.load()
    assert loaded.version.version == "1"
    assert (loaded.model.predict(labelled_wines) == trained.model.predict(labelled_wines)).all()
    previous, reference = PreviousChampionDataset(model_name=registry.name).load()
    assert previous == loaded.version
    assert_frame_equal(reference, trained.reference)


def test_a_version_that_was_judged_against_another_champion_stays_challenger(
    registry, save_version
):
    champion = ChampionDataset(model_name=registry.name)
    save_version()
    save_version()
    champion.save({"promoted": True, "version": "1", "judged_against": None})
    with pytest.raises(DatasetError) as caught:
        champion.save({"promoted": True, "version": "2", "judged_against": None})
    assert "meanwhile version 1 has become champion" in explain(caught.value)
    assert registry.version(CHAMPION).version == "1"
    assert registry.version(CHALLENGER).version == "2"


def test_references_are_loaded_by_version(registry, save_version, trained):
    references = ReferencesDataset(model_name=registry.name).load()
    save_version()
    assert_frame_equal(references("1"), trained.reference)


@pytest.mark.parametrize("kind", [PreviousChampionDataset, ReferencesDataset])
def test_what_is_history_cannot_be_saved(registry, kind):
    with pytest.raises(DatasetError, match="read only"):
        kind(model_name=registry.name).save("anything")


def test_a_dataset_names_its_model():
    assert "wine-quality" in str(ChampionDataset(model_name="wine-quality"))
