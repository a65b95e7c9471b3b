"""Locks between processes, each with an owner that loses it only by releasing it or by ending.

In SQLite the lock is a file beside the database, which the operating system frees when its process
ends, however it ends. In PostgreSQL it is an advisory lock of a session, which the server frees
when the connection ends; that a machine has vanished it notices within some ten seconds. Neither
has a time after which it counts as left behind: a slow owner keeps it.
"""

import os
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from wine_quality.database.addresses import name_of, store_url
from wine_quality.database.engines import is_sqlite, postgres_engine
from wine_quality.database.errors import DatabaseError, DatabaseUnavailableError
from wine_quality.database.explaining import explained

PATIENCE_S = 120.0
"""Seconds to wait for another process."""
_LOCK_NOT_AVAILABLE = "55P03"
# The first half of the keys of all our locks; any constant does.
_POSTGRES_LOCKS = 0x50_52_4F_46
# What would end the session of an owner that is slow, or keep that of one that has vanished. A
# server that is too old for one of them goes without it.
_SESSION = {
    "statement_timeout": "0",
    "idle_session_timeout": "0",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


class LockHeldError(DatabaseUnavailableError):
    """Another process keeps the lock."""


Confirm = Callable[[], None]
"""Raises `DatabaseUnavailableError` if the lock was lost, as with a server that was restarted."""


@contextmanager
def exclusive(
    address: str, purpose: str, doing: str, patience_s: float | None = None
) -> Iterator[Confirm]:
    """Keep every other process that uses this database from the same purpose meanwhile.

    It holds no transaction, so that whatever takes long keeps nobody from writing.

    Args:
        address: Of the database: a SQLite file, which need not exist yet, or PostgreSQL. It must be
            the same database for all who share the purpose.
        purpose: Names the lock: letters, digits and `-_.`.
        doing: What the owner does, as in `changing the champion`.
        patience_s: Seconds to wait for another process, `PATIENCE_S` if not given.

    Yields:
        What to call before a step that must not be taken without the lock.

    Raises:
        LockHeldError: Another process keeps the lock for so long.
        DatabaseUnavailableError: The database cannot be reached.
        DatabaseError: The database cannot be used.
    """
    url = store_url(address, "database of locks")
    wait = PATIENCE_S if patience_s is None else patience_s
    if is_sqlite(url):
        # every name of one file leads to one lock
        path = f"{Path(url.database or '').resolve()}.{purpose}-lock"
        with exclusive_file(Path(path), doing, wait) as confirm:
            yield confirm
    else:
        with _session_lock(url, purpose, doing, wait) as confirm:
            yield confirm


@contextmanager
def exclusive_file(path: Path, doing: str, patience_s: float) -> Iterator[Confirm]:
    """Keep every other process on this machine from the same file meanwhile.

    Args:
        path: The lock; its folder is made.
        doing: See `exclusive`.
        patience_s: See `exclusive`.

    Yields:
        See `exclusive`.

    Raises:
        LockHeldError: Another process keeps the lock for so long.
        DatabaseError: The lock cannot be taken.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=patience_s)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        owner = ""
        with suppress(OSError):
            owner = path.read_text(encoding="utf-8", errors="replace").strip()
        raise _held(doing, patience_s, str(path), owner) from error
    except OSError as error:
        raise DatabaseError(
            f"The lock {path} cannot be taken ({error.strerror or error}): give this user the "
            "right to write there."
        ) from error
    try:
        path.write_text(f"{_this_process()} since {datetime.now().astimezone():%F %T%z}\n")
        taken = path.stat().st_ino

        def confirm() -> None:
            if not path.exists() or path.stat().st_ino != taken:
                raise _lost(doing, str(path))

        yield confirm
    finally:
        lock.release()


@contextmanager
def _session_lock(url: URL, purpose: str, doing: str, patience_s: float) -> Iterator[Confirm]:
    key = _key(purpose)
    what, where = "database of locks", name_of(url)
    engine = postgres_engine(what, url, NullPool)
    ours = sa.select(sa.func.pg_advisory_lock(_POSTGRES_LOCKS, key))
    with explained(what, engine):
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    # the lock ends with the session: closing it is the one thing that cannot fail
    try:
        with explained(what, engine):
            _prepare(connection, patience_s)
            try:
                connection.execute(ours)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                    raise
                owner = _owner(connection, key)
                raise _held(doing, patience_s, where, owner) from error

        def confirm() -> None:
            try:
                connection.execute(sa.select(1))
            except DBAPIError as error:
                raise _lost(doing, where) from error

        yield confirm
    finally:
        with suppress(DBAPIError):
            connection.close()
        engine.dispose()


def lock_transaction(connection: Connection, purpose: str) -> None:
    """Wait until no other transaction in this PostgreSQL has a purpose, and keep others from it.

    Args:
        connection: To PostgreSQL, in a transaction.
        purpose: Names the lock.
    """
    patience = f"{PATIENCE_S * 1000:.0f}"
    connection.execute(sa.select(sa.func.set_config("lock_timeout", patience, True)))
    lock = sa.func.pg_advisory_xact_lock(_POSTGRES_LOCKS, _key(purpose))
    connection.execute(sa.select(lock))


def _key(purpose: str) -> int:
    return zlib.crc32(purpose.encode()) >> 1  # an int4 has a sign


def _prepare(connection: Connection, patience_s: float) -> None:
    wanted = {
        **_SESSION,
        "lock_timeout": f"{patience_s * 1000:.0f}",
        "application_name": f"wine-quality {_this_process()}"[:63],
    }
    known = sa.table("pg_settings", sa.column("name"))
    names = connection.scalars(sa.select(known.c.name).where(known.c.name.in_(wanted))).all()
    connection.execute(
        sa.select(*(sa.func.set_config(name, wanted[name], False) for name in names))
    )


def _owner(connection: Connection, key: int) -> str:
    query = sa.text(
        "SELECT application_name || ' (server process ' || pid || ') since ' || backend_start "
        "FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE locktype = 'advisory' AND granted AND classid = :locks AND objid = :key"
    )
    return connection.scalar(query, {"locks": _POSTGRES_LOCKS, "key": key}) or ""


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _held(doing: str, patience_s: float, where: str, owner: str) -> LockHeldError:
    by = f", {owner}" if owner else ""
    return LockHeldError(
        f"Another process has been {doing} for {patience_s:.0f} seconds ({where}{by}): see that it "
        "still runs, then try again."
    )


def _lost(doing: str, where: str) -> DatabaseUnavailableError:
    return DatabaseUnavailableError(
        f"The lock for {doing} was lost ({where}): see that its database runs, then try again."
    )
