"""The service's commands: serve, new-key, migrate, backup, check."""

import argparse
import errno
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wine_quality.errors import WineQualityError
from wine_quality.serving.access import SCOPES, ApiKeys, new_key
from wine_quality.serving.settings import LOOPBACK, ServiceSettings

if TYPE_CHECKING:
    from wine_quality.database.database import Database

MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_FLAGS = {
    "host": str,
    "port": int,
    "workers": int,
    "tracking_uri": str,
    "registered_model": str,
    "alias": str,
    "log_url": str,
    "api_keys_file": Path,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it went well."""
    given = _parser().parse_args(arguments)
    try:
        if given.command == "new-key":
            _print_key(given.name, given.scope or list(SCOPES))
        elif given.command == "migrate":
            with _log_database(given.log_url) as log:
                print(log.migrate())  # noqa: T201
        elif given.command == "backup":
            with _log_database(given.log_url) as log:
                print(log.back_up(given.file))  # noqa: T201
        elif given.command == "check":
            from wine_quality.serving.served_model import ModelLoader

            settings = ServiceSettings.from_environment(tracking_uri=given.tracking_uri)
            print(ModelLoader.of(settings).checked_address())  # noqa: T201
        else:
            flags = {name: getattr(given, name) for name in _FLAGS}
            serve(ServiceSettings.from_environment(**flags))
    except WineQualityError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def serve(settings: ServiceSettings) -> None:
    """Answer requests until told to stop; what was accepted is answered first.

    Raises:
        WineQualityError: If it should bind to other than loopback and there are no API keys, or
            cannot bind.
    """
    import uvicorn

    keys = ApiKeys.read(settings.api_keys, settings.api_keys_file)
    if settings.host not in LOOPBACK and not keys:
        raise WineQualityError(
            f"Other machines can reach {settings.host}, and there are no API keys: make one with "
            "'python -m wine_quality.serving new-key', or bind to 127.0.0.1."
        )
    _check_address(settings.host, settings.port)
    os.environ.update(settings.to_environment())
    with tempfile.TemporaryDirectory(prefix="wine-quality-metrics-") as folder:
        if settings.workers > 1:
            # read by prometheus_client when it is imported, in every worker
            os.environ[MULTIPROCESS_FOLDER] = folder
        uvicorn.run(
            "wine_quality.serving.worker:create",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=int(settings.time_limit_s) + 5,
            timeout_keep_alive=30,
            backlog=4096,
        )


def _log_database(url: str | None) -> "Database":
    from wine_quality.database.database import Database
    from wine_quality.serving.log_schema import LOG

    return Database(ServiceSettings.from_environment(log_url=url).log_url, LOG)


def _check_address(host: str, port: int) -> None:
    """See that uvicorn can bind, which says so only after the model has been loaded."""
    try:
        for family, kind, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind) as tried:
                # as asyncio does: connections that have just ended are in nobody's way
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                tried.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise WineQualityError(
                f"Port {port} is in use: stop what runs there, or give another with --port."
            ) from error
        raise WineQualityError(
            f"The service cannot bind to {host}, port {port} ({error.strerror}): give another "
            "--host or --port."
        ) from error


def _print_key(name: str, scopes: Sequence[str]) -> None:
    key, known = new_key(name, [scope for scope in SCOPES if scope in scopes])
    print(f"Key, shown this once:   {key}")  # noqa: T201
    print(f"WINE_QUALITY_API_KEYS:  {known.line()}")  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wine_quality.serving",
        description="The prediction service. Every setting has a variable too, WINE_QUALITY_PORT "
        "for --port; docs/serving.md lists them.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("serve", help="answer requests")
    for name, kind in _FLAGS.items():
        text = ServiceSettings.model_fields[name].description
        server.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    key = commands.add_parser("new-key", help="make an API key")
    key.add_argument("name", nargs="?", default="client", help="whose it is")
    key.add_argument("--scope", action="append", choices=SCOPES, help="both, if not given")
    upgrade = commands.add_parser("migrate", help="bring an inference log to this schema")
    backup = commands.add_parser("backup", help="copy an inference log while it is written to")
    backup.add_argument("file", type=Path, help="the copy, a new file")
    for command in (upgrade, backup):
        command.add_argument("--log-url", help="the log's database")
    check = commands.add_parser("check", help="load the champion's model; print its address")
    check.add_argument("--tracking-uri", help="MLflow tracking server")
    return parser


if __name__ == "__main__":
    sys.exit(main())
