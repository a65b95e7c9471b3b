"""A folder of runs that was moved, copied or restored: everything works there, and only there."""

import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from tests.sessions.conftest import ONE_CANDIDATE
from wine_quality.modelling.tracking_folder import follow_folder
from wine_quality.serving.served_model import ModelLoader

pytestmark = pytest.mark.slow


def digests(root: Path) -> dict[Path, str]:
    return {
        path.relative_to(root): sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("original", ["kept", "deleted"])
def test_training_monitoring_and_service_follow_the_folder(
    kedro_here, whole_run, tmp_path, original
):
    # the folder as another place knows it: its database names that place
    root = tmp_path / "root"
    shutil.copytree(whole_run.root, root)
    follow_folder(root / "mlflow.db")
    before = digests(root)

    other = tmp_path / "other place"
    if original == "kept":
        shutil.copytree(root, other)
    else:
        root.rename(other)
    outcome = kedro_here(
        *("--env", "test", "--pipelines", "training,monitoring", "--params", ONE_CANDIDATE),
        root=other,
    )
    assert outcome.status == 0, outcome.errors

    loader = ModelLoader(f"sqlite:///{other}/mlflow.db", "wine-quality", "champion")
    served = loader.load(loader.wanted())
    assert served.verified
    assert served.reference is not None
    assert len(list(other.glob("mlartifacts/*/artifacts/reference"))) == 2
    if original == "kept":
        assert digests(root) == before
    else:
        assert not root.exists()
