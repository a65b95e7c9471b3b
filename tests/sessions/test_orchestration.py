"""Runs of the project by Prefect: they come to what `kedro run` comes to, and are told of."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
import yaml
from mlflow import MlflowClient
from pandas.testing import assert_frame_equal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("prefect") is None, reason="Prefect is an extra: './just extras'"),
]
PROJECT = Path(__file__).parents[2]
PATIENCE = 300
RUNNER = "wine_quality.orchestration.PrefectRunner"
DASK_RUNNER = "wine_quality.orchestration.PrefectDaskRunner"


def poll(find, what):
    """Give what is found, as soon as there is something."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := find():
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited in vain for {what}")


@pytest.fixture
def ask(prefect_server):
    def find(what, **question):
        answer = httpx.post(f"{prefect_server}/{what}/filter", json=question, timeout=30)
        return answer.raise_for_status().json()

    return find


def tracked(root):
    """Count the runs of a tracking database by name, and those nested in the newest run."""
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'wine_quality'")
    runs = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
    top = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    nested = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == top[-1].info.run_id]
    assert {run.info.status for run in runs} == {"FINISHED"}
    return len(top), sorted(run.info.run_name for run in nested)


def test_a_whole_run_as_a_flow_comes_to_the_same(kedro_apart, whole_run, load, tmp_path, ask):
    root = tmp_path / "flow"
    outcome = kedro_apart("--env", "test", "--runner", RUNNER, root=root)
    assert outcome.status == 0, outcome.output + outcome.errors
    # the hooks were there: the summary is theirs
    for section in ("Candidates", "Champion", "Traffic", "Monitoring", "Seconds", "Look further"):
        assert f"\n{section}\n" in outcome.output
    names = ["verdicts", "model_verdicts", "comparison", "held_out_metrics", "alerts"]
    made, expected = load(root, names), load(whole_run.root, names)
    for name in ("verdicts", "model_verdicts", "comparison"):
        assert_frame_equal(made[name], expected[name])
    assert made["held_out_metrics"] == expected["held_out_metrics"]
    assert made["alerts"] == expected["alerts"]
    assert tracked(root) == tracked(whole_run.root)

    (flow_run,) = ask("flow_runs", flow_runs={"name": {"any_": ["__default__ in test"]}})
    assert flow_run["state_type"] == "COMPLETED"
    finished = r"Task run '(\S+)' - Finished in state Completed"
    ran = set(re.findall(finished, outcome.output + outcome.errors))
    of_run = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}, "limit": 200}

    def completed():
        # tasks are told of by events, which come when they come
        tasks = [t for t in ask("task_runs", **of_run) if t["state_type"] == "COMPLETED"]
        return tasks if len(tasks) >= len(ran) else []

    tasks = poll(completed, "the end of all tasks")
    nodes = {task["name"]: task for task in tasks}
    assert nodes.keys() == ran
    assert {
        *("processing.read_wines", "training.extra_trees_regressor.cross_validate_candidate"),
        *("serving_simulation.send_traffic", "monitoring.check_alerts"),
    } <= nodes.keys()
    parents = {
        parent["id"] for parent in nodes["monitoring.check_alerts"]["task_inputs"]["wait_for"]
    }
    assert parents == {
        nodes[f"monitoring.{name}"]["id"] for name in ("raise_alerts", "write_monitoring_page")
    }
    logs = ask("logs", logs={"task_run_id": {"any_": [nodes["processing.read_wines"]["id"]]}})
    assert any("processing: read wines" in line["message"] for line in logs)


def test_dask_computes_the_same(kedro_apart, whole_run, after_whole_run, load, prefect_server):
    before, nested = tracked(after_whole_run)
    outcome = kedro_apart(
        *("--env", "test", "--pipeline", "training", "--runner", DASK_RUNNER), root=after_whole_run
    )
    assert outcome.status == 0, outcome.output + outcome.errors
    names = ["comparison", "importance", "learning_curve", "held_out_intervals"]
    made, expected = load(after_whole_run, names), load(whole_run.root, names)
    for name in names[:3]:
        assert_frame_equal(made[name], expected[name])
    assert made["held_out_intervals"] == expected["held_out_intervals"]
    # one run more, with a run nested in it for each candidate
    of_candidates = [name for name in nested if " trial " not in name]
    assert tracked(after_whole_run) == (before + 1, of_candidates)


@pytest.fixture
def serve(project_environment, fresh_root, prefect_server, end_process):
    """Serves a deployment that processes the raw wines every ten seconds; gives the process."""
    arguments = project_environment()
    file = Path(arguments[1]) / "base" / "orchestration.yml"
    settings = yaml.safe_load(file.read_text())
    settings["deployments"] = {"often": {"pipeline": "processing", "interval": 10}}
    file.write_text(yaml.safe_dump(settings))
    log = fresh_root / "serve.log"
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", "wine_quality.orchestration", "serve", *arguments],
            cwd=PROJECT, env=os.environ | {"WINE_QUALITY_TEST_ROOT": str(fresh_root)},
            stdout=lines, stderr=lines, start_new_session=True,
        )  # fmt: skip
    yield process
    end_process(process)
    sys.stdout.write(log.read_text()[-5000:])


def children(process):
    """List the processes that a process has started."""
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(child) for child in text.split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_a_schedule_is_kept_also_after_a_crash_and_until_it_is_stopped(serve, fresh_root, ask):
    def runs(state):
        named = {"name": {"any_": ["processing in case"]}, "state": {"type": {"any_": [state]}}}
        return ask("flow_runs", flow_runs=named)

    def at_work():
        assert serve.poll() is None
        return [run for run in runs("RUNNING") if (fresh_root / "02_intermediate").exists()]

    (first, *_) = poll(at_work, "a run that has begun to write")
    # one at a time: the others wait
    (child,) = poll(lambda: children(serve), "the process of the run")
    os.kill(child, signal.SIGKILL)
    crashed = poll(lambda: runs("CRASHED"), "the crash to be told")
    assert [run["id"] for run in crashed] == [first["id"]]
    poll(lambda: runs("COMPLETED"), "the next run")
    assert (fresh_root / "03_primary" / "split_audit.json").exists()

    serve.send_signal(signal.SIGTERM)
    assert serve.wait(PATIENCE) == 0
    (deployment,) = ask("deployments", deployments={"name": {"any_": ["case.often"]}})
    assert deployment["paused"]
    told = (fresh_root / "serve.log").read_text()
    assert "Traceback" not in told
    assert "never awaited" not in told


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("moment", [0, 2])
def test_a_server_that_is_still_starting_is_not_left_behind(
    tmp_path, free_port, end_process, moment
):
    def servers():
        # a child of another kind may be gone by now
        with suppress(OSError):
            started = {child: Path(f"/proc/{child}/cmdline") for child in children(process)}
            return [child for child, line in started.items() if b"prefect" in line.read_bytes()]

    variables = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    process = subprocess.Popen(
        [sys.executable, "-m", "wine_quality.orchestration", "serve", "--port", str(free_port())],
        cwd=PROJECT, env=variables | {"PREFECT_HOME": str(tmp_path)},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        (server,) = poll(servers, "the server's process")
        time.sleep(moment)
        process.terminate()
        assert "Traceback" not in process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == 128 + signal.SIGTERM
        assert not Path(f"/proc/{server}").exists()
    finally:
        end_process(process)
