"""The commands of orchestration: deploy, serve, run."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from wine_quality.cli import explain
from wine_quality.errors import WineQualityError
from wine_quality.orchestration.session import prepare_prefect


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it went well."""
    given = _parser().parse_args(arguments)
    try:
        _run(given)
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f"Error: {message}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _run(given: argparse.Namespace) -> None:
    prepare_prefect()
    from wine_quality.orchestration import deployments
    from wine_quality.orchestration.server import check_server, local_server, server_address

    plan = deployments.make_plan(given.env, given.conf_source)
    if given.command == "run":
        check_server()
        failure = deployments.run_now(plan, given.name)
        if failure:
            raise WineQualityError(failure)
    elif given.command == "deploy":
        check_server(required=True)
        for line in deployments.deploy(plan):
            print(line)  # noqa: T201
    else:
        check_server()
        with nullcontext() if server_address() else local_server(given.port):
            address = str(server_address()).removesuffix("/api")
            print(f"Serving {len(plan.settings.deployments)} deployments; see {address}")  # noqa: T201
            deployments.serve(plan)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wine_quality.orchestration",
        description="Runs what orchestration.yml lists, by Prefect; see docs/how-to/schedules.md.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    deploy = commands.add_parser("deploy", help="bring the deployments to the server")
    serve = commands.add_parser("serve", help="server, schedules and runs on this machine")
    serve.add_argument("--port", type=int, default=4200, help="of the server, if there is none")
    run = commands.add_parser("run", help="run a deployment here, once")
    run.add_argument("name", help="as in orchestration.yml")
    for command in (deploy, serve, run):
        command.add_argument("--env", "-e", help="Kedro's environment")
        command.add_argument("--conf-source", help="folder of the configuration")
    return parser


if __name__ == "__main__":
    sys.exit(main())
