"""Run the service: bind, answer, and begin again on SIGHUP without losing a request."""

import errno
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import uvicorn

from wine_quality.errors import WineQualityError
from wine_quality.serving.access import ApiKeys
from wine_quality.serving.settings import LOOPBACK, MULTIPROCESS_FOLDER, ServiceSettings

logger = logging.getLogger(__name__)

_BACKLOG = 4096
_WORKER_READY_S = 120
"""Seconds that a worker may take to load the model before it replaces another one; it also is how
long uvicorn waits for a sign of life of a worker before it kills it."""


def serve(settings: ServiceSettings) -> None:
    """Answer requests until a signal stops it; what was accepted is answered first.

    On SIGHUP the service begins again with new API keys and a new look at everything else:
    requests under way are answered, new ones wait in the meantime. In a terminal SIGHUP means that
    the terminal is closed, and the service stops.

    Raises:
        WineQualityError: If it should bind to other than loopback and there are no API keys, or
            cannot bind.
    """
    _check_keys(settings)
    options: dict[str, Any] = {
        "app": "wine_quality.serving.worker:create",
        "factory": True,
        "host": settings.host,
        "port": settings.port,
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "timeout_graceful_shutdown": int(settings.time_limit_s) + 5,
        "timeout_keep_alive": 30,
        "backlog": _BACKLOG,
    }
    with _bind(settings.host, settings.port) as sockets:
        os.environ.update(settings.to_environment())
        if settings.workers == 1:
            _serve_alone(settings, options, sockets)
            return
    with tempfile.TemporaryDirectory(prefix="wine-quality-metrics-") as folder:
        # read by prometheus_client when it is imported, in every worker
        os.environ[MULTIPROCESS_FOLDER] = folder
        uvicorn.run(workers=settings.workers, timeout_worker_healthcheck=_WORKER_READY_S, **options)


def _check_keys(settings: ServiceSettings) -> None:
    keys = ApiKeys.read(settings.api_keys, settings.api_keys_file)
    if settings.host not in LOOPBACK and not keys:
        raise WineQualityError(
            f"Other machines can reach {settings.host}, and there are no API keys: make one with "
            "'python -m wine_quality.serving new-key', or bind to 127.0.0.1."
        )


class _Server(uvicorn.Server):
    """A server of one process, which learns from SIGHUP that it should begin again.

    Args:
        config: For uvicorn.
        settings: The service's.
    """

    def __init__(self, config: uvicorn.Config, settings: ServiceSettings) -> None:
        super().__init__(config)
        self._settings = settings
        self._in_terminal = sys.stdin is not None and sys.stdin.isatty()
        self.begins_again = False

    def hang_up(self, *_: object) -> None:
        """Stop, and begin again unless it is the terminal that has gone."""
        if not self._in_terminal:
            try:
                _check_keys(self._settings)
            except WineQualityError as error:
                logger.error("The service goes on as it is: %s", error)  # noqa: TRY400
                return
            logger.info("The service begins again, as SIGHUP asks for")
            self.begins_again = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say where."""
        await super().startup(sockets)
        for listening in sockets or ():
            logger.info("The service answers", extra={"address": listening.getsockname()[:2]})


def _serve_alone(
    settings: ServiceSettings, options: dict[str, Any], sockets: Sequence[socket.socket]
) -> None:
    """Serve in this process, again and again while SIGHUP asks for it.

    The sockets stay open in between, so that who comes then waits and is not refused.
    """
    begins_again = True
    while begins_again:
        server = _Server(uvicorn.Config(**options), settings)
        # a process that ignores it, under nohup for example, goes on ignoring it
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, server.hang_up)
        try:
            # uvicorn closes those that it is given
            server.run([listening.dup() for listening in sockets])
        except KeyboardInterrupt:
            return
        begins_again = server.begins_again


@contextmanager
def _bind(host: str, port: int) -> Iterator[Sequence[socket.socket]]:
    """Bind to all addresses of a host, before the model is loaded and anything else is tried."""
    with ExitStack() as stack:
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            sockets = [stack.enter_context(socket.socket(a[0], a[1])) for a in addresses]
            for bound, (family, *_, address) in zip(sockets, addresses, strict=True):
                # as asyncio does: connections that have just ended are in nobody's way
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                bound.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise WineQualityError(
                    f"Port {port} is in use: stop what runs there, or give another with --port."
                ) from error
            raise WineQualityError(
                f"The service cannot bind to {host}, port {port} ({error.strerror}): give another "
                "--host or --port."
            ) from error
        yield sockets
