"""Addresses of databases, as people write them."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wine_quality.database.errors import DatabaseError
from wine_quality.errors import WineQualityError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL


def parse_database_url(url: str) -> "URL":
    """Understand the address of a database; PostgreSQL is spoken to by psycopg.

    ``postgres://`` and ``postgresql://`` are both common, and the driver that SQLAlchemy takes for
    the second changed between its versions.

    Args:
        url: ``sqlite:///path``, ``postgresql://user:password@host/database``, or whatever else
            SQLAlchemy understands, which stays as it is.

    Raises:
        sqlalchemy.exc.ArgumentError: If it is no address.
        ValueError: If its port is no number.
    """
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    if parsed.drivername in {"postgres", "postgresql"}:
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def store_url(address: str, what: str) -> "URL":
    """Understand the address of a database that the project keeps tables in, or refuse it.

    Args:
        address: ``sqlite:///path`` or ``postgresql://user:password@host/database``.
        what: What the database is, as `inference log`.

    Raises:
        WineQualityError: It is no address, of another kind of database, or no file of this machine.
    """
    from sqlalchemy.exc import ArgumentError

    refuse_database_in_store(address)
    try:
        parsed = parse_database_url(address)
    except (ArgumentError, ValueError) as error:
        raise DatabaseError(
            f"The URL of the {what} cannot be understood: write it like "
            "sqlite:///data/inference_log.db or postgresql://user:password@host/database."
        ) from error
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise DatabaseError(
            f"The {what} cannot be kept in {parsed.drivername}: use a URL that begins with "
            "sqlite:/// or postgresql://."
        )
    database = parsed.database or ""
    if parsed.get_backend_name() == "sqlite" and (
        database in {"", ":memory:"} or database.startswith("file:")
    ):
        raise DatabaseError(
            f"The URL of the {what} names no file of this machine: write it like "
            "sqlite:///data/inference_log.db."
        )
    return parsed


def refuse_database_in_store(address: str) -> None:
    """Refuse a SQLite database in an object store: it is a file that has to be written in place.

    Raises:
        WineQualityError: It is one.
    """
    dialect, _, path = address.partition(":")
    if dialect.startswith("sqlite") and "://" in path:
        raise WineQualityError(
            f"{address} cannot be: SQLite needs a disk, and an object store is none. Name a file "
            "of this machine (sqlite:////var/lib/wines.db) or PostgreSQL (postgresql://…); only "
            "files go to a store."
        )


def name_of(url: "URL") -> str:
    """Name a database in a message: without the password, and the query, which may hold one too."""
    return url.set(query={}).render_as_string(hide_password=True)


def without_password(url: str) -> str:
    """Name a database in a message: its address without the password, if it is one at all."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return "with an address that is no URL"


def sqlite_file(address: str) -> Path | None:
    """Find the file of a SQLite database; None for any other, and for one in memory."""
    if not urlsplit(address).scheme.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    database = make_url(address).database
    return Path(database) if database and database != ":memory:" else None
