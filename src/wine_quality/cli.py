"""Project commands: `kedro run` with errors that a person can read."""

import getpass
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime
from functools import partial
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

import click
from kedro.framework.cli.project import run as kedro_run

from wine_quality.errors import WineQualityError, raised_from
from wine_quality.modelling.tracking import (
    describe_database_trouble,
    explain_mlflow,
    tracking_setting,
)
from wine_quality.running.config_loader import read_configuration
from wine_quality.running.logs import NODE_FAILURES, configure_logging
from wine_quality.system.project import project_folder
from wine_quality.system.storage import address_of, describe_trouble, is_address, is_from_store

if TYPE_CHECKING:
    from kedro.config import AbstractConfigLoader
    from pydantic import ValidationError
    from sqlalchemy.exc import SQLAlchemyError

    from wine_quality.drift.incident_store import IncidentStore
    from wine_quality.drift.incidents import Action
    from wine_quality.modelling.registry import ModelRegistry


Kinds = type[BaseException] | tuple[type[BaseException], ...]


@click.group(name="wine_quality")
def cli() -> None:
    """Commands of the wine-quality project."""


def explain(error: BaseException) -> str | None:
    """Say in one line what a person did wrong, or return None where the fault is the program's.

    An exception that was raised while another was handled is told by the one that a person can
    act on: ours first, then stores, files and databases, then Kedro's own about configuration.
    """
    from kedro.config import BadConfigException, MissingConfigException
    from kedro.io import DatasetError
    from kedro.validation import ParameterValidationError
    from mlflow.exceptions import MlflowException
    from omegaconf.errors import OmegaConfBaseException
    from pydantic import ValidationError
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError
    from yaml import YAMLError

    chain = list(raised_from(error))
    in_words: tuple[tuple[Kinds, Callable[[Any], str | None]], ...] = (
        (WineQualityError, str),
        (Exception, partial(_about_store, chain)),
        (SQLAlchemyError, _about_tracking),
        ((MlflowException, RequestException), _about_mlflow),
        (OSError, _about_file),
        (KeyError, _about_variable),
        (ParameterValidationError, str),
        (MissingConfigException, str),
        (BadConfigException, str),
        (OmegaConfBaseException, str),
        (YAMLError, str),
        (ValidationError, _about_settings),
        (MlflowException, str),
        (DatasetError, str),
    )
    for kind, tell in in_words:
        for link in chain:
            message = tell(link) if isinstance(link, kind) else None
            if message:
                return _one_line(message)
    unknown = _about_name(error)
    return unknown and _one_line(unknown)


def _about_store(chain: list[BaseException], error: Exception) -> str | None:
    if not is_from_store(error):
        return None
    return describe_trouble(error, next(filter(None, map(_place_of, chain)), None))


def _place_of(error: BaseException) -> str | None:
    """Find where the dataset lies that was read or written when an error was raised."""
    from kedro.io import AbstractDataset

    frames = (frame for frame, _ in walk_tb(error.__traceback__))
    found = [frame.f_locals.get("self") for frame in frames]
    datasets: list[Any] = [dataset for dataset in found if isinstance(dataset, AbstractDataset)]
    if not datasets:
        return None
    files, path = (getattr(datasets[-1], name, None) for name in ("_fs", "_filepath"))
    if files and path:
        return address_of(files, str(path))
    return next(filter(is_address, map(str, datasets[-1]._describe().values())), None)


def _about_tracking(error: "SQLAlchemyError") -> str:
    # the inference log explains its own troubles, so this is MLflow's database
    import mlflow

    return describe_database_trouble(mlflow.get_tracking_uri(), error)


def _about_mlflow(error: Exception) -> str | None:
    import mlflow

    address = mlflow.get_tracking_uri()
    return explain_mlflow(address, error, tracking_setting(address))


def _about_file(error: OSError) -> str | None:
    if not error.filename:
        return None
    return (
        f"{error.filename}: {error.strerror}. See that every folder of this path is one, and that "
        "you may read and write there."
    )


def _about_variable(error: KeyError) -> str | None:
    message = str(error.args[0]) if error.args else ""
    asks = message.startswith("Environment variable ")
    return f"{message}: set it, or choose another environment." if asks else None


