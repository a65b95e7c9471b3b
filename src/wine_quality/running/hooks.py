"""What every run does beside its nodes: check its parameters, tag its MLflow run, end in words."""

import logging
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack
from pathlib import Path
from shlex import quote
from threading import Lock
from typing import TYPE_CHECKING, Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import settings
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from wine_quality.database.addresses import refuse_database_in_store
from wine_quality.errors import WineQualityError
from wine_quality.modelling.tracking import (
    check_tracking_file,
    make_experiment,
    tracking_setting,
    tracking_store,
)
from wine_quality.running.config_loader import check_environment
from wine_quality.running.logs import step_in_words
from wine_quality.system.project import project_folder
from wine_quality.system.storage import (
    address_of,
    check_place,
    find_store,
    is_address,
)

if TYPE_CHECKING:
    from wine_quality.pipelines.parameters import ProjectParameters


logger = logging.getLogger(__name__)

COMPOSED = ("__default__", "retraining")
"""Registered pipelines that hold others, which make what they make."""


class ConfigurationHook:
    """Checks the configuration of the session, and keeps it for the pipelines to be built from.

    Attributes:
        parameters: The session's parameters; None before a session has begun.
    """

    parameters: "ProjectParameters | None" = None

    # outermost, so that a mistake stops the run before anything is set up or written
    @hook_impl(wrapper=True, tryfirst=True)
    def after_context_created(self, context: KedroContext) -> Generator[None, object, object]:
        """Check environment, parameters and tracking file; have the pipelines built anew."""
        from kedro.framework.project import PACKAGE_NAME, pipelines

        from wine_quality.pipelines.parameters import check_parameters

        check_environment(Path(context.config_loader.conf_source), context.env)
        checked = check_parameters(context.config_loader["parameters"])
        tracking = context.config_loader["mlflow"]["server"]["mlflow_tracking_uri"] or ""
        refuse_database_in_store(tracking)
        check_tracking_file(tracking)
        self.parameters = checked
        pipelines.configure(f"{PACKAGE_NAME}.pipeline_registry")
        return (yield)


class PreflightHook:
    """Checks, before the first node of a run, all that would otherwise end the run later."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the configuration."""
        self._config = context.config_loader

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> None:
        """Try candidates and backend, and see that what datasets need is installed.

        Raises:
            WineQualityError: Something that the run needs is not as it has to be.
        """
        from wine_quality.pipelines.parameters import check_parameters
        from wine_quality.pipelines.preflight import check_before_run

        parameters = check_parameters(self._config["parameters"])
        check_before_run(pipeline, catalog, parameters, self._config["globals"]["trusted_types"])


class StorageHook:
    """Looks at an object store before a run begins that would read or write there."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Keep what the environment says; see that its addresses can be understood."""
        self._config = context.config_loader
        self._places = {
            name: self._config["globals"][name]
            for name in ("root", "raw")
            if is_address(self._config["globals"][name])
        }
        for address in self._places.values():
            find_store(address)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Refuse databases in a store; see that it is there, for it tells of files alone."""
        for credentials in self._config["credentials"].values():
            if isinstance(credentials, Mapping):
                refuse_database_in_store(str(credentials.get("url")))
        for name, address in self._places.items():
            if name == "root" or "raw_wines" in pipeline.inputs():
                check_place(address)


class MissingInputsHook:
    """Says what to run first, where a run would start from data that is not there yet."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Look for the inputs that another pipeline makes."""
        from kedro.framework.project import pipelines as registered

        makers = {
            output: name
            for name, made in registered.items()
            for output in made.all_outputs()
            if name not in COMPOSED
        }
        missing = {
            name: makers[name]
            for name in sorted(pipeline.inputs() & makers.keys())
            if not getattr(catalog[name], "optional", False) and not catalog.exists(name)
        }
        if missing:
            env = f" --env {run_params['env']}" if run_params["env"] else ""
            first = ",".join(name for name in registered if name in missing.values())
            raise WineQualityError(
                f"There is no {' and no '.join(missing)} yet: run 'kedro run{env}' for everything, "
                f"or 'kedro run{env} --pipelines {first}' first."
            )


