"""SIGHUP: the service begins again, and nobody's request is lost."""

import os
import pty
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.load import Load, check_log
from wine_quality.serving.access import new_key
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.wines import WINE_EXAMPLE as WINE


def wait_for_line(server: Any, text: str, times: int = 1, seconds: float = 400) -> None:
    """Wait until the service has said something so many times."""
    deadline = time.monotonic() + seconds
    while server.lines.read_text().count(text) < times:
        assert time.monotonic() < deadline, server.lines.read_text()
        time.sleep(0.02)


@pytest.mark.slow
def test_a_request_under_way_is_answered_and_keys_are_read_again(
    registered, settings, serve, tmp_path: Path
) -> None:
    registered.add()
    file = tmp_path / "keys"
    old, known_old = new_key("old", ["read", "write"])
    new, known_new = new_key("new", ["write"])
    file.write_text(known_old.line())
    # however slow the machine is, it is not the limit of time that ends a request
    server = serve(settings.model_copy(update={"api_keys_file": file, "time_limit_s": 300}))
    assert server.process is not None

    def ask(key: str) -> httpx.Response:
        headers = {"X-API-Key": key}
        return httpx.post(f"{server.url}/predict", json=WINE, headers=headers, timeout=200)

    def wait_until_it_waits_for_the_log() -> None:
        deadline = time.monotonic() + 60
        while "wine_quality_queue_rows 1.0" not in (
            httpx.get(f"{server.url}/metrics", headers={"X-API-Key": old}, timeout=60).text
        ):
            assert time.monotonic() < deadline

    assert ask(old).status_code == 200
    # a file that is none changes nothing
    file.write_text("no key")
    server.process.send_signal(signal.SIGHUP)
    wait_for_line(server, "The service goes on as it is")
    assert ask(old).status_code == 200
    file.write_text(known_new.line())
    with ThreadPoolExecutor(2) as threads:
        # the log's file is locked, so that the request cannot be answered yet
        with sqlite3.connect(settings.log_url.removeprefix("sqlite:///")) as other:
            other.execute("BEGIN IMMEDIATE")
            under_way = threads.submit(ask, old)
            # one that comes later is answered by the keys that are read then
            wait_until_it_waits_for_the_log()
            server.process.send_signal(signal.SIGHUP)
            wait_for_line(server, "The service begins again")
            wait_for_line(server, "Waiting for connections to close")
            # who comes in the meantime waits
            meanwhile = threads.submit(ask, new)
            assert not under_way.done()
            other.rollback()
        assert under_way.result(200).status_code == 200
        assert meanwhile.result(200).status_code == 200
    assert ask(old).status_code == 401
    assert server.process.poll() is None
    with InferenceLog(settings.log_url) as log:
        assert log.counts().predictions == 4


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "times"), [(1, 3), (2, 1)])
def test_under_load_nothing_is_lost(registered, settings, serve, workers: int, times: int) -> None:
    registered.add()
    server = serve(settings.model_copy(update={"workers": workers}))
    assert server.process is not None
    ready = "Application startup complete"
    wait_for_line(server, ready, workers)
    with Load(server.url) as load:
        for n in range(times):
            load.wait_for(50)
            server.process.send_signal(signal.SIGHUP)
            wait_for_line(server, ready, workers * (n + 2))
            load.wait_for(50)
    assert server.process.poll() is None
    assert set(load.statuses) == {200}
    check_log(settings.log_url, load)
    assert "Traceback" not in server.lines.read_text()


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            if httpx.get(f"{url}/health/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_closes_stops_the_service_unless_it_is_ignored(
    registered, settings, free_port, tmp_path: Path, ignored: bool
) -> None:
    registered.add()
    port = free_port()
    ours, theirs = pty.openpty()
    how = ["nohup"] if ignored else []
    process = subprocess.Popen(
        [*how, sys.executable, "-m", "wine_quality.serving", "serve", "--port", str(port)],
        env={**os.environ, **settings.to_environment(), "WINE_QUALITY_PORT": str(port)},
        stdin=theirs, stdout=(tmp_path / "lines").open("wb"), stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        process.send_signal(signal.SIGHUP)
        if ignored:
            time.sleep(0.5)
            wait_until_ready(f"http://127.0.0.1:{port}", process)
        else:
            assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(60)
        os.close(ours)
        os.close(theirs)
