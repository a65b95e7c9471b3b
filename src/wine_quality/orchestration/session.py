"""What a runner has to know of the session that uses it, and Kedro does not tell it."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from kedro.config import AbstractConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from pluggy import PluginManager

from wine_quality.errors import WineQualityError

DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # a busy machine needs minutes for what takes seconds on another
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
}


@dataclass(frozen=True)
class SessionRun:
    """The run that a session has begun.

    Attributes:
        pipeline: Names of the registered pipelines, joined by commas.
        env: Kedro's environment, if one was named.
        loader: The session's configuration.
    """

    pipeline: str
    env: str | None
    loader: AbstractConfigLoader

    @property
    def title(self) -> str:
        """What the run is called on Prefect's pages."""
        return self.pipeline + (f" in {self.env}" if self.env else "")


class OrchestrationHook:
    """Keeps what a session runs, for the runner to find among the session's hooks."""

    begun: SessionRun | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the configuration."""
        self._loader = context.config_loader

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Keep what is run."""
        names = run_params.get("pipeline_names") or [run_params.get("pipeline_name")]
        pipeline = ",".join(name or "__default__" for name in names)
        self.begun = SessionRun(pipeline, run_params["env"], self._loader)


def session_run(hooks: PluginManager | None) -> SessionRun:
    """Give the run that a session has begun.

    Args:
        hooks: The session's hooks.

    Raises:
        WineQualityError: There is none, so the runner was called without a session.
    """
    # without a session, Kedro gives its runners something that only looks like hooks
    plugins = hooks.get_plugins() if isinstance(hooks, PluginManager) else ()
    for plugin in plugins:
        if isinstance(plugin, OrchestrationHook) and plugin.begun:
            return plugin.begun
    raise WineQualityError(
        "The runner for Prefect needs a Kedro session of this project: "
        "start it with 'kedro run --runner wine_quality.orchestration.PrefectRunner'."
    )


def prepare_prefect() -> None:
    """See that the extra is installed; set what Prefect reads when it is imported.

    Nothing is reported to anybody, and the log line of a thread that no flow began is not worth a
    warning. What the environment says goes before.

    Raises:
        WineQualityError: It is not installed.
    """
    if find_spec("prefect") is None:
        raise WineQualityError(
            "Prefect is not installed: './just extras', or pip install wine-quality[orchestration]."
        )
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