class RunLockHook:
    """Has a run wait for another that writes the same files.

    Tuning is left out: several runs may search a study at once.
    """

    def __init__(self) -> None:
        self._held = ExitStack()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep what the lock needs to know."""
        root = context.config_loader["globals"]["root"]
        self._root = root if is_address(root) else str(context.project_path / root)
        self._database = context.config_loader["credentials"]["monitoring"]["url"]

    # outermost: whatever looks at the files does so when the other run has ended
    @hook_impl(wrapper=True, tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline) -> Generator[None, object, object]:
        """Take the lock."""
        from kedro.framework.project import pipelines as registered

        from wine_quality.running.run_lock import run_lock

        written = pipeline.all_outputs()
        writing = {
            name
            for name, made in registered.items()
            if name not in (*COMPOSED, "tuning") and made.all_outputs() & written
        }
        # two machines must not both decide to train again
        everywhere = {"retraining"} & written
        # a run that was interrupted in a notebook's process did not release it
        self._held.close()
        self._held.enter_context(run_lock(self._root, self._database, writing, everywhere))
        try:
            return (yield)
        except BaseException:
            self._held.close()
            raise

    # after the summary
    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Release the lock."""
        self._held.close()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Release the lock."""
        self._held.close()


class TrackingHook:
    """Adds to the MLflow run what kedro-mlflow does not know."""

    def __init__(self) -> None:
        self._parameters = Lock()

    @hook_impl(wrapper=True)
    def after_context_created(self, context: KedroContext) -> Generator[None, object, object]:
        """Keep the environment's name; see to the tracking store and its experiment.

        Raises:
            WineQualityError: It cannot be; the message names it.
        """
        from kedro_mlflow.framework.hooks.mlflow_hook import mlflow_hook

        quieten_mlflow()
        self._environment = environment_name(context)
        # it remembers the run of this process's last session, and would open that again for the
        # nodes of a pipeline that is not tracked
        mlflow_hook.run_id = None
        config = context.config_loader["mlflow"]
        uri = config["server"]["mlflow_tracking_uri"] or ""
        experiment = config["tracking"]["experiment"]
        with tracking_store(uri, tracking_setting(uri)):
            # before kedro-mlflow, which fails where another process makes it meanwhile
            make_experiment(uri, experiment["name"], **experiment["create_experiment_kwargs"])
            return (yield)

    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline) -> None:
        """Tag the run with environment and git revision.

        Raises:
            WineQualityError: It would register a model, and MLflow is set not to track it.
        """
        import mlflow

        if not mlflow.active_run():
            if {"registered_version", "retraining"} & pipeline.all_outputs():
                raise WineQualityError(
                    "A model is registered in a tracked run, and this one is not tracked: do not "
                    "list its pipeline under tracking.disable_tracking in mlflow.yml."
                )
        else:
            mlflow.set_tags(
                {"environment": self._environment, "git_revision": _git_revision(run_params)}
            )

    # around kedro-mlflow's own
    @hook_impl(wrapper=True, tryfirst=True)
    def before_node_run(self, inputs: dict[str, Any]) -> Generator[None, object, object]:
        """Have kedro-mlflow log the values inside typed parameters, not each group as one text.

        One thread at a time: MLflow fails where two log the same parameter at once.
        """
        from wine_quality.parameters import Parameters

        # Kedro gives hooks a copy of a node's inputs
        typed = {name: value for name, value in inputs.items() if isinstance(value, Parameters)}
        with self._parameters:
            inputs |= {name: value.model_dump(mode="json") for name, value in typed.items()}
            try:
                return (yield)
            finally:
                inputs |= typed


class RunSummaryHook:
    """Prints, after a run, what it came to in words, and how long its stages took."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the environment, for the commands that the summary names."""
        self._environment = context.env
        self._environment_name = environment_name(context)

    # after kedro-mlflow's own
    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Begin to measure; name the MLflow run, if there is one."""
        import mlflow

        self._clock = StageClock()
        self._outputs: dict[str, Any] = {}
        run = mlflow.active_run()
        self._run_id = run.info.run_id if run else None
        names = "+".join(run_params.get("pipeline_names") or ["__default__"])
        self._name = f"{names}, {self._environment_name}"
        self._rename(self._name)

    @hook_impl(tryfirst=True)
    def before_dataset_loaded(self, node: Node) -> None:
        """Note that a node is at work."""
        self._clock.note(node.name)

    @hook_impl(trylast=True)
    def after_dataset_saved(self, dataset_name: str, data: Any, node: Node) -> None:
        """Note that a node is at work; keep what the summary shows.

        It is not loaded at the end: by then another run may have written the file.
        """
        from wine_quality.running.summary import SUMMARISED

        self._clock.note(node.name)
        if dataset_name in SUMMARISED:
            self._outputs[dataset_name] = data

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> None:
        """Print the sections whose datasets this run wrote."""
        from mlflow import MlflowClient
        from rich.console import Console

        from wine_quality.running.summary import outcome, print_summary, write_note

        self._rename(f"{self._name}: {outcome(self._outputs) or 'done'}")
        if self._outputs:
            places = self._places(pipeline.all_outputs(), catalog)
            seconds = self._clock.seconds()
            print_summary(self._outputs, places, Console(), seconds)
            if self._run_id:
                # what MLflow shows of a run first
                note = write_note(self._outputs, seconds)
                MlflowClient().set_tag(self._run_id, "mlflow.note.content", note)

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Say in the run's name that it failed."""
        self._rename(f"{self._name}: failed")

    def _rename(self, name: str) -> None:
        """Name the MLflow run, if there is one."""
        from mlflow import MlflowClient

        if self._run_id:
            MlflowClient().update_run(self._run_id, name=name)

    def _places(self, written: set[str], catalog: CatalogProtocol[Any, Any]) -> dict[str, str]:
        """Say where to look further, by path or command."""
        import mlflow

        has_recipes = (project_folder() / "justfile").is_file()
        env = f" --env {self._environment}" if self._environment else ""
        pages = {
            name: address_of(catalog[name]._fs, str(catalog[name]._filepath))
            for name in sorted(written)
            if name.endswith("_html") and hasattr(catalog[name], "_filepath")
        }
        reports = {name.removesuffix("_html").replace("_", " "): at for name, at in pages.items()}
        if "evidently_pages" in written and catalog["evidently_workspace"].exists():
            workspace = quote(str(catalog["evidently_workspace"]._describe()["folder"]))
            reports["Evidently's reports"] = (
                f"./just evidently {workspace}"
                if has_recipes
                else f"evidently ui --workspace {workspace}"
            )
        if self._run_id:
            store = quote(mlflow.get_tracking_uri())
            reports["tracked runs, registry"] = (
                f"./just mlflow{env}" if has_recipes else f"mlflow ui --backend-store-uri {store}"
            )
        # a packaged project has no lineage to open: Kedro-Viz wants the project's folder
        return reports | ({"lineage, figures": f"./just viz{env}"} if has_recipes else {})


