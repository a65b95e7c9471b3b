"""Prefect's server: whether it answers, and one for this machine alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import httpx

from wine_quality.errors import WineQualityError
from wine_quality.orchestration.session import prepare_prefect
from wine_quality.system.foreground import end_group

LOOPBACK = "127.0.0.1"
# a busy machine needs minutes for what takes seconds on another
START_SECONDS = 300.0
STOP_SECONDS = 15.0


def server_address() -> str | None:
    """Give the address of the server's API that Prefect is set to, if any."""
    from prefect.settings import PREFECT_API_URL

    address: str | None = PREFECT_API_URL.value()
    return address


def check_server(*, required: bool = False) -> None:
    """See that the server answers that Prefect is set to.

    Without an address, Prefect has a server of its own for the time of a run.

    Args:
        required: Whether there has to be an address.

    Raises:
        WineQualityError: There is no address and there has to be one, or nobody answers there.
    """
    address = server_address()
    if address is None and required:
        raise WineQualityError(
            "PREFECT_API_URL names no server: set it, for example to "
            f"http://{LOOPBACK}:4200/api after 'prefect server start', or use 'serve'."
        )
    if address is not None and not is_healthy(address):
        raise WineQualityError(
            f"Prefect's server {address} does not answer: start it with 'prefect server start', "
            "or correct PREFECT_API_URL."
        )


def is_healthy(address: str, client: httpx.Client | None = None) -> bool:
    """Tell whether a Prefect server answers at the address of an API.

    Args:
        address: The address.
        client: Who asks again and again brings one: a new one reads all certificates each time.
    """
    try:
        answer = (client or httpx).get(f"{address}/health", timeout=10)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return answer.status_code == httpx.codes.OK and answer.text == "true"


@contextmanager
def local_server(port: int) -> Iterator[str]:
    """Have a server on this machine: the one that is there, or else one for as long as the block.

    Args:
        port: Its port on loopback.

    Yields:
        The address of its API, to which Prefect is set in this process and those it starts.

    Raises:
        WineQualityError: It does not start.
    """
    prepare_prefect()
    from prefect.settings import PREFECT_API_URL, temporary_settings

    address = f"http://{LOOPBACK}:{port}/api"
    with (
        nullcontext() if is_healthy(address) else _started(port, address),
        temporary_settings({PREFECT_API_URL: address}),
    ):
        yield address


@contextmanager
def _started(port: int, address: str) -> Iterator[None]:
    """Have a server; SIGTERM ends this process by an exception, so that the server is stopped."""
    early: list[int] = []

    def end(number: int, _frame: object = None) -> None:
        raise SystemExit(128 + number)

    # an exception while the process is being made would leave nobody who knows it
    former = signal.signal(signal.SIGTERM, lambda number, _frame: early.append(number))
    try:
        process = _start(port, address)
        try:
            signal.signal(signal.SIGTERM, end)
            for number in early:
                end(number)
            _wait_for(address, process)
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _stop(process)
    finally:
        signal.signal(signal.SIGTERM, former)


def _start(port: int, address: str) -> "subprocess.Popen[bytes]":
    pages = {
        "PREFECT_SERVER_UI_API_URL": address,
        # the newer pages ask a host outside what to report, whatever the settings say
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
    }
    # in a session of its own: Ctrl-C is for the schedules, which have to tell the server of it
    options = ["--host", LOOPBACK, "--port", str(port), "--log-level", "WARNING"]
    return subprocess.Popen(  # noqa: S603 - the arguments are ours
        [sys.executable, "-m", "prefect", "server", "start", *options],
        env={**os.environ, **pages},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait_for(address: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client() as client:
        while process.poll() is None and time.monotonic() < deadline:
            if is_healthy(address, client):
                return
            time.sleep(0.2)
    raise WineQualityError(
        f"Prefect's server did not start at {address}: see its lines above, or choose another "
        "port with --port."
    )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    end_group(process.pid)
