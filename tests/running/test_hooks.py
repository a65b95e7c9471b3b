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

from wine_quality.errors import WineQualityError
from wine_quality.running.hooks import TrackingHook

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


@pytest.fixture
def make_context(tmp_path):
    """Makes a context on an empty folder, with a hook in kedro-mlflow's place."""

    def make(set_up):
        class SetsUp:
            @hook_impl
            def after_context_created(self):
                set_up()

        server = {"mlflow_tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}
        context = SimpleNamespace(env="test", config_loader={"mlflow": {"server": server}})
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
