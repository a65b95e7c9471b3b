"""Deployments on Prefect's server, as `orchestration.yml` lists them."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kedro.framework.project import settings
from kedro.framework.startup import bootstrap_project

from wine_quality.errors import WineQualityError
from wine_quality.orchestration.settings import (
    FILE,
    Deployment,
    OrchestrationSettings,
    read_settings,
)
from wine_quality.pipeline_registry import build_pipelines
from wine_quality.pipelines.parameters import check_parameters
from wine_quality.running.config_loader import read_configuration
from wine_quality.system.project import project_folder

TAG = "wine_quality"
# a fixed moment, so that an interval stays where it is when it is deployed again
COUNTED_FROM = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Plan:
    """The deployments of an environment.

    Attributes:
        project: Folder of the project, where runs begin.
        env: The environment that was asked for.
        conf_source: Folder of the configuration, if it is not the project's.
        settings: What `orchestration.yml` says in it.
    """

    project: Path
    env: str | None
    conf_source: str | None
    settings: OrchestrationSettings

    @property
    def tags(self) -> list[str]:
        """What marks the deployments of this project and environment."""
        return [TAG, f"env:{self.env or 'base'}"]

    def name(self, name: str) -> str:
        """Give the name on the server, where those of other environments stand, too."""
        return f"{self.env}.{name}" if self.env else name

    def deployment(self, name: str) -> Deployment:
        """Look up a deployment.

        Raises:
            WineQualityError: There is none of this name.
        """
        try:
            return self.settings.deployments[name]
        except KeyError:
            known = ", ".join(self.settings.deployments) or "none yet"
            raise WineQualityError(
                f"There is no deployment {name!r} in orchestration.yml: choose {known}."
            ) from None

    def parameters(self, deployment: Deployment) -> dict[str, Any]:
        """Give the flow's parameters."""
        return {
            "pipelines": deployment.runs,
            "env": deployment.env or self.env,
            "params": deployment.params,
            "tries": deployment.tries,
            "dask": deployment.dask,
            "conf_source": self.conf_source,
        }


def make_plan(env: str | None, conf_source: str | None = None) -> Plan:
    """Read and check the deployments of an environment.

    Raises:
        WineQualityError: A deployment names a pipeline, an environment or a parameter that is not
            there, or a rule names a node that is not.
        pydantic.ValidationError: A key of `orchestration.yml` is unknown, or a value is wrong.
    """
    env = env or os.environ.get("KEDRO_ENV")
    project = project_folder()
    bootstrap_project(project)
    folder = Path(conf_source or project / settings.CONF_SOURCE).resolve()
    loader = read_configuration(folder, env)
    found = read_settings(loader)
    pipelines = build_pipelines(check_parameters(loader["parameters"]).training)
    unknown = found.unknown_nodes(node for made in pipelines.values() for node in made.nodes)
    if unknown:
        raise WineQualityError(f"Wrong settings of {FILE}: {'; '.join(unknown)}.")
    for name, deployment in found.deployments.items():
        own_env = deployment.env or env
        try:
            check_parameters(read_configuration(folder, own_env, deployment.params)["parameters"])
        except WineQualityError as error:
            raise WineQualityError(f"deployments.{name}: {error}") from error
        _check_pipelines(name, deployment, pipelines)
    return Plan(project, env, str(folder) if conf_source else None, found)


