"""Addresses of databases, as people write them."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

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
