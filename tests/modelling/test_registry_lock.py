import subprocess
import sys

import pytest

from wine_quality.errors import WineQualityError
from wine_quality.modelling import registry_lock
from wine_quality.modelling.registry_lock import setup_lock

# imports first, which take seconds, then both at once: what MLflow does when it is first asked
SET_UP = """
import sys
from mlflow import MlflowClient
from mlflow.store.model_registry import sqlalchemy_store
from mlflow.store.tracking import sqlalchemy_store
from wine_quality.modelling.registry_lock import setup_lock

print("ready", flush=True)
sys.stdin.readline()
with setup_lock(sys.argv[1]):
    MlflowClient(sys.argv[1]).search_experiments()
"""


def test_processes_that_begin_at_once_set_an_empty_tracking_database_up(tmp_path):
    address = f"sqlite:///{tmp_path}/data/mlflow.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SET_UP, address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors


def test_who_waits_too_long_for_the_tracking_database_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(registry_lock, "SETUP_PATIENCE_S", 0.2)
    address = f"sqlite:///{tmp_path}/mlflow.db"
    with (
        setup_lock(address),
        pytest.raises(WineQualityError, match="has been setting up the tracking database for"),
        setup_lock(address),
    ):
        pass


def test_nothing_is_locked_where_nothing_may_be_written(tmp_path, monkeypatch):
    # root may write anywhere, so the folder's mode would not tell
    monkeypatch.setattr(registry_lock.os, "access", lambda *_: False)
    with setup_lock(f"sqlite:///{tmp_path}/mlflow.db"):
        assert not list(tmp_path.iterdir())
