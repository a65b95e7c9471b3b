"""Connections to SQLite files and PostgreSQL servers, with the same promises on both.

Committed means on disk: SQLite runs with `synchronous=FULL` unless asked otherwise, PostgreSQL with
its own default. Nobody waits for ever: not for a lock, and not for a server that fell silent.
"""

import math
import sqlite3
import time
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from wine_quality.database.addresses import name_of
from wine_quality.database.errors import DatabaseError

Synchronous = Literal["FULL", "NORMAL"]
WRITING = "wine_quality_writing"
"""Execution option of a connection whose transactions write."""
POSTGRES_LOCK_S = 10.0
"""Seconds that a statement waits for a lock in PostgreSQL."""
# A server that vanished without a word is given up after ten seconds; by default the system tries
# for a quarter of an hour.
_POSTGRES_CONNECTION = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
# A connection that was in use a moment ago is not asked whether it still lives: that would be a
# third of what a commit costs.
_TRUSTED_S = 1.0


def is_sqlite(url: URL) -> bool:
    """Tell a SQLite file from a server."""
    return url.get_backend_name() == "sqlite"


def connect_arguments(url: URL, busy_timeout_s: float = 30.0) -> dict[str, Any]:
    """What the driver is told at every connection, so that nobody waits for ever.

    Args:
        url: Address of the database.
        busy_timeout_s: SQLite only: seconds to wait for another process that is writing.
    """
    if is_sqlite(url):
        return {"timeout": busy_timeout_s}
    return {name: v for name, v in _POSTGRES_CONNECTION.items() if name not in url.query}


def sqlite_engine(url: URL, synchronous: Synchronous, busy_timeout_s: float) -> Engine:
    """Connect to a SQLite file when it is first used.

    Args:
        url: Its address.
        synchronous: How far a commit reaches.
        busy_timeout_s: Seconds to wait for another process that is writing.
    """
    engine = sa.create_engine(
        url, hide_parameters=True, connect_args=connect_arguments(url, busy_timeout_s)
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # The driver must not begin transactions by itself: ours begin below.
        connection.isolation_level = None
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and then writes fails at once if another process has
        # written meanwhile; one that takes the lock at its start waits for it instead.
        writing = connection.get_execution_options().get(WRITING, False)
        sqlite_connection(connection).execute("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def postgres_engine(what: str, url: URL, poolclass: type[Pool] | None = None) -> Engine:
    """Connect to a PostgreSQL server when it is first used.

    Args:
        what: What the database is, as `inference log`.
        url: Its address.
        poolclass: SQLAlchemy's default if not given.

    Raises:
        DatabaseError: If the driver is missing.
    """
    try:
        engine = sa.create_engine(
            url, hide_parameters=True, connect_args=connect_arguments(url), poolclass=poolclass
        )
    except ImportError as error:
        raise DatabaseError(
            f"The {what} {name_of(url)} needs a PostgreSQL driver ({error}): "
            "pip install 'wine-quality[postgres]'."
        ) from error
    driver: Any = engine.dialect.dbapi

    @event.listens_for(engine, "connect")
    def limit(connection: Any, _: Any) -> None:
        connection.execute(f"SET lock_timeout = {POSTGRES_LOCK_S * 1000:.0f}")
        connection.commit()

    @event.listens_for(engine, "checkin")
    def note(_: Any, record: ConnectionPoolEntry) -> None:
        record.info["used"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ask(connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
        if time.monotonic() - record.info.get("used", math.inf) > _TRUSTED_S:
            try:
                engine.dialect.do_ping(connection)
            except driver.Error as error:
                # the pool opens another one, and asks the others before it lends them
                raise exc.InvalidatePoolError from error

    return engine


def sqlite_connection(connection: Connection) -> sqlite3.Connection:
    """Give the driver's own connection to a SQLite database, past SQLAlchemy.

    A statement costs a fifth there of what it costs through SQLAlchemy.
    """
    driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    return driver
