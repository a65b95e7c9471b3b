"""`./just`: sets .venv up where that is missing, stale or made in another folder."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).parents[2]
# makes a real environment, whose commands then only say what they are asked
PYTHON = """#!/bin/sh
case "$1 $2" in
"-m venv") ;;
*) exec {python} "$@" ;;
esac
{python} "$@" --without-pip
bin="$PWD/.venv/bin"
rm -f "$bin/python"
printf '#!/bin/sh\\necho "python $@" >> "%s/installed.log"\\n' "$PWD" > "$bin/python"
printf '#!/bin/sh\\necho "uv $@" >> "%s/installed.log"\\n' "$PWD" > "$bin/uv"
echo '[ -n "$NO_UV" ] && exit 1; exec sleep ${{UV_TAKES:-0}}' >> "$bin/uv"
printf '#!/bin/sh\\necho "just of %s: $@"\\n' "$PWD" > "$bin/just"
chmod +x "$bin/python" "$bin/uv" "$bin/just"
"""


class Checkout:
    """A folder with what `./just` reads, and a Python that installs nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def just(self, recipe: str = "hello", **variables: str) -> tuple[str, str]:
        """Run a recipe; its output and errors."""
        python = self.folder / "stub-python"
        done = subprocess.run(
            [self.folder / "just", recipe],
            env=os.environ | {"PYTHON": str(python)} | variables,
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        return done.stdout, done.stderr

    @property
    def installers(self) -> list[str]:
        """What was asked to install the locked packages here, each time."""
        log = self.folder / "installed.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.split()[0] for line in lines if "-r requirements" in line]

    @property
    def installations(self) -> int:
        """How many times the locked packages were installed here."""
        return len(self.installers)


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    folder = tmp_path / "a check out"
    folder.mkdir()
    for name in ("just", "pyproject.toml", "requirements.lock"):
        shutil.copy(PROJECT / name, folder / name)
    python = folder / "stub-python"
    python.write_text(PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    made = Checkout(folder)
    made.just()
    assert made.installations == 1
    return made


def test_what_is_up_to_date_is_left_alone(checkout):
    assert checkout.just() == (f"just of {checkout.folder}: hello\n", "")
    assert checkout.installations == 1


def test_a_changed_lock_is_installed(checkout):
    with (checkout.folder / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    _, errors = checkout.just()
    assert errors.startswith("Setting up .venv from requirements.lock")
    assert checkout.installations == 2


def test_pip_installs_what_uv_cannot(checkout):
    (checkout.folder / ".venv/.installed").unlink()
    _, errors = checkout.just(NO_UV="1")
    said = "uv could not do it here, so pip does, which takes longer ..."
    assert errors.splitlines()[1:] == [said]
    assert checkout.installers == ["uv", "uv", "python"]


@pytest.mark.parametrize("kept", [True, False])
def test_packages_are_compiled_at_once_where_nobody_would_keep_it_later(checkout, kept):
    checkout.just("extras", PYTHONDONTWRITEBYTECODE="" if kept else "1")
    last = (checkout.folder / "installed.log").read_text().splitlines()[-1]
    assert ("--compile-bytecode" in last) != kept


@pytest.mark.parametrize(("recipe", "lock"), [("extras", "all"), ("docs-tools", "docs")])
def test_what_is_optional_has_a_lock_of_its_own(checkout, recipe, lock):
    assert checkout.just(recipe) == ("", "")
    log = (checkout.folder / "installed.log").read_text()
    assert log.splitlines()[-1].endswith(f"--no-deps --require-hashes -r requirements-{lock}.lock")


def test_uv_comes_from_the_lock(checkout):
    (checkout.folder / ".venv/bin/uv").unlink()
    checkout.just("extras")
    text = (checkout.folder / ".venv/uv.txt").read_text()
    assert text.startswith("uv==")
    assert len(text.splitlines()) == 1 + text.count("--hash=sha256:") > 1


def test_a_signal_ends_the_setup_with_all_that_it_started(checkout):
    (checkout.folder / ".venv/.installed").unlink()
    environment = {"PYTHON": str(checkout.folder / "stub-python"), "UV_TAKES": "600"}
    setup = subprocess.Popen(
        [checkout.folder / "just", "hello"],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while checkout.installations < 2 or not (started := psutil.Process(setup.pid).children()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    setup.terminate()
    # the pipe closes when nothing holds it any more
    _, errors = setup.communicate(timeout=30)
    assert setup.returncode == 143
    assert psutil.wait_procs(started, timeout=30)[1] == []
    assert errors == "Setting up .venv from requirements.lock (a few minutes the first time) ...\n"
    # half an installation is made again
    checkout.just()
    assert checkout.installations >= 3


def test_a_folder_that_was_moved_gets_an_environment_of_its_own(checkout, tmp_path):
    (checkout.folder / ".venv/bin/kedro").touch()
    moved = Checkout(checkout.folder.rename(tmp_path / "moved"))
    output, errors = moved.just()
    assert output == f"just of {moved.folder}: hello\n"
    assert errors.startswith("This .venv was made in another folder, so it is made again; ")
    # commands of the former folder are gone, whatever version pip thinks they have
    assert not (moved.folder / ".venv/bin/kedro").exists()
    assert moved.just() == (output, "")
    assert moved.installations == 2


@pytest.mark.parametrize("link", [False, True], ids=["copied", "linked"])
def test_a_copy_leaves_the_environment_of_the_original_alone(checkout, tmp_path, link):
    copy = Checkout(tmp_path / "copy")
    shutil.copytree(checkout.folder, copy.folder, symlinks=True)
    if link:
        shutil.rmtree(copy.folder / ".venv")
        (copy.folder / ".venv").symlink_to(checkout.folder / ".venv")
    assert copy.just()[0] == f"just of {copy.folder}: hello\n"
    assert checkout.just() == (f"just of {checkout.folder}: hello\n", "")
    assert checkout.installations == 1
