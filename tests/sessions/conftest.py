"""Runs of the real project, each against a folder of its own.

Nothing here may write into the checkout: the environment `test` and those made by
`project_environment` keep everything they write under a temporary root.
"""

import contextlib
import functools
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from filelock import FileLock
from kedro.framework.cli.cli import KedroCLI
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from mlflow.tracking import fluent
from mlflow.tracking._tracking_service import utils as tracking

from wine_quality.cli import cli
from wine_quality.running.hooks import ConfigurationHook
from wine_quality.settings import HOOKS

PROJECT = Path(__file__).parents[2]
(CONFIGURATION,) = (hook for hook in HOOKS if isinstance(hook, ConfigurationHook))
ROOT = "WINE_QUALITY_TEST_ROOT"
# what this process, the machine or the other tests set must not decide how a run goes
FOREIGN = (
    "KEDRO_ENV",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_LOGGING_LEVEL",
    "MLFLOW_RUN_ID",
    "MLFLOW_TRACKING_URI",
)
# for tests that need a training and not a comparison
ONE_CANDIDATE = (
    "training.candidates.extra_trees_regressor.enabled=false,"
    "training.candidates.k_neighbors_regressor.enabled=false"
)
# wide enough that no line of a summary is folded
COLUMNS = "240"


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        status: Its exit status.
        output: What it wrote to standard output.
        errors: What it wrote to standard error.
    """

    status: int
    output: str
    errors: str

    @property
    def error(self) -> str:
        """The one line that says what went wrong; asserts that there is one and nothing beside."""
        assert self.status == 1, self.output + self.errors
        assert "Traceback" not in self.output + self.errors
        found = [line for line in self.errors.splitlines() if line.startswith("Error: ")]
        assert len(found) == 1, self.errors
        message = found[0].removeprefix("Error: ")
        # said once: no log line tells the same at greater length
        assert "failed with error" not in self.output
        assert message[:40] not in self.output
        return message


@dataclass(frozen=True)
class Run:
    """A finished run: how it ended, and the folder that it wrote to."""

    outcome: Outcome
    root: Path


Kedro = Callable[..., Outcome]
MakeEnvironment = Callable[..., tuple[str, ...]]


def command_line(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kedro", "run", *arguments]


def environment_variables(root: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return own | {ROOT: str(root), "COLUMNS": COLUMNS}


def run_apart(
    *arguments: str, root: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> Outcome:
    """Run `kedro run` as a person does: a process of its own, with further variables."""
    done = subprocess.run(
        command_line(*arguments),
        cwd=PROJECT,
        env=environment_variables(root) | variables,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=1800,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def session_variables(root: Path) -> Iterator[None]:
    """Let sessions of this process write to a folder; undo afterwards what they leave behind."""
    node_logger = logging.getLogger("kedro.pipeline.node")
    with (
        pytest.MonkeyPatch.context() as patch,
        tracking._use_tracking_uri(f"sqlite:///{root}/nowhere.db"),
        contextlib.chdir(PROJECT),
        warnings.catch_warnings(),
    ):
        for name in FOREIGN:
            if name != "MLFLOW_TRACKING_URI":
                # set first, so that what MLflow puts there is taken away again
                patch.setenv(name, "")
                patch.delenv(name)
        patch.setenv(ROOT, str(root))
        patch.setenv("COLUMNS", COLUMNS)
        patch.setattr(fluent, "_active_experiment_id", None)
        patch.setattr(node_logger, "filters", list(node_logger.filters))
        patch.setattr(CONFIGURATION, "parameters", None)
        yield
    pipelines.configure("wine_quality.pipeline_registry")


@functools.cache
def command_line_here() -> KedroCLI:
    """Kedro's command line for this process; to set the project up again takes half a second."""
    return KedroCLI(PROJECT)


