"""The loop on real files: labelled traffic trains the next version, also after a kill."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from mlflow import MlflowClient

from tests.sessions.conftest import ONE_CANDIDATE
from wine_quality.drift.store_schema import RETRAININGS

MODEL = "wine-quality"
PARAMETERS = (
    "retraining.use_traffic=true,retraining.traffic.sources=[simulation],"
    f"retraining.decision.force=true,retraining.decision.least_labels=0,{ONE_CANDIDATE}"
)
# shifted wines are none of the raw files'
SHIFTED = (
    "serving_simulation.drift.enabled=true,serving_simulation.drift.scenarios.sweeter.kind=shift,"
    "serving_simulation.drift.scenarios.sweeter.column=alcohol,"
    "serving_simulation.drift.scenarios.sweeter.standard_deviations=1.5"
)


def retraining_of(root: Path) -> dict:
    return json.loads((root / "08_reporting" / "retraining.json").read_text())


def decisions(root: Path) -> list[tuple[str, str | None]]:
    engine = sa.create_engine(f"sqlite:///{root}/inference_log.db")
    order = sa.select(RETRAININGS.c.action, RETRAININGS.c.outcome).order_by(
        RETRAININGS.c.decided_at
    )
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(order)]
    engine.dispose()
    return found


def versions(root: Path) -> list[str]:
    uri = f"sqlite:///{root}/mlflow.db"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    return sorted(str(found.version) for found in client.search_model_versions(f"name='{MODEL}'"))


@pytest.fixture
def with_traffic(after_whole_run, kedro_here):
    """The whole run's root, after a period of wines that the raw files do not hold."""
    sent = kedro_here(
        *("--env", "test", "--pipeline", "serving_simulation", "--params", SHIFTED),
        root=after_whole_run,
    )
    assert sent.status == 0, sent.errors
    return after_whole_run


@pytest.mark.slow
def test_labelled_traffic_trains_the_next_version(with_traffic, kedro_here, load):
    root = with_traffic
    judged = kedro_here("--env", "test", "--pipeline", "monitoring", root=root)
    assert judged.status == 0, judged.errors
    made = kedro_here(
        "--env", "test", "--pipeline", "retraining", "--params", PARAMETERS, root=root
    )
    assert made.status == 0, made.errors
    found = retraining_of(root)
    assert found["action"] == "retrain"
    assert found["version"] == "2"
    # the other traffic is of wines that the raw files hold
    audit = load(root, ["traffic_audit"])["traffic_audit"]
    assert audit["accepted"] == found["labels"]
    assert 150 < audit["accepted"] < audit["labelled"]
    assert audit["left_out"]["known"] > 0
    # training wines replay too, answered by the model of the other folds
    assert 0 < found["replayed"] <= found["labels"]
    assert "\nRetraining\n" in made.output
    assert f"{audit['accepted']} of {audit['labelled']} labelled predictions usable" in made.output
    assert f"Retraining: {found['action']}" in (root / "08_reporting/retraining.html").read_text()
    # what the next scheduled run sees
    again = PARAMETERS.replace(
        "force=true", "force=false,retraining.decision.oldest_days=0.0000001"
    )
    made = kedro_here("--env", "test", "--pipeline", "retraining", "--params", again, root=root)
    assert made.status == 0, made.errors
    assert "h have to lie between two" in retraining_of(root)["reason"]
    assert versions(root) == ["1", "2"]


@pytest.mark.slow
def test_killed_while_it_trains_the_next_run_does_what_is_left(
    after_whole_run, start_apart, kedro_here
):
    root = after_whole_run
    process: subprocess.Popen[str] = start_apart(
        *("--env", "test", "--pipeline", "retraining", "--params", PARAMETERS), root=root
    )
    deadline = time.monotonic() + 300
    try:
        while not decisions(root):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    ((action, outcome),) = decisions(root)
    assert (action, outcome) == ("retrain", None)
    before = versions(root)
    made = kedro_here(
        "--env", "test", "--pipeline", "retraining", "--params", PARAMETERS, root=root
    )
    assert made.status == 0, made.errors
    found = retraining_of(root)
    assert decisions(root) == [
        ("retrain", "interrupted: its process ended before it came to an outcome"),
        ("retrain", found["outcome"]),
    ]
    assert versions(root) == [*before, found["version"]]
