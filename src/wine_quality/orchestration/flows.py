"""The flow: any registered pipeline, in any environment."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from prefect import flow, get_run_logger
from prefect.context import FlowRunContext
from prefect.states import Failed

from wine_quality.drift.alerts import FailingAlertsError
from wine_quality.errors import WineQualityError, raised_from
from wine_quality.orchestration.failures import in_one_line, is_explained
from wine_quality.orchestration.runner import FLOW, PrefectDaskRunner, PrefectRunner
from wine_quality.orchestration.server import check_server
from wine_quality.orchestration.settings import split_names
from wine_quality.system.project import project_folder

logger = logging.getLogger(__name__)


def _name_run() -> str:
    from prefect.runtime import flow_run

    given = flow_run.parameters
    return ", then ".join(given["pipelines"]) + (f" in {given['env']}" if given["env"] else "")


# a failed node is tried again, not the whole run
@flow(name=FLOW, flow_run_name=_name_run, persist_result=False, retries=0)  # type: ignore[untyped-decorator]
def run_pipeline(
    pipelines: Sequence[str] = ("__default__",),
    env: str | None = None,
    params: dict[str, Any] | None = None,
    tries: int | None = None,
    dask: bool = False,
    conf_source: str | None = None,
) -> Any:
    """Run registered pipelines of this project, as `kedro run` does.

    Alerts that end a run with status 1 (`monitoring.alerts.fail_on`) end the flow as well, but only
    after the runs that follow: those are what the alerts call for.

    Args:
        pipelines: Runs, one after another: names joined by commas.
        env: Kedro's environment.
        params: Parameters for this run, nested as in the files.
        tries: Tries of a node whose failure may pass, instead of those in `orchestration.yml`.
        dask: Whether Dask computes what `orchestration.yml` names.
        conf_source: Folder of the configuration, instead of the project's.

    Returns:
        The failed state with the failure in one line; None if all went well.
    """
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    alerted = None
    for names in pipelines:
        try:
            project = project_folder()
            bootstrap_project(project)
            runner = (PrefectDaskRunner if dask else PrefectRunner)(tries=tries)
            session = KedroSession.create(
                project, env=env, conf_source=conf_source, runtime_params=params
            )
            with session:
                session.run(pipeline_names=split_names(names), runner=runner)
        except Exception as error:
            if not any(isinstance(link, FailingAlertsError) for link in raised_from(error)):
                return _failed(error)
            alerted = error
    return _failed(alerted) if alerted else None


def in_flow(run: Callable[[], None], title: str) -> None:
    """Do something in the flow at hand, or in one of its own.

    What it came to is what counts: where Prefect's server goes away meanwhile, its pages miss the
    end, and a warning says so.

    Args:
        run: What is done.
        title: Name of its own flow run.

    Raises:
        WineQualityError: It needs a flow of its own, and Prefect's server does not answer.
        Exception: Whatever it raises.
    """
    if FlowRunContext.get():
        run()
        return
    check_server()
    ended: list[Exception | None] = []

    def run_in_flow() -> Any:
        try:
            run()
        except Exception as error:
            ended.append(error)
            return _failed(error)
        ended.append(None)
        return None

    own = flow(name=FLOW, flow_run_name=title, persist_result=False, retries=0)(run_in_flow)
    try:
        own(return_state=True)
    except httpx.TransportError as error:
        if not ended:
            raise WineQualityError(
                f"Prefect's server went away ({error}): start it again."
            ) from error
        logger.warning("Prefect's server went away, so that its pages miss how the run ended.")
    failure = ended[0]
    if failure is not None:
        raise failure


def _failed(error: Exception) -> Any:
    if not is_explained(error):
        get_run_logger().exception("The run failed")
    return Failed(message=in_one_line(error), data=error)