def command_here(*arguments: str, root: Path) -> Outcome:
    """Run `kedro …` in this process, through the whole command line, which saves seconds."""
    output, errors = io.StringIO(), io.StringIO()
    with (
        session_variables(root),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            command_line_here().main(list(arguments), prog_name="kedro")
        except SystemExit as end:
            status = int(end.code or 0)
        except Exception:
            traceback.print_exc()
            status = 1
    return Outcome(status, output.getvalue(), errors.getvalue())


def run_here(*arguments: str, root: Path) -> Outcome:
    """Run `kedro run` in this process."""
    return command_here("run", *arguments, root=root)


def load_all(root: Path, names: Iterable[str]) -> dict[str, Any]:
    """Load datasets that a run of the environment `test` wrote, through the project's catalog."""
    with session_variables(root):
        command_line_here()
        with KedroSession.create(project_path=PROJECT, env="test") as session:
            catalog = session.load_context().catalog
            return {name: catalog.load(name) for name in names}


@pytest.fixture(scope="session")
def kedro_apart() -> Kedro:
    return run_apart


@pytest.fixture(scope="session")
def kedro_here() -> Kedro:
    return run_here


@pytest.fixture(scope="session")
def kedro_command_here() -> Kedro:
    """Run any command of Kedro or of the project, such as `alerts list`."""
    return command_here


@pytest.fixture(scope="session")
def load() -> Callable[[Path, Iterable[str]], dict[str, Any]]:
    return load_all


@pytest.fixture(scope="session")
def start_apart() -> Callable[..., subprocess.Popen[str]]:
    """Start `kedro run` and go on."""

    def start(*arguments: str, root: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command_line(*arguments),
            cwd=PROJECT,
            env=environment_variables(root),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    return start


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The one `kedro run --env test`, with reports, that many tests look at; none may write to it.

    It is shared by all processes of the tests.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    root, ended = shared / "whole_run", shared / "whole_run.json"
    with FileLock(f"{root}.lock"):
        if not ended.exists():
            reports = ("--params", "monitoring.drift.reported_windows=1")
            ended.write_text(json.dumps(asdict(run_apart("--env", "test", *reports, root=root))))
    return Run(Outcome(**json.loads(ended.read_text())), root)


@pytest.fixture
def after_whole_run(whole_run: Run, tmp_path: Path) -> Path:
    """A copy of the whole run's root, to go on from."""
    return Path(shutil.copytree(whole_run.root, tmp_path / "after_whole_run"))


@pytest.fixture
def fresh_root(tmp_path: Path, empty_tracking_database: Path) -> Path:
    """A root that nothing ran in, with an empty tracking database."""
    root = tmp_path / "root"
    root.mkdir()
    shutil.copy(empty_tracking_database, root)
    return root


@pytest.fixture
def project_command(fresh_root, monkeypatch):
    """Runs `kedro GROUP …` in the environment `test`, in this process; gives status and output."""
    monkeypatch.setenv(ROOT, str(fresh_root))
    monkeypatch.chdir(PROJECT)

    def run(group, *arguments, env="test"):
        with tracking._use_tracking_uri(f"sqlite:///{fresh_root}/mlflow.db"):
            done = CliRunner().invoke(cli, [group, *arguments, "--env", env])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return run


@pytest.fixture
def project_environment(tmp_path: Path) -> MakeEnvironment:
    """Makes an environment in a copy of `conf/`; gives the arguments that choose it.

    Takes its `name`, the environment that it is `like`, `files` by name, and globals.
    """

    def make(
        name: str = "case",
        like: str = "test",
        files: Mapping[str, str] | None = None,
        **values: Any,
    ) -> tuple[str, ...]:
        conf = tmp_path / "conf"
        shutil.copytree(PROJECT / "conf", conf)
        folder = conf / name
        shutil.copytree(PROJECT / "conf" / like, folder, dirs_exist_ok=True)
        globals_file = folder / "globals.yml"
        merged = yaml.safe_load(globals_file.read_text()) | values
        globals_file.write_text(yaml.safe_dump(merged))
        for file_name, text in (files or {}).items():
            (folder / file_name).write_text(text)
        return ("--conf-source", str(conf), "--env", name)

    return make
