"""MLflow's tracking store, looked at before a run or a service uses it.

Whatever a person can put right is said in one line: a database that is damaged, read only or of
another MLflow, a server that is away or lets nobody in.
"""

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from wine_quality.database.addresses import sqlite_file, without_password
from wine_quality.errors import WineQualityError
from wine_quality.modelling.registry_lock import setup_lock
from wine_quality.modelling.tracking_folder import follow_folder
from wine_quality.modelling.tracking_server import check_server, describe_server_trouble, is_server

VARIABLE = "MLFLOW_TRACKING_URI"


@contextmanager
def tracking_store(address: str, named_by: str) -> Iterator[None]:
    """See that a tracking store can be used, for a block in which MLflow opens it first.

    A server has to answer. A SQLite database follows its folder, if that was moved or copied, and
    is made by one process at a time where it is missing.

    Args:
        address: MLflow's tracking address.
        named_by: The setting that names it, for messages.

    Raises:
        WineQualityError: The store cannot be used; the message names it and says what to do.
    """
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    _check_address(address, named_by)
    if is_server(address):
        check_server(address, named_by)
    database = sqlite_file(address)
    try:
        with setup_lock(address):
            if database is not None:
                follow_folder(database)
            yield
            if database is not None:
                # what the block has made is recorded
                follow_folder(database)
    # of its migrations, MLflow's database tells by Alembic's error
    except (SQLAlchemyError, CommandError, sqlite3.Error) as error:
        raise WineQualityError(describe_database_trouble(address, error)) from error
    except MlflowException as error:
        message = explain_mlflow(address, error, named_by)
        if message is None:
            raise
        raise WineQualityError(message) from error


def make_experiment(
    address: str,
    name: str,
    *,
    artifact_location: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Make an experiment where it is missing, though another process may do so at the same time.

    MLflow has no such call: one looks first, and of two that begin at once on a new server the
    second would fail.

    Args:
        address: MLflow's tracking address.
        name: Of the experiment.
        artifact_location: Where its artifacts go; where the server says, if not given.
        tags: What it says of itself.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(address)
    if client.get_experiment_by_name(name) is not None:
        return
    try:
        client.create_experiment(name, artifact_location, dict(tags or {}))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _check_address(address: str, named_by: str) -> None:
    """Refuse a folder, and a database whose driver is not installed."""
    from mlflow.environment_variables import MLFLOW_ALLOW_FILE_STORE
    from mlflow.store.db.db_types import DATABASE_ENGINES
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    scheme = urlsplit(address).scheme
    is_folder = scheme in ("", "file") and not address.startswith("databricks")
    if is_folder and not MLFLOW_ALLOW_FILE_STORE.get():
        raise WineQualityError(
            f"{address!r} is the address of no tracking server or database: write one like "
            f"https://mlflow.example.org or sqlite:////srv/mlflow.db in {named_by}."
        )
    if scheme.partition("+")[0] in DATABASE_ENGINES:
        try:
            make_url(address).get_dialect().import_dbapi()
        except (ImportError, SQLAlchemyError, ValueError) as error:
            raise WineQualityError(
                f"{_database(address)} cannot be used ({error}): correct {named_by}, or name a "
                "driver in it that is installed, as in postgresql+psycopg://host/database."
            ) from error


def check_tracking_file(address: str) -> None:
    """Refuse a SQLite file that may not be written; MLflow would try for minutes before it says so.

    Raises:
        WineQualityError: The file, or the folder that it would be made in, is read only.
    """
    file = sqlite_file(address)
    if file is None:
        return
    place = next(path for path in (file, *file.absolute().parents) if path.exists())
    if not os.access(place, os.W_OK):
        raise WineQualityError(
            describe_database_trouble(address, PermissionError(f"{place} may not be written"))
        )


def tracking_setting(address: str) -> str:
    """Name the setting that a run has the tracking address from."""
    is_variable = os.environ.get(VARIABLE) == address
    return VARIABLE if is_variable else "server.mlflow_tracking_uri in mlflow.yml"


def describe_database_trouble(address: str, error: Exception) -> str:
    """Say that MLflow's database cannot be used, which one it is, and what to do."""
    return (
        f"{_database(address)} cannot be used ({getattr(error, 'orig', None) or error}): repair it "
        "or move it away, or name another in mlflow.yml."
    )


def explain_mlflow(address: str, error: Exception, named_by: str) -> str | None:
    """Say in one line what is wrong with the store that MLflow complains of.

    Args:
        address: The store's address.
        error: What MLflow, or the HTTP client that it uses, raised.
        named_by: The setting that names the store.

    Returns:
        The line; None where the store is not to blame.
    """
    schema = re.search(r"out-of-date database schema \(found version (\w+), but", str(error))
    if schema:
        return _describe_schema(address, schema[1])
    if not is_server(address):
        return None
    return describe_server_trouble(address, error, named_by)


def _describe_schema(address: str, found: str) -> str:
    """Say that a database is of another MLflow than the one that is installed."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
    from mlflow import __file__ as package
    from mlflow import __version__ as version

    scripts = ScriptDirectory(str(Path(package).parent / "store/db_migrations"))
    ours = f"its schema is {found}, that of MLflow {version} here is {scripts.get_current_head()}"
    try:
        scripts.get_revision(found)
    except CommandError:
        return (
            f"{_database(address)} was written by a newer MLflow ({ours}): install that MLflow or "
            "a later one, or name another database in mlflow.yml."
        )
    return (
        f"{_database(address)} was written by an older MLflow ({ours}): back it up, then run "
        f"'mlflow db upgrade {without_password(address)}'."
    )


def _database(address: str) -> str:
    return f"The tracking database {without_password(address)}"
