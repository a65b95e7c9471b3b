"""Nodes as Prefect's tasks: names, lineage, retries, failures; on small pipelines."""

import logging
import os
import signal
import time
from importlib.util import find_spec

import httpx
import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from wine_quality.database.errors import DatabaseUnavailableError
from wine_quality.errors import WineQualityError
from wine_quality.orchestration import PrefectRunner, server
from wine_quality.orchestration.session import OrchestrationHook, SessionRun

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("prefect") is None, reason="Prefect is an extra: './just extras'"),
]
PATIENCE = 60
RULES = {
    "all": {
        "nodes": ["*"],
        "errors": ["network", "database"],
        "tries": 4,
        "first_pause": 0.01,
        "jitter": 0,
    },
    "once": {"nodes": ["once.*"], "tries": 1},
}


def add_one(number):
    return number + 1


def add(one, other):
    return one + other


class Flaky:
    """A node's function that fails some times before it answers."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = 0

    def __call__(self, number):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return number

    def node(self, name="flaky"):
        return Node(self, "number", "same", name=name)


@pytest.fixture
def settle(plain_settings):
    """Stands in for a session: gives its hooks, which know the settings and the run's title."""

    def stand_in(title, **settings):
        values = plain_settings | {"retries": RULES} | settings
        kept = OrchestrationHook()
        kept.begun = SessionRun(title, None, {"orchestration": values})
        hooks = _create_hook_manager()
        hooks.register(kept)
        return hooks

    return stand_in


@pytest.fixture
def run(settle, request, prefect_server):
    """Runs a pipeline on the number 1; gives the results, by name, once Prefect was told of it."""

    def run_pipeline(pipeline, tries=None, **settings):
        hooks = settle(request.node.name, **settings)
        catalog = DataCatalog({"number": MemoryDataset(1)})
        made = PrefectRunner(tries=tries).run(pipeline, catalog, hooks)
        return {name: dataset.load() for name, dataset in made.items()}

    return run_pipeline


@pytest.fixture
def told(request, prefect_server):
    """What Prefect's server knows of the test's flow run, and of its task runs by name."""

    def ask():
        def find(what, question):
            answer = httpx.post(f"{prefect_server}/{what}/filter", json=question, timeout=30)
            return answer.raise_for_status().json()

        named = {"flow_runs": {"name": {"any_": [request.node.name]}}}
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            (flow_run,) = find("flow_runs", named)
            tasks = {task["name"]: task for task in find("task_runs", named)}
            # tasks are told of by events, which come when they come
            if all(t["state_type"] in ("COMPLETED", "FAILED") for t in tasks.values()):
                return flow_run, tasks
            time.sleep(0.1)
        raise AssertionError(f"no end of {tasks}")

    return ask


def test_nodes_are_tasks_with_their_names_and_lineage(run, told):
    pipeline = Pipeline(
        [
            Node(add_one, "number", "two", name="first", namespace="sums"),
            Node(add_one, "number", "other", name="second"),
            Node(add, ["two", "other"], "four", name="last", tags=["slow"]),
        ]
    )
    assert run(pipeline) == {"four": 4}
    flow_run, tasks = told()
    assert flow_run["state_type"] == "COMPLETED"
    assert tasks.keys() == {"sums.first", "second", "last"}
    assert {task["state_type"] for task in tasks.values()} == {"COMPLETED"}
    parents = {parent["id"] for parent in tasks["last"]["task_inputs"]["wait_for"]}
    assert parents == {tasks["sums.first"]["id"], tasks["second"]["id"]}
    assert tasks["last"]["tags"] == ["slow"]


@pytest.mark.parametrize(
    ("errors", "tries", "calls"),
    [
        ([ConnectionResetError("gone")], None, 2),
        ([DatabaseUnavailableError("away"), ConnectionError("refused"), TimeoutError()], None, 4),
        ([ConnectionResetError("gone")] * 5, 6, 6),
    ],
)
def test_what_may_pass_is_tried_again_until_it_has(run, told, errors, tries, calls):
    flaky = Flaky(*errors)
    assert run(Pipeline([flaky.node()]), tries=tries) == {"same": 1}
    assert flaky.calls == calls
    flow_run, tasks = told()
    assert flow_run["state_type"] == "COMPLETED"
    assert tasks["flaky"]["run_count"] == calls


