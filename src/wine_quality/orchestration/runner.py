"""Kedro runners that make a run a Prefect flow, and each of its nodes a task."""

import logging
from collections.abc import Iterator, Mapping, Set
from concurrent.futures import Executor, Future
from contextlib import contextmanager, nullcontext
from typing import Any

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import AbstractRunner
from kedro.runner.task import Task
from pluggy import PluginManager

from wine_quality.orchestration.dask_workers import DaskWorkers, start_workers
from wine_quality.orchestration.failures import in_one_line, is_explained, may_pass
from wine_quality.orchestration.session import prepare_prefect, session_run
from wine_quality.orchestration.settings import OrchestrationSettings, read_settings
from wine_quality.system.retrying import doubling

FLOW = "wine-quality"
SHOWN_LOGGERS = ("kedro", "wine_quality")


class PrefectRunner(AbstractRunner):
    """Runs nodes as tasks of the Prefect flow at hand, or of one that it opens for the run.

    Session, hooks and catalog stay Kedro's: a task loads, calls and saves what Kedro's own runners
    would, in a thread of this process. `orchestration.yml` of the environment says what is tried
    again, and how many nodes run side by side.

    Args:
        is_async: Taken because `kedro run` gives it; nodes load and save in their own thread.
        tries: Tries of a node whose failure may pass, instead of those in the retry rules.
    """

    on_dask = False

    def __init__(self, is_async: bool = False, tries: int | None = None) -> None:
        super().__init__(is_async=False)
        self._tries = tries

    @property
    def _logger(self) -> logging.Logger:
        # what Prefect's page shows anyway; logging.yml keeps Kedro's own runners as quiet
        return logging.getLogger("kedro.runner.prefect")

    def _run(
        self,
        pipeline: Pipeline,
        catalog: CatalogProtocol[Any, Any],
        hook_manager: PluginManager | None = None,
        run_id: str | None = None,
    ) -> None:
        prepare_prefect()
        from wine_quality.orchestration.flows import in_flow

        begun = session_run(hook_manager)
        self._settings = read_settings(begun.loader)
        self._parents = pipeline.node_dependencies
        dask = start_workers(self._settings.dask, pipeline) if self.on_dask else nullcontext()
        run = super()._run

        def run_nodes() -> None:
            with dask as self._workers, _shown_in_prefect():
                run(pipeline, catalog, hook_manager, run_id)

        in_flow(run_nodes, begun.title)

    def _get_executor(self, max_workers: int) -> Executor:
        return _TaskExecutor(self._parents, self._settings, self._tries, self._workers)


class PrefectDaskRunner(PrefectRunner):
    """A `PrefectRunner` that has Dask compute the functions of the nodes named in `dask.nodes`."""

    on_dask = True


class _TaskExecutor(Executor):
    """Submits Kedro's tasks as Prefect's.

    Args:
        parents: The nodes that each node waits for.
        settings: What is tried again, and how many nodes run side by side.
        tries: Instead of those in the retry rules.
        workers: Compute the functions of some nodes.
    """

    def __init__(
        self,
        parents: Mapping[Node, Set[Node]],
        settings: OrchestrationSettings,
        tries: int | None,
        workers: DaskWorkers | None,
    ) -> None:
        from prefect.task_runners import ThreadPoolTaskRunner

        self._parents = parents
        self._settings = settings
        self._tries = tries
        self._workers = workers
        slots = max(settings.nodes_at_once, workers.slots if workers else 1)
        self._threads = ThreadPoolTaskRunner(max_workers=slots)
        self._threads.__enter__()
        self._submitted: dict[Node, Any] = {}

    def submit(self, task: Task, /) -> Future[Node]:  # type: ignore[override]
        """Begin a node whose parents are done."""
        node = task.node
        if self._workers and self._workers.compute(node):
            task.node = self._workers.remote(node)
        # they are done; naming them draws the lineage on Prefect's page
        parents = [self._submitted[parent] for parent in self._parents[node]]
        begun = self._threads.submit(self._as_prefect_task(node, task), {}, wait_for=parents)
        self._submitted[node] = begun
        future: Future[Node] = Future()

        def settle(done: Any) -> None:
            try:
                done.result()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(node)

        begun.add_done_callback(settle)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the nodes that have begun."""
        self._threads.__exit__(None, None, None)

    def _as_prefect_task(self, node: Node, task: Task) -> Any:
        import prefect
        from prefect.cache_policies import NO_CACHE
        from prefect.states import Failed

        rule = self._settings.rule_for(node)
        tries = self._tries if self._tries and rule.tries > 1 else rule.tries
        kinds = self._settings.error_types(rule)

        def run_node() -> Any:
            try:
                task.execute()
            except Exception as error:
                if not is_explained(error):
                    prefect.get_run_logger().exception("%s failed", node.name)
                return Failed(message=in_one_line(error), data=error)

        def is_worth_another_try(_task: object, _run: object, state: Any) -> bool:
            return may_pass(state.data, kinds)

        pauses = doubling(tries, first=rule.first_pause, longest=rule.longest_pause)
        return prefect.task(
            name=node.name,
            task_run_name=node.name,
            tags=sorted(node.tags),
            retries=tries - 1,
            retry_delay_seconds=list(pauses),
            retry_jitter_factor=rule.jitter or None,
            retry_condition_fn=is_worth_another_try,
            cache_policy=NO_CACHE,
            persist_result=False,
        )(run_node)


@contextmanager
def _shown_in_prefect() -> Iterator[None]:
    """Show what Kedro and the project log on the page of the node that was at work."""
    from prefect.logging.handlers import APILogHandler

    handler = APILogHandler()
    loggers = [logging.getLogger(name) for name in SHOWN_LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
