import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

from kedro.framework.hooks import hook_impl
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.pipeline import node

from wine_quality.hooks import TrackingHook

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
