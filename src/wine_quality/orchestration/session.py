"""What a runner has to know of the session that uses it, and Kedro does not tell it."""

from dataclasses import dataclass
from typing import Any

from kedro.config import AbstractConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl

from wine_quality.errors import WineQualityError


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


_begun: SessionRun | None = None


class OrchestrationHook:
    """Keeps what a session runs; a process runs one session at a time."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the configuration."""
        self._loader = context.config_loader

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Keep what is run."""
        global _begun
        names = run_params.get("pipeline_names") or [run_params.get("pipeline_name")]
        pipeline = ",".join(name or "__default__" for name in names)
        _begun = SessionRun(pipeline, run_params["env"], self._loader)


def session_run() -> SessionRun:
    """Give the run that this process's session has begun.

    Raises:
        WineQualityError: There is none, so the runner was called without a session.
    """
    if _begun is None:
        raise WineQualityError(
            "The runner for Prefect needs a Kedro session of this project: "
            "start it with 'kedro run --runner wine_quality.orchestration.PrefectRunner'."
        )
    return _begun


def require_prefect() -> None:
    """See that the extra is installed.

    Raises:
        WineQualityError: It is not.
    """
    from importlib.util import find_spec

    if find_spec("prefect") is None:
        raise WineQualityError(
            "Prefect is not installed: './just extras', or pip install wine-quality[orchestration]."
        )