def test_tries_end_with_the_failure_itself(run, told):
    flaky = Flaky(*[DatabaseUnavailableError("The log does not answer: start it.")] * 9)
    with pytest.raises(DatabaseUnavailableError):
        run(Pipeline([flaky.node(), Node(add_one, "same", "more", name="next")]))
    assert flaky.calls == 4
    flow_run, tasks = told()
    assert flow_run["state_type"] == tasks["flaky"]["state_type"] == "FAILED"
    assert flow_run["state"]["message"] == "The log does not answer: start it."
    assert "next" not in tasks


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("mistake", WineQualityError("No row is a wine."), "No row is a wine."),
        ("bug", ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        ("once.only", ConnectionError("refused"), "ConnectionError: refused"),
    ],
)
def test_anything_else_is_not_tried_again(run, told, name, error, message):
    flaky = Flaky(error)
    # more tries do not make a node that is tried once one that is tried again
    with pytest.raises(type(error)):
        run(Pipeline([flaky.node(name)]), tries=3)
    assert flaky.calls == 1
    flow_run, tasks = told()
    for state in (flow_run["state"], tasks[name]["state"]):
        assert (state["type"], state["message"]) == ("FAILED", message)


def test_nodes_run_side_by_side_where_asked(run):
    from threading import Barrier

    meeting = Barrier(2, timeout=PATIENCE)

    def meet(number):
        meeting.wait()
        return number

    pipeline = Pipeline([Node(meet, "number", name, name=name) for name in ("one", "other")])
    assert run(pipeline, nodes_at_once=2) == {"one": 1, "other": 1}


def test_memory_is_released_when_nothing_needs_it_any_more(settle, prefect_server):
    hooks = settle("released")
    pipeline = Pipeline(
        [
            Node(add_one, "number", "two", name="first"),
            Node(add_one, "two", "three", name="second"),
        ]
    )
    catalog = DataCatalog({"number": MemoryDataset(1)})
    PrefectRunner().run(pipeline, catalog, hooks)
    assert not catalog.exists("two")
    assert catalog.exists("three")


def test_without_a_server_it_says_so(settle, prefect_server):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    hooks = settle("nowhere")
    flaky = Flaky()
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(WineQualityError, match=r"127\.0\.0\.1:9/api does not answer: start it"),
    ):
        PrefectRunner().run(
            Pipeline([flaky.node()]), DataCatalog({"number": MemoryDataset(1)}), hooks
        )
    assert flaky.calls == 0


def test_without_a_session_it_says_so():
    with pytest.raises(WineQualityError, match="needs a Kedro session"):
        PrefectRunner().run(Pipeline([Flaky().node()]), DataCatalog({"number": MemoryDataset(1)}))


def test_a_server_that_goes_away_takes_no_work_with_it(
    settle, monkeypatch, caplog, tmp_path, prefect_server
):
    import socket

    from prefect.settings import (
        PREFECT_CLIENT_MAX_RETRIES,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )

    started = []
    start = server._start
    monkeypatch.setattr(
        server, "_start", lambda *given: started.append(start(*given)) or started[0]
    )
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def kill_server(number):
        os.killpg(started[0].pid, signal.SIGKILL)
        started[0].wait()
        return number + 1

    hooks = settle("orphan")
    pipeline = Pipeline(
        [Node(kill_server, "number", "two", name="kill"), Node(add_one, "two", "three", name="on")]
    )
    # Prefect would ask again for minutes
    impatient = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_LOGGING_TO_API_ENABLED: False}
    with server.local_server(port), temporary_settings(impatient), caplog.at_level(logging.WARNING):
        made = PrefectRunner().run(pipeline, DataCatalog({"number": MemoryDataset(1)}), hooks)
    assert made["three"].load() == 3
    assert "Prefect's server went away" in caplog.text
