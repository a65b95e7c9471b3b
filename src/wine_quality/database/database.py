"""One database with the tables of one schema: found or made, checked, and used in transactions."""

import logging
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection

from wine_quality.database.addresses import name_of, store_url
from wine_quality.database.engines import (
    WRITING,
    Synchronous,
    is_sqlite,
    postgres_engine,
    sqlite_connection,
    sqlite_engine,
)
from wine_quality.database.errors import DatabaseError, DatabaseUnavailableError
from wine_quality.database.explaining import explain, explained
from wine_quality.database.locks import Confirm, exclusive, lock_transaction
from wine_quality.database.schema import Schema

logger = logging.getLogger(__name__)

_LOCK_POLL_S = 0.01


class Database:
    """One database, opened when it is first used. May be shared by threads.

    Attributes:
        where: Its address in words, without a password.
    """

    def __init__(
        self,
        address: str,
        schema: Schema,
        *,
        synchronous: Synchronous = "FULL",
        busy_timeout_s: float = 30.0,
    ) -> None:
        """Name the database; nothing is opened or created yet.

        Args:
            address: URL of a SQLite file or a PostgreSQL database.
            schema: Its tables.
            synchronous: SQLite only: how far a commit reaches.
            busy_timeout_s: SQLite only: seconds to wait for another process that is writing.

        Raises:
            DatabaseError: If the address cannot be understood or its driver is missing.
            WineQualityError: If it names an object store, which is no place for a database.
        """
        self._schema = schema
        self._what = schema.what
        self._url = store_url(address, schema.what)
        self.where = name_of(self._url)
        self._is_sqlite = is_sqlite(self._url)
        self._file = Path(self._url.database or "")
        self._wal_file = Path(f"{self._file}-wal")
        self._busy_timeout_s = busy_timeout_s
        self._engine = (
            sqlite_engine(self._url, synchronous, busy_timeout_s)
            if self._is_sqlite
            else postgres_engine(schema.what, self._url)
        )
        # SQLite has one writer: waiting here is cheaper and fairer than polling the file's lock,
        # and one connection that stays is cheaper than asking the pool for one at every commit.
        self._writer = threading.Lock()
        self._writing: Connection | None = None
        self._opening = threading.Lock()
        self._opened_as: Hashable | None = None
        self._wal: Hashable | None = None

    def __enter__(self) -> Self:
        """Use the database in a ``with`` statement, which closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self.close()

    def __repr__(self) -> str:
        """Name the database, without its password."""
        return f"{type(self).__name__}({self.where!r})"

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
            Whether the tables are there. Without ``create`` nothing is made.

        Raises:
            DatabaseError: If the place cannot be used, or holds something else or something newer.
        """
        if self._is_open():
            return True
        with self._opening:
            if self._is_open():
                return True
            self._check_replaced()
            self.close()
            self._opened_as = None
            if self._is_sqlite:
                self._check_place(create=create)
            found = self._find_schema()
            if not found and create:
                self._make_schema()
                # on a connection of the pool, which keeps it
                self._find_schema()
            if found or create:
                self._opened_as = self._identity()
                # there for as long as a connection is open, and the pool keeps one
                self._wal = self._wal_identity()
                if self._opened_as is None:
                    raise DatabaseUnavailableError(
                        f"The {self._what} {self.where} was deleted while it was made: try again."
                    )
            return found or create

    def migrate(self) -> str:
        """Bring the tables to the newest version in one transaction, or make them.

        Returns:
            What was done, in words.

        Raises:
            DatabaseError: If the database cannot be used.
        """
        if self._is_sqlite:
            self._check_place(create=True)
        before = self._make_schema(by_command=True)
        if before == self._schema.version:
            return f"The {self._what} {self.where} has schema {before} already."
        now = self._schema.version
        return f"The {self._what} {self.where}: schema {before or 'none'} -> {now}."

    def exclusive(self, purpose: str, doing: str) -> AbstractContextManager[Confirm]:
        """Keep all others who use this database from a purpose; see `locks.exclusive`."""
        return exclusive(self._url.render_as_string(hide_password=False), purpose, doing)

    def insert(self, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
        """Begin an insert that may say what happens to a row that is there already."""
        return (sqlite.insert if self._is_sqlite else postgresql.insert)(table)

    def transaction(
        self, *, writing: bool, alone: bool = False
    ) -> AbstractContextManager[Connection]:
        """Begin a transaction, which is committed at the end of the block, or undone by an error.

        Args:
            writing: Whether it writes; with SQLite it then waits its turn.
            alone: Whether all others that ask to be alone wait until it ends: what it reads stays
                true meanwhile. With SQLite any that writes is alone.

        Returns:
            Gives the connection it runs on.

        Raises:
            DatabaseError: If the database cannot be used.
            RefusedBatchError: If it does not take a value.
            sqlalchemy.exc.IntegrityError: If a row contradicts the schema.
        """
        return self._begin(writing=writing, alone=alone)

    @contextmanager
    def _begin(self, *, writing: bool, alone: bool = False) -> Iterator[Connection]:
        try:
            with (
                explained(self._what, self._engine),
                self._connection(writing) as connection,
                connection.begin(),
            ):
                if alone and not self._is_sqlite:
                    lock_transaction(connection, self._schema.version_table)
                yield connection
        except DatabaseError:
            if not self._is_sqlite:
                # the server may come back with another database
                self._opened_as = None
            raise

    @contextmanager
    def _connection(self, writing: bool) -> Iterator[Connection]:
        if not (writing and self._is_sqlite):
            with self._engine.connect() as connection:
                yield connection
            return
        with self._writer:
            if self._writing is None:
                self._writing = self._engine.connect().execution_options(**{WRITING: True})
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

    def _identity(self) -> Hashable | None:
        """What tells this database from another one at the same place; None if there is none."""
        if not self._is_sqlite:
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

        SQLite would play that WAL on it. A file that was deleted is made again.
        """
        if not self._is_sqlite or self._opened_as is None:
            return
        if self._identity() and self._wal and self._wal == self._wal_identity():
            raise DatabaseError(
                f"The {self._what} {self.where} was replaced while it was in use: stop what "
                f"writes to it, delete {self._wal_file.name} and {self._file.name}-shm beside it, "
                "put the file there once more, and start again."
            )
        # What is written to the file that was there, nobody finds.
        logger.warning("The %s %s is not the file it was.", self._what, self.where)

    def _check_place(self, *, create: bool) -> None:
        found = _stat(self._file)
        if found and stat.S_ISDIR(found.st_mode):
            raise DatabaseError(
                f"The {self._what} {self.where} names a folder: add a file name to the URL."
            )
        if not create:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(
                f"The folder of the {self._what} {self.where} cannot be made "
                f"({error.strerror}): name another place in the URL."
            ) from error

    # the schema

    def _find_schema(self) -> bool:
        """Whether the tables are there, and are those of the newest version."""
        if self._identity() is None:
            # Connecting would create the file.
            return False
        with self._begin(writing=False) as connection:
            found, version = self._look(connection)
            if not found:
                return False
            if version == self._schema.version:
                self._check_columns(connection)
                return True
            self._check_version(found, version)
            return False

    def _make_schema(self, *, by_command: bool = False) -> str | None:
        """Create or migrate what is there to the newest version; gives the version before."""
        if self._is_sqlite:
            self._enter_wal_mode()
        with self._altering() as connection:
            # Another process may have been faster.
            found, version = self._look(connection)
            if not found:
                self._schema.create(connection)
            elif version != self._schema.version:
                self._check_version(found, version, by_command=by_command)
                self._schema.upgrade(connection, version)
            self._check_columns(connection)
        return version

    @contextmanager
    def _altering(self) -> Iterator[Connection]:
        """Begin a transaction that may change tables, while nobody else does."""
        if not self._is_sqlite:
            with self._begin(writing=True) as connection:
                lock_transaction(connection, f"{self._schema.version_table} schema")
                yield connection
            return
        self.close()
        with explained(self._what, self._engine), self._engine.connect() as free:
            # SQLite changes many things by making a table a second time, which must not take along
            # the rows that refer to it. The setting cannot be changed in a transaction.
            sqlite_connection(free).execute("PRAGMA foreign_keys = OFF")
            writing = free.execution_options(**{WRITING: True})
            try:
                with writing.begin():
                    yield writing
                    self._check_references(writing)
            finally:
                writing.invalidate()

    def _look(self, connection: Connection) -> tuple[set[str], str | None]:
        """Find the schema's tables and their version; a text that is no version for several."""
        versions = self._schema.versions
        found = set(sa.inspect(connection).get_table_names())
        version = None
        if versions.name in found:
            numbers = connection.scalars(sa.select(versions.c.version_num)).all()
            version = " ".join(numbers) or None
        ours = {versions.name, *self._schema.tables.tables, *self._schema.first_tables}
        return found & ours, version

    def _check_version(
        self, found: set[str], version: str | None, *, by_command: bool = False
    ) -> None:
        """Refuse tables that cannot be migrated, or not now."""
        schema = self._schema
        if version is None and schema.first_tables:
            return
        if version is not None and version.isdecimal():
            if version > schema.version:
                raise DatabaseError(
                    f"The {self._what} {self.where} was written by a newer wine-quality (schema "
                    f"{version}, this one knows {schema.version}): upgrade wine-quality."
                )
            if schema.command and not by_command:
                raise DatabaseError(
                    f"The {self._what} {self.where} was written by an older wine-quality (schema "
                    f"{version}, this one needs {schema.version}): stop what writes to it, then "
                    f"'{schema.command} {self.where}'."
                )
            return
        raise DatabaseError(
            f"The database {self.where} holds tables of another make "
            f"({', '.join(sorted(found))}): name another file or database in the URL."
        )

    def _check_columns(self, connection: Connection) -> None:
        """Refuse tables that were made with other columns, or that somebody changed."""
        inspector = sa.inspect(connection)
        missing = self._schema.tables.tables.keys() - set(inspector.get_table_names())
        if missing:
            raise DatabaseError(
                f"The {self._what} {self.where} lacks the table(s) {', '.join(sorted(missing))}: "
                "put a backup in its place, or name another file or database in the URL."
            )
        for table in self._schema.tables.tables.values():
            there = {column["name"] for column in inspector.get_columns(table.name)}
            if others := there ^ {*table.columns.keys()}:
                raise DatabaseError(
                    f"The {self._what} {self.where} was made with other columns "
                    f"({', '.join(sorted(others))} in {table.name}): name another file or database "
                    "in the URL; columns are added by a migration alone."
                )

    def _check_references(self, connection: Connection) -> None:
        for name in self._schema.tables.tables:
            if connection.exec_driver_sql(f'PRAGMA foreign_key_check("{name}")').first():
                raise DatabaseError(
                    f"The {self._what} {self.where} has rows in {name} that refer to none: nothing "
                    "was changed; put a backup in its place."
                )

    def _enter_wal_mode(self) -> None:
        """Put the file into WAL mode, which stays with it.

        SQLite does not wait for other writers here as it does elsewhere, so we do.
        """
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            with explained(self._what, self._engine), self._engine.connect() as connection:
                try:
                    # On the driver's connection: ours would begin a transaction, which forbids it.
                    connection.connection.cursor().execute("PRAGMA journal_mode = WAL")
                except sqlite3.Error as error:
                    locked = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                    if not locked or time.monotonic() > deadline:
                        raise explain(self._what, self._url, error) from error
                else:
                    return
            time.sleep(_LOCK_POLL_S)

    # backup

    def back_up(self, target: Path) -> str:
        """Copy a SQLite database, with whatever tables, to a file while others write to it.

        The copy is of one moment, holds what was committed until then, in the WAL too, and appears
        at its place whole.

        Args:
            target: The file, which must not be there yet.

        Returns:
            What was done, in words.

        Raises:
            DatabaseError: The database is not there, or in PostgreSQL, which has means of its own.
            WineQualityError: The file is there, or cannot be written.
        """
        if not self._is_sqlite:
            url = self._url
            address = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
            raise DatabaseError(
                f"The {self._what} {self.where} is in PostgreSQL, whose own tool makes backups: "
                f"pg_dump --format=custom --file={target} "
                f"{address.render_as_string()}"
            )
        if self._identity() is None:
            raise DatabaseError(
                f"The {self._what} {self.where} is not there, so there is nothing to back up: "
                "correct its URL."
            )
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            if target.exists():
                raise FileExistsError(17, "it is there already", str(target))
            target.parent.mkdir(parents=True, exist_ok=True)
            self._copy(partial)
            partial.rename(target)
        except OSError as error:
            raise DatabaseError(
                f"The backup {target} cannot be written ({error.strerror}): name a new file in a "
                "folder where you may write."
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        return f"The {self._what} {self.where} is copied to {target}."

    def _copy(self, target: Path) -> None:
        with (
            explained(self._what, self._engine),
            closing(sqlite3.connect(target)) as copy,
            self._engine.connect() as connection,
        ):
            try:
                # all pages in one step: a copy in parts begins again whenever somebody writes
                sqlite_connection(connection).backup(copy)
                # one file, which needs no other beside it
                copy.execute("PRAGMA journal_mode = DELETE")
                (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
                if found != "ok":
                    raise sqlite3.DatabaseError(found)
            except sqlite3.Error as error:
                raise DatabaseError(
                    f"The backup of the {self._what} {self.where} failed ({error}): see that there "
                    f"is space at {target.parent}, and that the {self._what} is not damaged."
                ) from error
        with target.open("rb") as file:
            os.fsync(file.fileno())


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None
