import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock
from types import SimpleNamespace

import pytest
from alembic.util import CommandError
from filelock import FileLock, Timeout
from kedro.framework.hooks import hook_impl
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.pipeline import node
from mlflow import MlflowClient

from wine_quality.errors import WineQualityError
from wine_quality.modelling.tracking import make_experiment
from wine_quality.parameters import Parameters
from wine_quality.running.hooks import ProgressHook, TrackingHook, environment_name

THREADS = 4


class LogsParameters:
    """Stands for kedro-mlflow: logs a node's parameters, and notes whom it met there."""

    def __init__(self) -> None:
        self.calls = self.met = 0
        self._busy = Lock()

    @hook_impl
    def before_node_run(self) -> None:
        self.calls += 1
        self.met += self._busy.locked()
        with self._busy:
            time.sleep(0.01)


def test_parameters_are_logged_by_one_thread_at_a_time():
    hooks, logs = _create_hook_manager(), LogsParameters()
    for hook in (logs, TrackingHook()):
        hooks.register(hook)
    together = Barrier(THREADS)
    step = node(list, "wines", "rows")

    def run(_: int) -> None:
        together.wait(60)
        hooks.hook.before_node_run(node=step, catalog=None, inputs={}, is_async=False, run_id="run")

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(run, range(THREADS)))
    assert (logs.calls, logs.met) == (THREADS, 0)


class SomeParameters(Parameters):
    share: float


def test_typed_parameters_are_logged_by_their_values_and_reach_the_node_as_they_are():
    seen = {}

    class Logs:
        @hook_impl
        def before_node_run(self, inputs):
            seen.update(inputs)

    hooks = _create_hook_manager()
    for hook in (Logs(), TrackingHook()):
        hooks.register(hook)
    inputs = {"params:some": SomeParameters(share=0.5), "wines": [1]}
    before = dict(inputs)
    hooks.hook.before_node_run(
        node=node(list, "wines", "rows"), catalog=None, inputs=inputs, is_async=False, run_id="run"
    )
    assert seen == {"params:some": {"share": 0.5}, "wines": [1]}
    assert inputs == before


@pytest.mark.parametrize(("env", "name"), [(None, "base"), ("test", "test")])
def test_a_run_has_the_name_of_its_environment(env, name):
    assert environment_name(SimpleNamespace(env=env)) == name


@pytest.fixture
def make_context(tmp_path, empty_tracking_database):
    """Makes a context on an empty tracking database, with a hook in kedro-mlflow's place."""
    shutil.copy(empty_tracking_database, tmp_path)

    def make(set_up):
        class SetsUp:
            @hook_impl
            def after_context_created(self):
                set_up()

        config = {
            "server": {"mlflow_tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"},
            "tracking": {
                "experiment": {
                    "name": "wines",
                    "create_experiment_kwargs": {"artifact_location": str(tmp_path / "artifacts")},
                }
            },
        }
        context = SimpleNamespace(env="test", config_loader={"mlflow": config})
        hooks = _create_hook_manager()
        for hook in (TrackingHook(), SetsUp()):
            hooks.register(hook)
        hooks.hook.after_context_created(context=context)

    return make


def test_the_tracking_database_is_set_up_under_its_lock(make_context, tmp_path):
    def look():
        with pytest.raises(Timeout):
            FileLock(lock, timeout=0).acquire()

    lock = tmp_path / "mlflow.db.setup-lock"
    make_context(look)
    with FileLock(lock, timeout=0):
        pass


def test_a_tracking_database_that_is_half_made_is_named(make_context):
    def fail():
        raise CommandError("Online migration expected to match one row")

    with pytest.raises(WineQualityError, match=r"mlflow\.db cannot be used \(Online migration"):
        make_context(fail)


def test_the_experiment_is_there_before_kedro_mlflow_looks(make_context, tmp_path):
    found = []
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    make_context(lambda: found.append(client.get_experiment_by_name("wines")))
    assert found[0].artifact_location == f"{tmp_path}/artifacts"


def test_of_processes_that_begin_at_once_one_makes_the_experiment(
    monkeypatch, tmp_path, empty_tracking_database
):
    shutil.copy(empty_tracking_database, tmp_path)
    address = f"sqlite:///{tmp_path}/mlflow.db"
    both_have_looked = Barrier(2)
    look = MlflowClient.get_experiment_by_name

    def look_together(client, name):
        found = look(client, name)
        both_have_looked.wait(60)
        return found

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", look_together)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: make_experiment(address, "wines"), range(2)))
    made = MlflowClient(address).search_experiments(filter_string="name = 'wines'")
    assert len(made) == 1


def test_each_step_is_named_with_its_number(caplog):
    hook, names = ProgressHook(), [*(f"monitoring.step_{n}" for n in range(9)), "tuning.a_tree.fit"]
    hook.before_pipeline_run(SimpleNamespace(nodes=names))
    with caplog.at_level("INFO", "wine_quality.running.hooks"):
        # one that is tried again is no further step
        for name in [*names[:2], *names[1:]]:
            hook.before_node_run(SimpleNamespace(name=name))
    said = caplog.messages
    assert said[:3] == [f" {n + 1} of 10  monitoring: step {n}" for n in (0, 1)] + [
        " 2 of 10  monitoring: step 1"
    ]
    assert said[-1] == "10 of 10  tuning: a tree: fit"
