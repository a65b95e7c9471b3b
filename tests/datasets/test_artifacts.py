import inspect

import mlflow
import plotly.graph_objects as go
import pytest
from kedro_datasets.text import TextDataset

from wine_quality.datasets import FigureArtifactDataset, TextArtifactDataset


@pytest.fixture(params=["disk", "store"])
def folder(request, tmp_path):
    return tmp_path if request.param == "disk" else request.getfixturevalue("store").address


def artifact(run, path):
    return mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{path}")


def test_a_text_is_an_artifact_of_the_active_run(folder, experiment_id):
    dataset = TextArtifactDataset(
        filepath=f"{folder}/cards/card.md",
        fs_args={"open_args_save": {"encoding": "utf-8", "ContentType": "text/html"}},
    )
    with mlflow.start_run(experiment_id=experiment_id) as run:
        dataset.save("naïve\n")
    assert dataset.load() == "naïve\n"
    assert artifact(run, "card.md") == "naïve\n"


def test_a_figure_is_one_in_its_folder(folder, experiment_id):
    dataset = FigureArtifactDataset(filepath=f"{folder}/drift.json", artifact_path="figures")
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4]))
    with mlflow.start_run(experiment_id=experiment_id) as run:
        dataset.save(figure)
    assert dataset.load() == figure
    assert artifact(run, "figures/drift.json") == figure.to_json()


def test_the_artifact_is_what_this_run_wrote(tmp_path, experiment_id, monkeypatch):
    """Another run writes the file as soon as this one has."""
    written = TextDataset.save

    def overtaken(self, data):
        written(self, data)
        (tmp_path / "card.md").write_text("of another run")

    monkeypatch.setattr(TextDataset, "save", overtaken)
    dataset = TextArtifactDataset(filepath=f"{tmp_path}/card.md")
    with mlflow.start_run(experiment_id=experiment_id) as run:
        dataset.save("a card")
    assert artifact(run, "card.md") == "a card"


def test_without_a_run_there_is_a_file_alone(tmp_path, experiment_id):
    def runs():
        return set(mlflow.search_runs([experiment_id]).get("run_id", ()))

    before = runs()
    dataset = TextArtifactDataset(filepath=f"{tmp_path}/card.md", artifact_path="cards")
    dataset.save("a card")
    assert dataset.load() == "a card"
    assert runs() == before


def test_a_store_hands_a_page_out_as_one(store):
    dataset = TextArtifactDataset(
        filepath=f"{store.address}/page.html",
        fs_args={"open_args_save": {"ContentType": "text/html"}},
    )
    dataset.save("<html></html>")
    assert store.files.info(f"{store.bucket}/page.html")["ContentType"] == "text/html"


def test_kedro_viz_draws_a_figure():
    # it goes by the name of the annotation
    shown = inspect.signature(FigureArtifactDataset.preview).return_annotation
    assert getattr(shown, "__name__", shown) == "PlotlyPreview"
