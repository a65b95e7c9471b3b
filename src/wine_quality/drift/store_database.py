"""The database that monitoring writes to: SQLite or PostgreSQL, the inference log's own or another.

Every transaction holds the lock that a writer needs from its beginning, so that of two runs at once
one waits for the other: neither fails, and neither decides by what the other is about to change.
"""

import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from wine_quality.database.addresses import parse_database_url
from wine_quality.errors import WineQualityError

BUSY_TIMEOUT_S = 30.0
PATIENCE_S = 120.0
"""Seconds to wait for another process that holds a lock for longer than a transaction."""
LOOK_EVERY_S = 0.1
# Any constant does, as long as every process that writes takes the same lock.
_POSTGRES_LOCK = 0x50_52_4F_46


class StoreDatabase:
    """Some tables of a database; they are made on first use.

    Attributes:
        tables: Those of the subclass.
    """

    tables: sa.MetaData

    def __init__(self, url: str) -> None:
        """Name the database.

        Args:
            url: As the inference log takes it.

        Raises:
            WineQualityError: If it is neither SQLite nor PostgreSQL.
        """
        try:
            where = parse_database_url(url)
        except (sa.exc.ArgumentError, ValueError) as error:
            raise WineQualityError(
                "The address of the monitoring's database is none: use a URL that begins with "
                "sqlite:/// or postgresql://."
            ) from error
        if where.get_backend_name() not in {"sqlite", "postgresql"}:
            raise WineQualityError(
                f"What monitoring finds cannot be kept in {where.drivername}: use a URL that "
                "begins with sqlite:/// or postgresql://."
            )
        self._is_sqlite = where.get_backend_name() == "sqlite"
        self._file = Path(where.database or "")
        self._engine = _sqlite_engine(where) if self._is_sqlite else sa.create_engine(where)
        self._ready = False

    def __enter__(self) -> Self:
        """Use the store in a ``with`` statement, which closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()

    def __repr__(self) -> str:
        """Name the database, without a password."""
        where = self._engine.url.render_as_string(hide_password=True)
        return f"{type(self).__name__}({where!r})"

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self._engine.dispose()

    def insert(self, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
        """Begin an insert that may say what happens to a row that is there already."""
        return (sqlite.insert if self._is_sqlite else postgresql.insert)(table)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction; whatever is read in it stays true until it ends.

        Raises:
            WineQualityError: If the database cannot be used.
        """
        with self._explained():
            if not self._ready:
                self._make_tables()
            with self._locked() as connection:
                yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.SQLAlchemyError as error:
            where = self._engine.url.render_as_string(hide_password=True)
            raise WineQualityError(
                f"The monitoring's database {where} cannot be used "
                f"({getattr(error, 'orig', None) or error}): see that it is there, may be written "
                "and is not kept busy, then run again; nothing is lost."
            ) from error

    @contextmanager
    def alone(self, purpose: str) -> Iterator[None]:
        """Keep every other process that uses this database from the same purpose meanwhile.

        It holds no transaction, so that whatever takes long keeps nobody from writing. The lock is
        a file beside SQLite's, or PostgreSQL's own; it ends with the process, however that ends.

        Raises:
            WineQualityError: Another process keeps the lock for `PATIENCE_S` seconds, or the
                database cannot be used.
        """
        with self._file_lock(purpose) if self._is_sqlite else self._session_lock(purpose):
            yield

    @contextmanager
    def _file_lock(self, purpose: str) -> Iterator[None]:
        from filelock import FileLock, Timeout

        self._file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{self._file}.{purpose}-lock", timeout=PATIENCE_S)
        try:
            lock.acquire()
        except Timeout as error:
            raise self._held(purpose) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _session_lock(self, purpose: str) -> Iterator[None]:
        key = zlib.crc32(purpose.encode()) >> 1  # an int4 has a sign
        deadline = time.monotonic() + PATIENCE_S
        with self._explained(), self._engine.connect() as connection:
            # no transaction stays open while the lock is held
            free = connection.execution_options(isolation_level="AUTOCOMMIT")
            while not free.scalar(sa.select(sa.func.pg_try_advisory_lock(_POSTGRES_LOCK, key))):
                if time.monotonic() > deadline:
                    raise self._held(purpose)
                time.sleep(LOOK_EVERY_S)
            try:
                yield
            finally:
                free.execute(sa.select(sa.func.pg_advisory_unlock(_POSTGRES_LOCK, key)))

    def _held(self, purpose: str) -> WineQualityError:
        return WineQualityError(
            f"Another monitoring run has been busy with the {purpose} for {PATIENCE_S:.0f} seconds "
            f"({self!r}): see that it still runs, then run again."
        )

    def _make_tables(self) -> None:
        if self._is_sqlite:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._locked() as connection:
            self.tables.create_all(connection)
        self._ready = True

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        """Begin a transaction with the writers' lock; SQLite takes it by the way ours begin."""
        with self._engine.begin() as connection:
            if not self._is_sqlite:
                lock = sa.func.pg_advisory_xact_lock(_POSTGRES_LOCK)
                connection.execute(sa.select(lock))
            yield connection


def _sqlite_engine(where: sa.URL) -> Engine:
    engine = sa.create_engine(where, connect_args={"timeout": BUSY_TIMEOUT_S})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # The driver must not begin transactions by itself: ours begin below.
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and then writes fails at once if another process has
        # written meanwhile; one that takes the lock at its start waits for it instead.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
