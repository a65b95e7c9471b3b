"""The project outside of its folder, and with a pipeline that somebody added."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.sessions.conftest import PROJECT, environment_variables

pytestmark = pytest.mark.slow

OWN_PIPELINE = """
from kedro.pipeline import Node, Pipeline


def double(number):
    print("twice", number, "is", 2 * number)
    return 2 * number


def create_pipeline():
    return Pipeline([Node(double, "params:my_cleaning.number", "doubled", name="double")])
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what a project consists of."""
    folder = tmp_path / "project"
    for name in ("src", "conf"):
        leave_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "local")
        shutil.copytree(PROJECT / name, folder / name, ignore=leave_out)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, folder)
    return folder


@pytest.fixture
def run_in(tmp_path: Path):
    """Runs `python -m …` in a folder, with a source folder or site; gives what it printed."""

    def run(folder: Path, site: Path, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env=environment_variables(tmp_path / "root") | {"PYTHONPATH": str(site)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


def test_the_wheel_holds_everything_and_runs_outside_of_the_project(project, run_in, tmp_path):
    source, site, work = project / "src", tmp_path / "site", tmp_path / "work"
    run_in(project, source, "kedro", "package")
    (wheel,) = (project / "dist").glob("*.whl")
    expected = {
        path.relative_to(source).as_posix()
        for path in (source / "wine_quality").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as content:
        assert {name for name in content.namelist() if ".dist-info/" not in name} == expected
        content.extractall(site)
    work.mkdir()
    # what the message about missing files says
    run_in(work, site, "wine_quality.traffic.synthetic", "data/01_raw/sample")
    archive = project / "dist" / "conf-wine_quality.tar.gz"
    processing = ("--env", "test", "--pipeline", "processing")
    done = run_in(work, site, "wine_quality", "--conf-source", str(archive), *processing)
    assert "6,497" in done
    # as logging.yml in the archive says
    assert "sequential_runner.py" not in done
    # there is nothing to open with a recipe
    assert "./just" not in done
    assert sorted(path.name for path in work.iterdir()) == ["data"]


def test_a_pipeline_of_ones_own_has_parameters_of_its_own(project, run_in):
    source = project / "src"
    run_in(project, source, "kedro", "pipeline", "create", "my_cleaning")
    (source / "wine_quality/pipelines/my_cleaning/pipeline.py").write_text(OWN_PIPELINE)
    parameters = project / "conf/base/parameters_my_cleaning.yml"
    assert parameters.exists()
    parameters.write_text("my_cleaning: { number: 21 }\n")
    arguments = ("kedro", "run", "--env", "test", "--pipeline", "my_cleaning")
    assert "twice 21 is 42" in run_in(project, source, *arguments)