def deploy(plan: Plan) -> list[str]:
    """Bring the server's deployments of an environment to what the plan says.

    Returns:
        What was done, in words, a line for each deployment.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        _make_work_pool(client, plan.settings.work_pool)
        before = {found.name: found for found in _deployed(client, plan)}
        lines = []
        for name, deployment in plan.settings.deployments.items():
            made = _runner_deployment(plan, name, deployment)
            made.work_pool_name = plan.settings.work_pool
            made.job_variables = {"working_dir": str(plan.project)}
            made.apply()
            done = "updated" if made.name in before else "created"
            lines.append(f"{done} {made.full_name}: {_in_words(plan, deployment)}")
        kept = {plan.name(name) for name in plan.settings.deployments}
        for name in sorted(before.keys() - kept):
            client.delete_deployment(before[name].id)
            lines.append(f"removed {name}: orchestration.yml does not list it any more")
    return lines


def serve(plan: Plan) -> None:
    """Run the plan's deployments in processes of this machine when they are due, until stopped.

    Ctrl-C and SIGTERM stop it alike: runs are cancelled, and the deployments paused.
    """
    import asyncio

    from prefect.runner import Runner

    names = plan.settings.deployments
    if not names:
        raise WineQualityError("orchestration.yml lists no deployments to serve.")
    runner: Any = Runner(pause_on_shutdown=True)
    # Prefect's own handler waits in the event loop's thread for the event loop, and fails
    runner.handle_sigterm = lambda *_: signal.raise_signal(signal.SIGINT)
    for name, deployment in names.items():
        runner.add_deployment(_runner_deployment(plan, name, deployment))
    with suppress(KeyboardInterrupt):
        asyncio.run(runner.start())


def run_now(plan: Plan, name: str) -> str | None:
    """Run a deployment in this process, once.

    Returns:
        Why it failed; None if it went well.

    Raises:
        WineQualityError: There is no such deployment, or Prefect's server went away meanwhile.
    """
    import httpx

    from wine_quality.orchestration.flows import run_pipeline

    deployment = plan.deployment(name)
    try:
        state = run_pipeline(**plan.parameters(deployment), return_state=True)
    except httpx.TransportError as error:
        raise WineQualityError(
            f"Prefect's server went away ({error}): the lines above say how far the run went."
        ) from error
    return None if state.is_completed() else str(state.message)


def _runner_deployment(plan: Plan, name: str, deployment: Deployment) -> Any:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.schedules import Cron, Interval
    from prefect.types.entrypoint import EntrypointType

    from wine_quality.orchestration.flows import run_pipeline

    schedule = None
    if deployment.cron:
        schedule = Cron(deployment.cron, timezone=deployment.timezone)
    elif deployment.interval:
        schedule = Interval(
            deployment.interval, anchor_date=COUNTED_FROM, timezone=deployment.timezone
        )
    return run_pipeline.to_deployment(
        name=plan.name(name),
        schedule=schedule,
        paused=deployment.paused,
        parameters=plan.parameters(deployment),
        tags=plan.tags,
        concurrency_limit=ConcurrencyLimitConfig(
            limit=deployment.concurrency_limit, collision_strategy=deployment.collision.upper()
        ),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _make_work_pool(client: Any, name: str) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    try:
        found = client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(
            WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template)
        )
        return
    if found.type != ProcessWorker.type:
        raise WineQualityError(
            f"The work pool {name} is of type {found.type}, not {ProcessWorker.type}: name another "
            "as work_pool in orchestration.yml."
        )


def _deployed(client: Any, plan: Plan) -> Iterable[Any]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
    from prefect.client.schemas.sorting import DeploymentSort

    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=plan.tags))
    # the server refuses a question without an order
    by_name = DeploymentSort.NAME_ASC
    return list(client.read_deployments(deployment_filter=tagged, limit=200, sort=by_name))


def _in_words(plan: Plan, deployment: Deployment) -> str:
    when = "when asked for"
    if deployment.cron:
        when = f"at {deployment.cron} ({deployment.timezone})"
    elif deployment.interval:
        when = f"every {deployment.interval.total_seconds():,.0f} seconds"
    env = deployment.env or plan.env
    paused = ", paused" if deployment.paused else ""
    return f"{', then '.join(deployment.runs)}{f' in {env}' if env else ''}, {when}{paused}"


def _check_pipelines(name: str, deployment: Deployment, known: Iterable[str]) -> None:
    for pipeline in deployment.pipelines:
        if pipeline not in known:
            raise WineQualityError(
                f"deployments.{name}.pipeline: there is no pipeline {pipeline!r}, "
                f"choose {', '.join(known)}."
            )
