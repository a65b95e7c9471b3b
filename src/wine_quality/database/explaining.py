"""What a driver raises, in words: what is wrong, what helps, and whether it may pass by itself."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exc
from sqlalchemy.engine import URL, Engine

from wine_quality.database.addresses import name_of
from wine_quality.database.errors import DatabaseError, DatabaseUnavailableError
from wine_quality.errors import RefusedBatchError


@dataclass(frozen=True)
class _Trouble:
    """A class of errors.

    Attributes:
        problem: What is wrong, after the name of the database.
        remedy: What to do.
        may_pass: Whether the same call may succeed later, without anybody's doing.
    """

    problem: str
    remedy: str
    may_pass: bool = False


_GONE = _Trouble(
    "is not available",
    "see that the database runs and that host and port in its address are right, then try again",
    may_pass=True,
)
_BUSY = _Trouble(
    "is kept busy by another process",
    "see what holds it for so long, then try again",
    may_pass=True,
)
_SLOW = _Trouble(
    "has not answered in time", "see what keeps it busy, then try again", may_pass=True
)
_CROWDED = _Trouble(
    "takes no further connection",
    "try again, or raise its limit (max_connections in PostgreSQL)",
    may_pass=True,
)
_FULL = _Trouble("has no space left", "free space on its disk, then try again", may_pass=True)
_INPUT_OUTPUT = _Trouble(
    "cannot be read or written",
    "see that its disk is well and connected, then try again",
    may_pass=True,
)
_READ_ONLY_FILE = _Trouble(
    "is read-only", "give this user the right to write the file and its folder"
)
_READ_ONLY_SERVER = _Trouble(
    "is read-only", "name a server that may be written, not a standby, in its address"
)
_CANNOT_OPEN = _Trouble(
    "cannot be opened", "see that its folder is there, and that this user may read and write in it"
)
_DAMAGED = _Trouble(
    "is damaged or no SQLite database",
    "move the file away with those beside it that end in -wal and -shm, and put a backup in its "
    "place if there is one; the next write makes a new one",
)
_CHANGED = _Trouble(
    "lacks a table or a column",
    "it was changed after wine-quality made it: put a backup in its place, or name another file or "
    "database in its address",
)
_LOGIN = _Trouble("refuses the login", "correct user and password in its address")
_NO_DATABASE = _Trouble(
    "is not there", "create the database on the server, or correct its name in the address"
)
_FORBIDDEN = _Trouble("forbids this user to do it", "grant the user of its address what is named")
_UNKNOWN = _Trouble(
    "refuses a statement",
    "see that it is of a version that wine-quality supports, and that nobody changed its tables",
)

_OF_SQLITE = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: _INPUT_OUTPUT,
    sqlite3.SQLITE_READONLY: _READ_ONLY_FILE,
    sqlite3.SQLITE_PERM: _READ_ONLY_FILE,
    sqlite3.SQLITE_CANTOPEN: _CANNOT_OPEN,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
}
_OF_POSTGRES = {
    # whole codes before their classes, PostgreSQL's appendix A
    "53100": _FULL,
    "53300": _CROWDED,
    "55P03": _BUSY,
    "57014": _SLOW,
    "25006": _READ_ONLY_SERVER,
    "3D000": _NO_DATABASE,
    "42501": _FORBIDDEN,
    "42P01": _CHANGED,
    "42703": _CHANGED,
    "3F000": _CHANGED,
    "08": _GONE,
    "28": _LOGIN,
    "40": _BUSY,
    "53": _CROWDED,
    "57": _GONE,
    "58": _INPUT_OUTPUT,
}
# SQLite has one code for all wrong statements, and of a connection that was refused libpq gives the
# server's words alone.
_BY_WORDS = (
    (re.compile(r"no such (table|column)|has no column named"), _CHANGED),
    (re.compile(r"authentication failed|no password supplied|no pg_hba.conf entry"), _LOGIN),
    (re.compile(r"role .* does not exist|is not permitted to log in"), _LOGIN),
    (re.compile(r"database .* does not exist"), _NO_DATABASE),
    (re.compile(r"permission denied for"), _FORBIDDEN),
    (re.compile(r"too many (clients|connections)|remaining connection slots"), _CROWDED),
)


@contextmanager
def explained(what: str, engine: Engine) -> Iterator[None]:
    """Say in words what the driver says in codes, whether SQLAlchemy passes it on or not.

    Args:
        what: What the database is, as `inference log`.
        engine: Its engine.

    Raises:
        DatabaseUnavailableError: For an error that may pass.
        DatabaseError: For any other.
        RefusedBatchError: For a value that the database does not take.
        sqlalchemy.exc.IntegrityError: As it was raised, by SQLAlchemy or the driver.
    """
    driver: Any = engine.dialect.dbapi
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
                f"The {what} does not take a value of this batch ({_first_line(said)}): "
                "see that texts are text, and numbers numbers."
            ) from error
        raise explain(what, engine.url, said) from error
    except exc.TimeoutError as error:
        raise DatabaseUnavailableError(
            f"The {what} {name_of(engine.url)} has no connection left: try again."
        ) from error


def may_pass(error: BaseException) -> bool:
    """Tell whether an error of a database, in words or as SQLAlchemy passes it on, may pass."""
    if isinstance(error, exc.DBAPIError):
        return error.orig is None or _trouble(error.orig).may_pass
    return isinstance(error, DatabaseUnavailableError | exc.TimeoutError)


def explain(what: str, url: URL, error: BaseException) -> DatabaseError:
    """Make the error that says what a driver's error means.

    Args:
        what: What the database is, as `inference log`.
        url: Its address.
        error: The driver's error.
    """
    said = _first_line(error)
    if url.password:
        said = said.replace(str(url.password), "***")
    trouble = _trouble(error)
    kind = DatabaseUnavailableError if trouble.may_pass else DatabaseError
    return kind(f"The {what} {name_of(url)} {trouble.problem} ({said}): {trouble.remedy}.")


def _trouble(error: BaseException) -> _Trouble:
    code = getattr(error, "sqlstate", None) or ""
    # an extended code of SQLite's ends with the plain one
    number = getattr(error, "sqlite_errorcode", 0) & 0xFF
    found = _OF_SQLITE.get(number) or _OF_POSTGRES.get(code) or _OF_POSTGRES.get(code[:2])
    if found:
        return found
    for words, trouble in _BY_WORDS:
        if words.search(str(error)):
            return trouble
    names = {kind.__name__ for kind in type(error).__mro__}
    wrong = number == sqlite3.SQLITE_ERROR or names & {"ProgrammingError", "NotSupportedError"}
    # a connection that ends has no code
    return _UNKNOWN if wrong else _GONE


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
