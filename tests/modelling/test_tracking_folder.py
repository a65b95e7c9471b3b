import shutil
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils as tracking

from wine_quality.modelling.tracking_folder import FOLDER_TAG, follow_folder

PLACES = (
    "SELECT artifact_location FROM experiments WHERE experiment_id > 0 "
    "UNION ALL SELECT artifact_uri FROM runs "
    "UNION ALL SELECT artifact_location FROM logged_models "
    "UNION ALL SELECT source FROM model_versions "
    "UNION ALL SELECT storage_location FROM model_versions"
)


def places(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        return [place for (place,) in connection.execute(PLACES) if place]


def digests(folder: Path) -> dict[Path, str]:
    return {
        path.relative_to(folder): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def fill(folder: Path, artifacts: str) -> None:
    """Have a run log an artifact, a logged model and two versions, as MLflow writes them."""
    with tracking._use_tracking_uri(f"sqlite:///{folder}/mlflow.db"):
        client = MlflowClient()
        experiment = client.create_experiment("wines", artifact_location=artifacts)
        run = client.create_run(experiment).info
        client.log_text(run.run_id, "held out", "reference.txt")
        model = client.create_logged_model(experiment, name="model", source_run_id=run.run_id)
        client.create_registered_model("wine-quality")
        for source in (f"models:/{model.model_id}", run.artifact_uri):
            client.create_model_version("wine-quality", source, run.run_id)


@pytest.fixture
def first(tmp_path, _tracking_server) -> Path:
    """A folder, with a space in its name, in which runs were tracked by the first edition."""
    folder = tmp_path / "the first"
    folder.mkdir()
    shutil.copy(_tracking_server[0].removeprefix("sqlite:///"), folder / "mlflow.db")
    fill(folder, (folder / "mlartifacts").as_uri())
    return folder


def read(folder: Path) -> str:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("wines")
    (run,) = client.search_runs([experiment.experiment_id])
    return Path(client.download_artifacts(run.info.run_id, "reference.txt")).read_text()


@pytest.fixture(params=["used by this edition", "of the first edition"])
def used(request, first) -> Path:
    if request.param == "used by this edition":
        follow_folder(first / "mlflow.db")
    return first


def test_a_folder_that_was_moved_is_followed(used, tmp_path):
    former = (used / "mlartifacts").as_uri()
    before = [place.replace(former, "HERE") for place in places(used)]
    assert sum("HERE" in place for place in before) == 6
    moved = used.rename(tmp_path / "the second")
    follow_folder(moved / "mlflow.db")
    assert places(moved) == [
        place.replace("HERE", (moved / "mlartifacts").as_uri()) for place in before
    ]
    assert read(moved) == "held out"


def test_a_copy_has_its_own_places_and_leaves_the_original_alone(used, tmp_path):
    copy = Path(shutil.copytree(used, tmp_path / "copy"))
    before = digests(used)
    follow_folder(copy / "mlflow.db")
    assert not [place for place in places(copy) if used.as_uri() in place]
    MlflowClient(f"sqlite:///{copy}/mlflow.db").create_run("1")
    assert digests(used) == before
    shutil.rmtree(used)
    assert read(copy) == "held out"


def tags(folder: Path) -> dict[str, str]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return client.get_experiment_by_name("wines").tags


def test_a_copy_that_has_no_artifacts_yet_does_not_write_into_the_original(first, tmp_path):
    shutil.rmtree(first / "mlartifacts")
    copy = Path(shutil.copytree(first, tmp_path / "copy"))
    follow_folder(copy / "mlflow.db")
    assert not [place for place in places(copy) if first.as_uri() in place]


def test_what_lies_elsewhere_on_purpose_stays_there(first, tmp_path):
    # the database on a faster disk, artifacts beside the project or in a store
    apart = tmp_path / "disk"
    apart.mkdir()
    (first / "mlflow.db").rename(apart / "mlflow.db")
    client = MlflowClient(f"sqlite:///{apart}/mlflow.db")
    client.create_experiment("stored", artifact_location="s3://wines/mlartifacts")
    before = places(apart)
    follow_folder(apart / "mlflow.db")
    moved = apart.rename(tmp_path / "faster disk")
    follow_folder(moved / "mlflow.db")
    assert places(moved) == before
    assert read(moved) == "held out"


def test_a_folder_whose_name_begins_alike_is_another(first, tmp_path):
    client = MlflowClient(f"sqlite:///{first}/mlflow.db")
    near = f"{first.as_uri()}-backup/mlartifacts/1"
    client.create_experiment("near", artifact_location=near)
    follow_folder(first / "mlflow.db")
    moved = first.rename(tmp_path / "moved")
    follow_folder(moved / "mlflow.db")
    assert near in places(moved)


def test_another_path_to_the_same_file_changes_nothing(used, tmp_path):
    before = digests(used)
    link = tmp_path / "link"
    link.symlink_to(used)
    follow_folder(link / "mlflow.db")
    assert digests(used) == before


def test_a_second_look_changes_nothing(first):
    follow_folder(first / "mlflow.db")
    before = digests(first)
    follow_folder(first / "mlflow.db")
    assert digests(first) == before
    assert tags(first)[FOLDER_TAG] == str(first)


def test_what_a_move_would_change_is_all_changed_or_nothing(used, tmp_path):
    moved = used.rename(tmp_path / "moved")
    with closing(sqlite3.connect(moved / "mlflow.db")) as connection, connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON model_versions "
            "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )
    before = places(moved)
    with pytest.raises(sqlite3.IntegrityError, match="the disk is full"):
        follow_folder(moved / "mlflow.db")
    assert places(moved) == before


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    follow_folder(tmp_path / "mlflow.db")
    assert not list(tmp_path.iterdir())


def test_an_empty_file_has_nothing_to_follow(tmp_path):
    (tmp_path / "mlflow.db").touch()
    follow_folder(tmp_path / "mlflow.db")
    assert (tmp_path / "mlflow.db").read_bytes() == b""