def _about_settings(error: "ValidationError") -> str:
    problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    return f"Wrong settings of {error.title}: {'; '.join(problems)}."


def _about_name(error: BaseException) -> str | None:
    """Tell of a name that Kedro does not know, which it says by a bare exception."""
    if not isinstance(error, ValueError | AttributeError) or not _raised_by_kedro(error):
        return None
    if isinstance(error.__cause__, KeyError) and "the pipeline named" in str(error):
        from kedro.framework.project import pipelines

        return f"There is no pipeline {error.__cause__}: choose {', '.join(pipelines.keys())}."
    return str(error)


def _one_line(message: str) -> str:
    return " ".join(message.split())


def _raised_by_kedro(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return bool(trace and trace.tb_frame.f_globals.get("__name__", "").startswith("kedro."))


def _split_at_commas(text: str) -> list[str]:
    """Split text at the commas that stand in no bracket and in no quotes."""
    items, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'" and items[-1].rstrip()[-1:] in ("=", "[", "{", ",", ":"):
            quote = letter
        else:
            depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth <= 0 and not quote:
            items.append("")
        else:
            items[-1] += letter
    return items


def _parse_params(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """Read `--params` as Kedro does, which would split a list at its commas, too."""
    from kedro.framework.cli.utils import _split_params
    from omegaconf import OmegaConf
    from yaml import YAMLError

    if not isinstance(value, str):
        return value
    given = OmegaConf.create()
    for item in filter(str.strip, _split_at_commas(value)):
        name, _, text = item.strip().partition("=")
        # where the name is missing or the item holds no value, Kedro says so
        _split_params(context, option, f"{name}=" if "=" in item else name)
        try:
            given.merge_with_dotlist([f"{name.strip()}={text}"])
        except YAMLError as error:
            context.fail(f"--params: {name.strip()} cannot be read: {error}")
    return OmegaConf.to_container(given)


def _run_options() -> Iterator[click.Parameter]:
    """Give the options of `kedro run`, with our reading of `--params`."""
    for option in map(copy, kedro_run.params):
        if option.name == "params":
            option.callback = _parse_params
        yield option


def _run(show_traceback: bool, **options: Any) -> Any:
    # both spellings are documented here, the shorter one is not wrong
    warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")
    if not show_traceback:
        # the one line at the end says the same
        logging.getLogger("kedro.pipeline.node").addFilter(NODE_FAILURES)
    try:
        if options["conf_source"]:
            configure_logging(options["conf_source"])
        return cast(Callable[..., Any], kedro_run.callback)(**options)
    except Exception as error:
        message = None if show_traceback else explain(error)
        if message is None:
            raise
        _end_with(message)


def _end_with(message: str) -> None:
    click.secho(f"Error: {message}", err=True, fg="red")
    sys.exit(1)


# Kedro asks a packaged project for it by this name
run = click.Command(
    name="run",
    callback=_run,
    help=kedro_run.help,
    params=[
        *_run_options(),
        click.Option(
            ["--traceback", "show_traceback"],
            is_flag=True,
            help="Show the whole stack trace of an error.",
        ),
    ],
)
cli.add_command(run)


@cli.group()
def champion() -> None:
    """Show or change which version of the model is champion."""


_environment = click.option("--env", "-e", default=None, help="Kedro's environment.")


@champion.command()
@_environment
def show(env: str | None) -> None:
    """Print champion, challenger and the champions before."""
    with _registry(env) as registry:
        for alias in ("champion", "challenger"):
            found = registry.version(alias)
            told = f"version {found.version}" if found else "none"
            for key in ("candidate", "held_out_rmse", "environment", "git_revision", "onnx"):
                if found and key in found.tags:
                    told += f", {key.replace('_', ' ')} {found.tags[key]}"
            click.echo(f"{alias} of {registry.name}: {told}")
        former = registry.former_champions()
        click.echo(f"champions before, the newest last: {', '.join(former) or 'none'}")


@champion.command()
@click.argument("version")
@_environment
def promote(version: str, env: str | None) -> None:
    """Make VERSION champion, whatever the comparison said.

    Refused is only a version whose ONNX model answers otherwise than it does.
    """
    with _registry(env) as registry:
        present = registry.version("champion")
        registry.promote(version, instead_of=present)
        before = f"; before it was version {present.version}" if present else ""
        click.echo(f"Champion of {registry.name} is version {version}{before}.")


@champion.command()
@_environment
def rollback(env: str | None) -> None:
    """Make the champion before this one champion again; repeated, the one before that."""
    with _registry(env) as registry:
        found = registry.roll_back()
        click.echo(f"Champion of {registry.name} is version {found.version} again.")


@cli.group()
def alerts() -> None:
    """Show incidents, acknowledge or mute them, try the channels of messages."""


@alerts.command(name="list")
@click.option("--all", "resolved_too", is_flag=True, help="With the incidents that are over.")
@_environment
def list_incidents(resolved_too: bool, env: str | None) -> None:
    """List the open incidents, the newest last."""
    now = datetime.now(UTC)
    with _incidents(env) as store:
        incidents = store.incidents()
        shown = [incident for incident in incidents if resolved_too or incident.is_open]
        for incident in shown:
            click.echo(incident.describe(now))
        if not shown:
            over = f"; {len(incidents)} are over, --all lists them" if incidents else ""
            click.echo(f"No incident is open{over}.")


_number = click.argument("number", type=int)


@alerts.command(name="show")
@_number
@_environment
def show_incident(number: int, env: str | None) -> None:
    """Show incident NUMBER: its alerts, what people did, what was sent."""
    now = datetime.now(UTC)
    with _incidents(env) as store:
        incident = store.incident(number)
        click.echo(incident.describe(now))
        for alert in incident.alerts:
            click.echo(f"  {alert.verdict.replace('_', ' ')}: {alert.describe()}")
        for handling in store.handlings(number):
            click.echo(f"  {handling.acted_at:%Y-%m-%d %H:%M} UTC {handling.describe()}")
        for sent in store.notifications(number):
            click.echo(f"  {sent.describe()}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # as in a container whose user has no name
        return "somebody"


_note = click.option("--note", default="", help="Why.")
_person = click.option("--by", "person", default=_user, help="Who does it; you.")


@alerts.command()
@_number
@click.option("--until", type=click.DateTime(), help="When reminders begin again, UTC; never.")
@_note
@_person
@_environment
def ack(number: int, until: datetime | None, note: str, person: str, env: str | None) -> None:
    """Acknowledge incident NUMBER: no more reminders, but word when it is over or worse."""
    _act(env, number, "acknowledged", until, note, person)


@alerts.command()
@_number
@click.option("--until", type=click.DateTime(), required=True, help="When that ends, UTC.")
@_note
@_person
@_environment
def mute(number: int, until: datetime, note: str, person: str, env: str | None) -> None:
    """Mute incident NUMBER: no message at all until a date; an `ack` ends that, too."""
    _act(env, number, "muted", until, note, person)


def _act(
    env: str | None, number: int, action: "Action", until: datetime | None, note: str, person: str
) -> None:
    now = datetime.now(UTC)
    end = until and until.replace(tzinfo=UTC)
    with _incidents(env) as store:
        click.echo(store.act(number, action, person, note, end, now).describe(now))


@alerts.command()
@_environment
def test(env: str | None) -> None:
    """Send a test message to each channel, and say what became of it."""
    from wine_quality.drift.notifying import try_channels
    from wine_quality.pipelines.parameters import check_parameters

    with _configuration(env, tracked=False) as configured:
        settings = check_parameters(configured["parameters"]).monitoring.alerts
        if not settings.channels:
            raise WineQualityError(
                "There is no channel: add one to monitoring.alerts.channels, see "
                "docs/how-to/alert-channels.md."
            )
        outcomes = try_channels(settings)
        for name, refusal in outcomes:
            click.echo(f"{name}: {'sent' if refusal is None else f'not sent ({refusal})'}")
        if any(refusal is not None for _, refusal in outcomes):
            sys.exit(1)


@cli.group()
def monitoring() -> None:
    """Accept a period of the logged traffic as what is normal, or take that back."""


_moment = partial(click.option, type=click.DateTime(), default=None)


@monitoring.command()
@_moment(
    "--from", "start", help="Where the period begins, as 2026-01-31, in monitoring.drift.time_zone."
)
@_moment("--to", "end", help="Where it ends, without this moment itself.")
@click.option("--version", default=None, help="Whose traffic; where only one has any, that one.")
@click.option("--withdraw", "number", type=int, default=None, help="Take a period back instead.")
@_note
@_person
@_environment
def accept(
    start: datetime | None,
    end: datetime | None,
    version: str | None,
    number: int | None,
    note: str,
    person: str,
    env: str | None,
) -> None:
    """Make the wines of a period the reference of their version, without training again.

    From the period's start on windows are compared with its wines; open alerts of what was accepted
    are resolved by the next run of monitoring.
    """
    from wine_quality.datasets.registry import References
    from wine_quality.drift.acceptance_store import AcceptanceStore
    from wine_quality.drift.accepted import Withdrawal
    from wine_quality.drift.accepting import Acceptance, Proposal
    from wine_quality.modelling.registry import ModelRegistry
    from wine_quality.pipelines.parameters import check_parameters

    if (start is None) != (end is None) or (number is None) == (start is None):
        raise click.UsageError("give either --from and --to, or --withdraw with a period's number")
    now = datetime.now(UTC)
    with _configuration(env) as configured:
        url = configured["credentials"]["monitoring"]["url"]
        if start is None or end is None:
            with AcceptanceStore(url) as store:
                period = store.withdraw(number or 0, Withdrawal(person, note, now))
        else:
            settings = check_parameters(configured["parameters"]).monitoring.drift
            versions = References(ModelRegistry(configured["globals"]["registered_model"]))
            zone = ZoneInfo(settings.time_zone)
            begins, ends = (moment.replace(tzinfo=zone).astimezone(UTC) for moment in (start, end))
            proposal = Proposal(begins, ends, version, person, note, now)
            period = Acceptance(url, versions, settings).accept(proposal)
        click.echo(f"{period.number}  {period.describe()}")
        click.echo("'kedro run --pipeline monitoring' judges by it.")


@monitoring.command()
@click.option("--all", "withdrawn_too", is_flag=True, help="With the periods that were withdrawn.")
@_environment
def accepted(withdrawn_too: bool, env: str | None) -> None:
    """List the accepted periods, the newest last."""
    from wine_quality.drift.acceptance_store import AcceptanceStore

    with (
        _configuration(env, tracked=False) as configured,
        AcceptanceStore(configured["credentials"]["monitoring"]["url"]) as store,
    ):
        periods = store.periods()
        shown = [period for period in periods if withdrawn_too or period.withdrawn is None]
        for period in shown:
            click.echo(f"{period.number}  {period.describe()}")
        if not shown:
            over = ", --all lists those that were withdrawn" if periods else ""
            click.echo(f"No period is accepted{over}.")


@contextmanager
def _incidents(env: str | None) -> "Iterator[IncidentStore]":
    """Give the incidents of an environment."""
    from wine_quality.drift.incident_store import IncidentStore

    with (
        _configuration(env, tracked=False) as configured,
        IncidentStore(configured["credentials"]["monitoring"]["url"]) as store,
    ):
        yield store


@contextmanager
def _registry(env: str | None) -> "Iterator[ModelRegistry]":
    """Give the registry of an environment."""
    from wine_quality.modelling.registry import ModelRegistry

    with _configuration(env) as configured:
        yield ModelRegistry(
            configured["globals"]["registered_model"],
            lock_database=configured["credentials"]["monitoring"]["url"],
        )


@contextmanager
def _configuration(env: str | None, *, tracked: bool = True) -> "Iterator[AbstractConfigLoader]":
    """Give an environment's settings; end in one line where a person can correct what fails.

    Args:
        env: The environment.
        tracked: Whether the command asks MLflow, whose database takes seconds to open.
    """
    from kedro.framework.project import settings
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    try:
        project = project_folder()
        bootstrap_project(project)
        if not tracked:
            yield read_configuration(project / settings.CONF_SOURCE, env)
            return
        session = KedroSession.create(project, env=env)
        with session:
            # kedro-mlflow sets the tracking server when the context is made
            yield session.load_context().config_loader
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        _end_with(message)
