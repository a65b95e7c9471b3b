"""The inference log's database: finding it, making it, and saying plainly when it is not there."""

import logging
import math
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry

from wine_quality.database.addresses import parse_database_url, refuse_database_in_store
from wine_quality.errors import RefusedBatchError, WineQualityError
from wine_quality.serving.log_schema import (
    GROUND_TRUTH,
    METADATA,
    PREDICTIONS,
    SCHEMA,
    SCHEMA_VERSION,
)

logger = logging.getLogger(__name__)

Synchronous = Literal["FULL", "NORMAL"]

# A server that vanished without a word is given up after ten seconds, and so is a lock: by default
# the system tries for a quarter of an hour, and PostgreSQL waits for ever.
_POSTGRES_CONNECTION = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
_POSTGRES_LOCK_MS = 10_000
# A connection that was in use a moment ago is not asked whether it still lives: that would be a
# third of what a commit costs.
_TRUSTED_S = 1.0
_LOCK_POLL_S = 0.01
_WRITING = "inference_log_writing"
# Any constant does, as long as every process that creates the schema takes the same lock.
_POSTGRES_SCHEMA_LOCK = 0x57_49_4E_45


class InferenceLogError(WineQualityError):
    """The inference log cannot be used as it is configured, or as it stands."""


class LogUnavailableError(InferenceLogError):
    """The database does not answer now; the same call may succeed later."""


