"""What every run does beside its nodes: check its parameters, tag its MLflow run, end in words."""

from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node


class ParametersHook:
    """Checks the parameters of the session, and builds its training pipeline from them."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Check all parameters, hand the candidates to the registry, and have it build anew."""
        from kedro.framework.project import PACKAGE_NAME, pipelines

        from wine_quality import pipeline_registry
        from wine_quality.pipelines.parameters import check_parameters

        checked = check_parameters(context.config_loader["parameters"])
        pipeline_registry.configure_candidates(checked.training)
        pipelines.configure(f"{PACKAGE_NAME}.pipeline_registry")


class TrackingHook:
    """Adds to the MLflow run what kedro-mlflow does not know."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the environment's name."""
        self._environment = context.env or context.config_loader.default_run_env

    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Tag the run with environment and git revision."""
        import mlflow

        if mlflow.active_run():
            mlflow.set_tags(
                {"environment": self._environment, "git_revision": _git_revision(run_params)}
            )

    @hook_impl(trylast=True)
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Log the values inside typed parameters, which kedro-mlflow logs as one text."""
        import mlflow

        from wine_quality.parameters import Parameters

        if not mlflow.active_run():
            return
        for name, value in inputs.items():
            if isinstance(value, Parameters):
                prefix = name.removeprefix("params:")
                mlflow.log_params(flatten(value.model_dump(mode="json"), prefix))


class RunSummaryHook:
    """Prints, after a run, what it came to in words."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the environment, for the commands that the summary names."""
        self._environment = context.env

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Print the sections whose datasets this run wrote."""
        from rich.console import Console

        from wine_quality.summary import SUMMARISED, print_summary

        written = pipeline.outputs() | pipeline.all_outputs()
        outputs = {name: catalog.load(name) for name in sorted(written & SUMMARISED)}
        if outputs:
            print_summary(outputs, self._places(written, catalog), Console())

    def _places(self, written: set[str], catalog: CatalogProtocol) -> dict[str, str]:
        """Say where to look further, by path or command."""
        env = f" --env {self._environment}" if self._environment else ""
        pages = {
            name: str(getattr(catalog[name], "_filepath", ""))
            for name in sorted(written)
            if name.endswith("_html")
        }
        reports = {name.removesuffix("_html").replace("_", " "): at for name, at in pages.items()}
        return reports | {
            "tracked runs, registry": f"./just mlflow{env}",
            "lineage, figures": f"./just viz{env}",
        }


def flatten(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Turn nested values into one level, with the keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}"
        flat |= flatten(value, name) if isinstance(value, dict) else {name: value}
    return flat


def _git_revision(run_params: dict[str, Any]) -> str:
    """Return the revision of the checkout, with a `+` where it holds changes; else `unknown`."""
    import subprocess

    def git(*arguments: str) -> str:
        done = subprocess.run(  # noqa: S603 - the arguments are ours
            ["git", "-C", run_params["project_path"], *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    try:
        changed = "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        return git("rev-parse", "--short=12", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