class ProgressHook:
    """Says which step of a run begins, in place of Kedro's line with all that goes in and out."""

    def __init__(self) -> None:
        self._counting = Lock()

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Count the steps."""
        self._steps = len(pipeline.nodes)
        self._begun: set[str] = set()

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Name the step; one that is tried again keeps the count."""
        with self._counting:
            self._begun.add(node.name)
            number = len(self._begun)
        width = len(str(self._steps))
        logger.info("%*d of %d  %s", width, number, self._steps, step_in_words(node.name))


class StageClock:
    """Measures nodes from the first thing they load to the last they save."""

    def __init__(self) -> None:
        self._spans: dict[str, tuple[float, float]] = {}

    def note(self, node: str) -> None:
        """Note that a node is at work now."""
        now = time.monotonic()
        begin, _ = self._spans.get(node, (now, now))
        self._spans[node] = begin, now

    def seconds(self) -> dict[str, float]:
        """Give the seconds of each node, by its name."""
        return {node: end - begin for node, (begin, end) in self._spans.items()}


def environment_name(context: KedroContext) -> str:
    """Name a session's environment as `--env` does; without one it is that of all settings."""
    return context.env or str(settings.CONFIG_LOADER_ARGS["base_env"])


def quieten_mlflow() -> None:
    """Keep MLflow's bars and news from who runs a pipeline, unless the environment wants them."""
    from mlflow import environment_variables as mlflow_variables

    if not mlflow_variables.MLFLOW_LOGGING_LEVEL.is_set():
        logging.getLogger("mlflow").setLevel(logging.WARNING)
    if not mlflow_variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.is_set():
        mlflow_variables.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)


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