class LogDatabase:
    """One database, opened when it is first used. May be shared by threads.

    Committed means on disk: SQLite runs in WAL mode with ``synchronous=FULL``, PostgreSQL with its
    own default.
    """

    def __init__(self, url: str, synchronous: Synchronous, busy_timeout_s: float) -> None:
        """Name the database; nothing is opened or created yet.

        Args:
            url: URL of a SQLite file or a PostgreSQL database.
            synchronous: SQLite only: how far a commit reaches.
            busy_timeout_s: SQLite only: seconds to wait for another process that is writing.

        Raises:
            InferenceLogError: If the URL cannot be understood or its driver is missing.
            WineQualityError: If it names an object store, which is no place for a database.
        """
        self._url = _parse_url(url)
        # Without the query, which may hold a password as well.
        self.where = self._url.set(query={}).render_as_string(hide_password=True)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._file = Path(self._url.database or "")
        self._wal_file = Path(f"{self._file}-wal")
        self._busy_timeout_s = busy_timeout_s
        self._engine = (
            self._sqlite_engine(synchronous) if self.is_sqlite else self._postgres_engine()
        )
        # SQLite has one writer: waiting here is cheaper and fairer than polling the file's lock,
        # and one connection that stays is cheaper than asking the pool for one at every commit.
        self._writer = threading.Lock()
        self._writing: Connection | None = None
        self._opening = threading.Lock()
        self._opened_as: Hashable | None = None
        self._wal: Hashable | None = None

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        with self._writer:
            self._end_writing()
        self._engine.dispose()

    def open(self, *, create: bool) -> bool:
        """Check the schema, once for every database found at the place.

        Args:
            create: Whether to create folders, file and tables that are not there.

        Returns:
            Whether the log's tables are there. Without ``create`` nothing is made.

        Raises:
            InferenceLogError: If the place cannot be used, or holds something else or something
                newer.
        """
        if self._is_open():
            return True
        with self._opening:
            if self._is_open():
                return True
            self._check_replaced()
            self.close()
            self._opened_as = None
            if self.is_sqlite:
                self._check_place(create=create)
            found = self._find_schema()
            if not found and create:
                self._create_schema()
            if found or create:
                self._opened_as = self._identity()
                # there for as long as a connection is open, and the pool keeps one
                self._wal = self._wal_identity()
                if self._opened_as is None:
                    raise LogUnavailableError(
                        f"The inference log {self.where} was deleted while it was made: try again."
                    )
            return found or create

    def prepare(self) -> None:
        """Make the place ready for a migration: folders, and SQLite's WAL mode. No tables.

        Raises:
            InferenceLogError: If the place cannot be used.
        """
        if self.is_sqlite:
            self._check_place(create=True)
            self._enter_wal_mode()

    @contextmanager
    def transaction(self, *, writing: bool) -> Iterator[Connection]:
        """Begin a transaction, which is committed at the end of the block, or undone by an error.

        Args:
            writing: Whether it writes; with SQLite it then waits its turn.

        Yields:
            The connection it runs on.

        Raises:
            InferenceLogError: If the database cannot be used.
            RefusedBatchError: If it does not take a value.
            sqlalchemy.exc.IntegrityError: If a row contradicts the schema.
        """
        try:
            with self._explained(), self._connection(writing) as connection, connection.begin():
                yield connection
        except InferenceLogError:
            if not self.is_sqlite:
                # the server may come back with another database
                self._opened_as = None
            raise

    @contextmanager
    def _connection(self, writing: bool) -> Iterator[Connection]:
        if not (writing and self.is_sqlite):
            with self._engine.connect() as connection:
                yield connection
            return
        with self._writer:
            if self._writing is None:
                self._writing = self._engine.connect().execution_options(**{_WRITING: True})
            try:
                yield self._writing
            except BaseException:
                # nobody knows what state an error leaves it in
                self._writing.invalidate()
                self._end_writing()
                raise

    def _end_writing(self) -> None:
        connection, self._writing = self._writing, None
        if connection is not None:
            connection.close()

    def _postgres_engine(self) -> Engine:
        limits = {
            name: value
            for name, value in _POSTGRES_CONNECTION.items()
            if name not in self._url.query
        }
        try:
            engine = sa.create_engine(self._url, hide_parameters=True, connect_args=limits)
        except ImportError as error:
            raise InferenceLogError(
                f"The inference log {self.where} needs a PostgreSQL driver ({error}): "
                "pip install 'wine-quality[postgres]'."
            ) from error

        driver: Any = engine.dialect.dbapi

        @event.listens_for(engine, "connect")
        def limit(connection: Any, _: Any) -> None:
            connection.execute(f"SET lock_timeout = {_POSTGRES_LOCK_MS}")
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

    def _sqlite_engine(self, synchronous: Synchronous) -> Engine:
        engine = sa.create_engine(
            self._url, hide_parameters=True, connect_args={"timeout": self._busy_timeout_s}
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
            writing = connection.get_execution_options().get(_WRITING, False)
            sqlite_connection(connection).execute("BEGIN IMMEDIATE" if writing else "BEGIN")

        return engine

    def _identity(self) -> Hashable | None:
        """What tells this database from another one at the same place; None if there is none."""
        if not self.is_sqlite:
            return self.where
        # an empty file is no database yet
        found = _stat(self._file)
        return (found.st_dev, found.st_ino) if found and found.st_size else None

    def _wal_identity(self) -> Hashable | None:
        found = _stat(self._wal_file)
        return (found.st_dev, found.st_ino) if found else None

    def _is_open(self) -> bool:
        return self._opened_as is not None and self._opened_as == self._identity()

    def _check_replaced(self) -> None:
        """Refuse a file that was put in the place of the one in use, beside whose WAL it lies.

        SQLite would play that WAL on it. A file that was deleted is made anew.
        """
        if not self.is_sqlite or self._opened_as is None:
            return
        if self._identity() and self._wal and self._wal == self._wal_identity():
            raise InferenceLogError(
                f"The inference log {self.where} was replaced while it was in use: stop what "
                f"writes to it, delete {self._wal_file.name} and {self._file.name}-shm beside it, "
                "put the file there once more, and start again."
            )
        # What is written to the file that was there, nobody finds.
        logger.warning("The inference log %s is not the file it was.", self.where)

    def _check_place(self, *, create: bool) -> None:
        found = _stat(self._file)
        if found and stat.S_ISDIR(found.st_mode):
            raise InferenceLogError(
                f"The inference log {self.where} names a folder: add a file name to the URL."
            )
        if not create:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InferenceLogError(
                f"The folder of the inference log {self.where} cannot be made "
                f"({error.strerror}): name another place in the URL."
            ) from error

    def _find_schema(self) -> bool:
        if self._identity() is None:
            # Connecting would create the file.
            return False
        with self.transaction(writing=False) as connection:
            return self._has_schema(connection)

    def _has_schema(self, connection: Connection) -> bool:
        present = set(sa.inspect(connection).get_table_names()) & set(METADATA.tables)
        if not present:
            return False
        versions: Sequence[str] = ()
        if SCHEMA.name in present:
            versions = connection.scalars(sa.select(SCHEMA.c.version_num)).all()
        if list(versions) == [SCHEMA_VERSION]:
            self._check_columns(connection)
            return True
        numbered = len(versions) == 1 and versions[0].isdecimal()
        if numbered and versions[0] < SCHEMA_VERSION:
            raise InferenceLogError(
                f"The inference log {self.where} was written by an older wine-quality (schema "
                f"{versions[0]}, this one needs {SCHEMA_VERSION}): stop what writes to it, then "
                "'python -m wine_quality.serving migrate'."
            )
        if numbered and versions[0] > SCHEMA_VERSION:
            raise InferenceLogError(
                f"The inference log {self.where} was written by a newer wine-quality (schema "
                f"{versions[0]}, this one knows {SCHEMA_VERSION}): upgrade wine-quality."
            )
        raise InferenceLogError(
            f"The database {self.where} holds tables of another make "
            f"({', '.join(sorted(present))}): name another file or database in the URL."
        )

    def _check_columns(self, connection: Connection) -> None:
        """Refuse a log that was made when `wines.py` named other columns."""
        for table in (PREDICTIONS, GROUND_TRUTH):
            there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
            if others := there ^ {*table.columns.keys()}:
                raise InferenceLogError(
                    f"The inference log {self.where} was made for wines of other columns "
                    f"({', '.join(sorted(others))}): name another file or database in the URL; a "
                    "log takes on other columns by a migration alone."
                )

    def _create_schema(self) -> None:
        if self.is_sqlite:
            self._enter_wal_mode()
        with self.transaction(writing=True) as connection:
            if not self.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_POSTGRES_SCHEMA_LOCK)))
            # Another process may have been faster.
            if not self._has_schema(connection):
                METADATA.create_all(connection)
                connection.execute(sa.insert(SCHEMA), {"version_num": SCHEMA_VERSION})

    def _enter_wal_mode(self) -> None:
        """Put the file into WAL mode, which stays with it.

        SQLite does not wait for other writers here as it does elsewhere, so we do.
        """
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            with self._explained(), self._engine.connect() as connection:
                try:
                    # On the driver's connection: ours would begin a transaction, which forbids it.
                    connection.connection.cursor().execute("PRAGMA journal_mode = WAL")
                except sqlite3.Error as error:
                    if "locked" not in str(error) or time.monotonic() > deadline:
                        raise self._trouble(error) from error
                else:
                    return
            time.sleep(_LOCK_POLL_S)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say in words what the driver says in codes, whether SQLAlchemy passes it on or not."""
        driver: Any = self._engine.dialect.dbapi
        try:
            yield
        except exc.IntegrityError:
            raise
        except driver.IntegrityError as error:
            raise exc.IntegrityError(None, None, error) from error
        except (exc.DBAPIError, driver.Error) as error:
            said = getattr(error, "orig", None) or error
            # SQLite's driver calls a value that it cannot bind a wrong use of the driver
            if isinstance(said, driver.DataError) or "binding parameter" in str(said):
                raise RefusedBatchError(
                    f"The inference log does not take a value of this batch ({_first_line(said)}): "
                    "see that texts are text, and numbers numbers."
                ) from error
            raise self._trouble(said) from error
        except exc.TimeoutError as error:
            raise LogUnavailableError(
                f"The inference log {self.where} has no connection left: try again."
            ) from error

    def _trouble(self, error: BaseException) -> InferenceLogError:
        said = _first_line(error)
        if self._url.password:
            said = said.replace(str(self._url.password), "***")
        if "not a database" in said or "malformed" in said:
            return InferenceLogError(
                f"The inference log {self.where} is damaged or no SQLite database ({said}): move "
                "the file away with those beside it that end in -wal and -shm, and put a backup in "
                "its place if there is one; the next write makes a new one."
            )
        return LogUnavailableError(
            f"The inference log {self.where} is not available ({said}): see that the database "
            "runs, that its address is right and that it may be written; then try again."
        )


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def sqlite_connection(connection: Connection) -> sqlite3.Connection:
    """Give the driver's own connection to a SQLite database, past SQLAlchemy.

    A statement costs a fifth there of what it costs through SQLAlchemy.
    """
    driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    return driver


def _parse_url(url: str) -> URL:
    refuse_database_in_store(url)
    try:
        parsed = parse_database_url(url)
    except (exc.ArgumentError, ValueError) as error:
        raise InferenceLogError(
            "The URL of the inference log cannot be understood: write it like "
            "sqlite:///data/inference_log.db or postgresql://user:password@host/database."
        ) from error
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise InferenceLogError(
            f"The inference log cannot be kept in {parsed.drivername}: use a URL that begins with "
            "sqlite:/// or postgresql://."
        )
    database = parsed.database or ""
    if parsed.get_backend_name() == "sqlite" and (
        database in {"", ":memory:"} or database.startswith("file:")
    ):
        raise InferenceLogError(
            "The URL of the inference log names no file of this machine: write it like "
            "sqlite:///data/inference_log.db."
        )
    return parsed
