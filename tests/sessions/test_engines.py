"""The same wines, run by threads, counted by Spark: the default's verdicts."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

PROJECT = Path(__file__).parents[2]
SMALL = {
    name: (PROJECT / "conf" / "test" / name).read_text()
    for name in ("parameters_training.yml", "parameters_tuning.yml", "parameters_monitoring.yml")
}
TABLES = ("verdicts", "model_verdicts")


def tables(root):
    """What monitoring found, in one order: engines count bins in whatever order."""
    found = {}
    for name in TABLES:
        frame = pd.read_parquet(root / "08_reporting" / f"{name}.parquet")
        # words round the figures, and so may the last digit of a sum
        frame = frame.drop(columns="reason", errors="ignore")
        keys = [c for c in ("window_start", "column", "segment") if c in frame]
        found[name] = frame.sort_values(keys, ignore_index=True)
    return found


def assert_same_verdicts(root, whole_run):
    ours, default = tables(root), tables(whole_run.root)
    assert len(default["verdicts"]) == 16
    for name in TABLES:
        # sums are added up in whatever order; the model's last digits hang on its threads
        pd.testing.assert_frame_equal(ours[name], default[name], rtol=1e-9)


@pytest.mark.slow
def test_threads_reach_the_verdicts_of_the_default(kedro_here, whole_run, fresh_root):
    done = kedro_here("--env", "test", "--runner", "ThreadRunner", root=fresh_root)
    assert done.status == 0, done.output + done.errors
    assert_same_verdicts(fresh_root, whole_run)


@pytest.mark.slow
def test_spark_reaches_the_verdicts_of_the_default(
    kedro_apart, whole_run, project_environment, tmp_path
):
    pytest.importorskip("pyspark", reason="Spark is an extra: ./just extras")
    assert shutil.which("java"), "Spark needs Java 17 on the PATH"
    root = tmp_path / "root"
    environment = project_environment("small_spark", like="spark", files=SMALL)
    variables = {"WINE_QUALITY_SPARK_ROOT": str(root)}
    done = kedro_apart(*environment, root=tmp_path, variables=variables)
    assert done.status == 0, done.errors
    assert_same_verdicts(root, whole_run)
    assert len(list((root / "lake").glob("day=2026-01-01/*.parquet"))) == 4


def test_an_address_that_is_not_set_is_named(kedro_apart, tmp_path):
    error = kedro_apart("--env", "production", root=tmp_path).error
    assert error.startswith("Environment variable 'MLFLOW_TRACKING_URI' not found")
    known = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    error = kedro_apart("--env", "production", root=tmp_path, variables=known).error
    assert error.startswith("Environment variable 'WINE_QUALITY_LOG_URL' not found")
