"""A champion whose files would run code: no pipeline lets them."""

import hashlib

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils as tracking

from tests import crafted_versions as crafted
from tests.sessions.conftest import ONE_CANDIDATE

MODEL = "wine-quality"
PIPELINES = ("serving_simulation", "ground_truth", "monitoring", "training")
LOADING = ("serving_simulation", "ground_truth")


def crafted_skops(folder, marker):
    crafted.swap_skops(folder, crafted.skops_with(crafted.constructor(marker)))
    return "holds types that are not trusted"


def pickle_beside(folder, marker):
    crafted.pickle_beside(folder, marker)
    return "beside its model.skops lies model.pkl"


def cloudpickle(folder, marker):
    (folder / "model.skops").unlink()
    crafted.pickle_beside(folder, marker)

    def pickled(description):
        description["flavors"]["sklearn"] |= {
            "pickled_model": "model.pkl",
            "serialization_format": "cloudpickle",
        }
        description["flavors"]["python_function"]["model_path"] = "model.pkl"

    crafted.describe(folder, pickled)
    return "it was saved as cloudpickle, which runs code"


@pytest.mark.slow
@pytest.mark.parametrize("craft", [crafted_skops, pickle_beside, cloudpickle])
def test_nothing_of_a_crafted_champion_runs(after_whole_run, kedro_here, tmp_path, craft):
    marker = tmp_path / "it-ran"
    uri = f"sqlite:///{after_whole_run}/mlflow.db"
    folder = tmp_path / "model"
    with tracking._use_tracking_uri(uri):
        mlflow.artifacts.download_artifacts(f"models:/{MODEL}@champion", dst_path=str(folder))
        said = craft(folder, marker)
        version = crafted.register(MODEL, folder)
        if (folder / "model.skops").exists():
            # whoever writes files to a registry can write its tags as well
            digest = hashlib.sha256((folder / "model.skops").read_bytes()).hexdigest()
            MlflowClient().set_model_version_tag(MODEL, version, "model_sha256", digest)
    for pipeline in PIPELINES:
        ended = kedro_here(
            *("--env", "test", "--pipeline", pipeline, "--params", ONE_CANDIDATE),
            root=after_whole_run,
        )
        if pipeline in LOADING:
            assert ended.error.startswith(f"Version {version} of {MODEL} is refused: "), pipeline
            assert said in ended.error
    assert not marker.exists()
