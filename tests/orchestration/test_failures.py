"""Which failures may pass."""

import sqlite3

import pytest
from kedro.io import DatasetError
from sqlalchemy.exc import OperationalError

from wine_quality.database.errors import DatabaseUnavailableError
from wine_quality.errors import WineQualityError
from wine_quality.orchestration.failures import in_one_line, may_pass
from wine_quality.traffic.backends.base import BackendUnavailableError

KINDS = (ConnectionError, TimeoutError, DatabaseUnavailableError)


def raised(error, cause=None, *, during=None):
    """Give an error as if raised from another, or while another was handled."""
    error.__context__ = cause or during
    if cause:
        error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("gone"),
        TimeoutError(),
        DatabaseUnavailableError("The log does not answer."),
        raised(DatasetError("cannot save"), ConnectionRefusedError("refused")),
        raised(RuntimeError("in a library"), during=ConnectionResetError("gone")),
    ],
)
def test_what_is_of_a_kind_or_comes_from_it_may_pass(error):
    assert may_pass(error, KINDS)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        PermissionError(13, "not allowed", "/data"),
        WineQualityError("No row is a wine."),
        # away, but not of the kinds asked for
        BackendUnavailableError("The backend is away."),
        raised(DatasetError("cannot load"), ValueError("not a file")),
        # a person has to act, whatever lies beneath: what met the network has tried by itself
        raised(WineQualityError("It cannot be fetched."), ConnectionRefusedError("refused")),
    ],
)
def test_what_a_person_or_a_developer_has_to_mend_does_not(error):
    assert not may_pass(error, KINDS)


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        (sqlite3.SQLITE_BUSY, True),
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_READONLY_DIRECTORY, False),
        (sqlite3.SQLITE_CANTOPEN, False),
        (sqlite3.SQLITE_CORRUPT, False),
    ],
)
def test_an_error_of_a_database_may_pass_by_its_class_alone(code, passes):
    said = sqlite3.OperationalError("in a library")
    said.sqlite_errorcode = code
    error = raised(DatasetError("cannot save"), OperationalError("SELECT 1", {}, said))
    assert may_pass(error, (OperationalError,)) is passes


def test_a_context_that_was_put_aside_does_not_count():
    error = raised(ValueError("a bug"), during=ConnectionError("refused"))
    assert may_pass(error, KINDS)
    # as `from None` does
    error.__suppress_context__ = True
    assert not may_pass(error, KINDS)


def test_a_failure_is_one_line():
    assert in_one_line(WineQualityError("No row\nis a wine.")) == "No row is a wine."
    assert in_one_line(ZeroDivisionError("by\nzero")) == "ZeroDivisionError: by zero"
