"""The service's commands: serve, new-key, migrate, backup, check."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wine_quality.errors import WineQualityError
from wine_quality.serving.access import SCOPES, new_key
from wine_quality.serving.server import serve
from wine_quality.serving.settings import ServiceSettings

if TYPE_CHECKING:
    from wine_quality.database.database import Database

_FLAGS = {
    "host": str,
    "port": int,
    "workers": int,
    "tracking_uri": str,
    "registered_model": str,
    "alias": str,
    "log_url": str,
    "api_keys_file": Path,
    "shadow_share": float,
    "canary_share": float,
    "root_path": str,
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


def _log_database(url: str | None) -> "Database":
    from wine_quality.database.database import Database
    from wine_quality.serving.log_schema import LOG

    return Database(ServiceSettings.from_environment(log_url=url).log_url, LOG)


def _print_key(name: str, scopes: Sequence[str]) -> None:
    key, known = new_key(name, [scope for scope in SCOPES if scope in scopes])
    print(f"Key, shown this once:   {key}")  # noqa: T201
    print(f"WINE_QUALITY_API_KEYS:  {known.line()}")  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wine_quality.serving",
        description="The prediction service. Every setting has a variable too, WINE_QUALITY_PORT "
        "for --port; './just docs' builds the list of all.",
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
