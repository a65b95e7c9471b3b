import os
import subprocess
import sys
from pathlib import Path

import pytest
from kedro.framework.startup import bootstrap_project

from wine_quality import pipeline_registry
from wine_quality.serving.settings import ServiceSettings
from wine_quality.system.project import project_folder, temporary_folder

PROJECT = Path(__file__).parents[2]


def make_project(folder: Path) -> Path:
    (folder / "inside").mkdir(parents=True)
    (folder / "pyproject.toml").write_text("[tool.kedro]\npackage_name = 'wine_quality'\n")
    return folder


@pytest.mark.parametrize("inside", ["", "inside"])
def test_the_project_is_found_from_any_folder_inside_it(tmp_path, monkeypatch, inside):
    project = make_project(tmp_path / "project")
    monkeypatch.chdir(project / inside)
    assert project_folder() == project
    assert ServiceSettings().tracking_uri == f"sqlite:///{project}/data/mlflow.db"
    assert ServiceSettings().log_url == f"sqlite:///{project}/data/inference_log.db"


@pytest.mark.parametrize("text", [None, "[tool.ruff]\n", "[tool.kedro\n"])
def test_outside_of_any_project_it_is_the_working_directory(tmp_path, monkeypatch, text):
    if text is not None:
        (tmp_path / "pyproject.toml").write_text(text)
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    assert project_folder() == tmp_path / "inside"


def test_each_checkout_and_user_has_a_temporary_folder_of_its_own(tmp_path, monkeypatch):
    found = set()
    for name in ("one", "other"):
        project = make_project(tmp_path / name)
        for folder in (project, project / "inside"):
            monkeypatch.chdir(folder)
            found.add(temporary_folder("test"))
    assert len(found) == 2
    monkeypatch.setattr(os, "getuid", lambda: -5)
    assert temporary_folder("test") not in found


def test_pipelines_are_registered_from_a_subfolder(monkeypatch):
    bootstrap_project(PROJECT)
    monkeypatch.chdir(PROJECT / "docs")
    assert "processing" in pipeline_registry.register_pipelines()


COMMANDS = """
import sys
from kedro.framework.cli.cli import main

for command in sys.argv.pop().split(";"):
    sys.argv[1:] = command.split()
    try:
        main()
    except SystemExit as end:
        print(f"{command} ended with {end.code}", flush=True)
"""


@pytest.mark.slow
def test_commands_work_in_a_subfolder(tmp_path):
    # one process for all of them: to begin takes each longer than what it does
    said = {
        "registry list": "- serving_simulation",
        "registry describe processing": "processing.split_wines",
        "catalog describe-datasets --env test": "accepted_wines",
        "champion show --env test": "champion of wine-quality: none",
        "run --env test --pipeline training": "There is no held_out_wines",
    }
    before = sorted((PROJECT / "docs").iterdir())
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, ";".join(said)],
        cwd=PROJECT / "docs",
        env=os.environ | {"WINE_QUALITY_TEST_ROOT": str(tmp_path / "root"), "COLUMNS": "240"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        timeout=600,
    )
    assert "Traceback" not in done.stdout
    told = done.stdout
    for command, words in said.items():
        own, ended, told = told.partition(f"{command} ended with ")
        assert ended, done.stdout
        assert words in own
        assert told[0] == ("1" if command.startswith("run") else "0")
    assert sorted((PROJECT / "docs").iterdir()) == before


@pytest.mark.slow
def test_the_logging_of_the_project_holds_in_a_subfolder():
    code = (
        "import logging; from kedro.framework.startup import bootstrap_project; "
        f"bootstrap_project({str(PROJECT)!r}); from kedro.framework.project import settings; "
        "settings.HOOKS; print(logging.getLogger('kedro.io').level)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT / "docs",
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    assert done.stdout.split()[-1] == "30"
