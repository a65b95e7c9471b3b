"""What a supervisor does to a recipe: SIGTERM to `just` ends the server that it started."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

PROJECT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("just") is None, reason="just is not installed"),
]
RECIPES = {
    "serve": (("--port", "{port}"), "/health/live"),
    "serve-mlflow": (("{port}",), "/ping"),
    "evidently": (("{root}/08_reporting/evidently_workspace", "{port}"), "/"),
    "mlflow": (("--env", "test", "--port", "{port}"), "/health"),
    "viz": (("--env", "test", "--no-browser", "--port", "{port}"), "/api/main"),
}


def is_open(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex(("127.0.0.1", port)) == 0


def processes_of(session: int) -> list[str]:
    """The processes of a session that still run."""
    listed = subprocess.run(
        ["ps", "-eo", "sid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    rows = [line.split(maxsplit=2) for line in listed]
    return [row[2] for row in rows if row[0] == str(session) and not row[1].startswith("Z")]


@pytest.mark.parametrize("recipe", RECIPES)
def test_sigterm_ends_the_server(recipe, whole_run, free_port, run_server, tmp_path):
    arguments, page = RECIPES[recipe]
    port, store = free_port(), f"sqlite:///{whole_run.root}/mlflow.db"
    variables = {
        "WINE_QUALITY_TEST_ROOT": str(whole_run.root),
        "WINE_QUALITY_TRACKING_URI": store,
        "WINE_QUALITY_LOG_URL": f"sqlite:///{tmp_path}/log.db",
        "MLFLOW_TRACKING_URI": store,
    }
    given = [argument.format(port=port, root=whole_run.root) for argument in arguments]
    command = ["just", "--justfile", str(PROJECT / "justfile"), recipe, *given]
    with run_server(
        command,
        f"http://127.0.0.1:{port}{page}",
        tmp_path / "lines",
        env=os.environ | variables,
    ) as process:
        assert processes_of(process.pid)
        process.terminate()
        process.wait(60)
        deadline = time.monotonic() + 60
        while is_open(port) or processes_of(process.pid):
            assert time.monotonic() < deadline, processes_of(process.pid)
            time.sleep(0.1)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}{page}", timeout=60)
