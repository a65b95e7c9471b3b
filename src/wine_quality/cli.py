"""Project commands: `kedro run` with errors that a person can read."""

import sys
import warnings
from collections.abc import Callable
from typing import Any, cast

import click
from kedro.framework.cli.project import run as kedro_run

from wine_quality.errors import WineQualityError


@click.group(name="wine_quality")
def cli() -> None:
    """Commands of the wine-quality project."""


def explain(error: BaseException) -> str | None:
    """Say in one line what a person did wrong, or return None where the fault is the program's.

    An exception that was raised while another was handled is told by the one that a person can
    act on: ours first, then Kedro's own about configuration, parameters and files.
    """
    from kedro.config import BadConfigException, MissingConfigException
    from kedro.io import DatasetError
    from kedro.validation import ParameterValidationError
    from omegaconf.errors import OmegaConfBaseException
    from sqlalchemy.exc import SQLAlchemyError
    from yaml import YAMLError

    chain = []
    link: BaseException | None = error
    while link is not None:
        chain.append(link)
        link = link.__cause__ or link.__context__

    readable: tuple[type[BaseException], ...] = (
        ParameterValidationError,
        MissingConfigException,
        BadConfigException,
        OmegaConfBaseException,
        YAMLError,
        SQLAlchemyError,
        DatasetError,
    )
    for kind in (WineQualityError, *readable):
        for link in chain:
            if isinstance(link, kind):
                return _one_line(link)
    # Kedro raises a bare ValueError for names that it does not know
    if isinstance(error, ValueError) and _raised_by_kedro(error):
        return _one_line(error)
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _raised_by_kedro(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return bool(trace and trace.tb_frame.f_globals.get("__name__", "").startswith("kedro."))


def _run(show_traceback: bool, **options: Any) -> Any:
    # both spellings are documented here, the shorter one is not wrong
    warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")
    try:
        return cast(Callable[..., Any], kedro_run.callback)(**options)
    except Exception as error:
        message = None if show_traceback else explain(error)
        if message is None:
            raise
        click.secho(f"Error: {message}", err=True, fg="red")
        sys.exit(1)


cli.add_command(
    click.Command(
        name="run",
        callback=_run,
        help=kedro_run.help,
        params=[
            *kedro_run.params,
            click.Option(
                ["--traceback", "show_traceback"],
                is_flag=True,
                help="Show the whole stack trace of an error.",
            ),
        ],
    )
)
