"""Locks: one owner at a time, who keeps the lock however slow, and loses it by ending."""

import subprocess
import sys
from contextlib import ExitStack
from uuid import uuid4

import pytest
import sqlalchemy as sa

from wine_quality.database.errors import DatabaseError, DatabaseUnavailableError
from wine_quality.database.locks import exclusive

OWNER = """
import sys
from wine_quality.database.locks import exclusive

address, purpose, patience = sys.argv[1:]
print("begins", flush=True)
with exclusive(address, purpose, "counting", float(patience)) as confirm:
    print("owns", flush=True)
    sys.stdin.readline()
    confirm()
print("done", flush=True)
"""


@pytest.fixture
def purpose():
    """A lock of the test's own: PostgreSQL's are shared by all schemas of a database."""
    return f"test-{uuid4().hex}"


@pytest.fixture
def start_owner(url, purpose):
    """Starts a process that takes the lock, and keeps it until it is told to go on."""
    started = []

    def start(patience=60.0):
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, url, purpose, str(patience)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "begins\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_process_waits_for_the_first(start_owner):
    first = start_owner()
    assert first.stdout.readline() == "owns\n"
    second = start_owner()
    first.communicate("go on\n", timeout=60)
    assert second.stdout.readline() == "owns\n"


def test_who_waits_too_long_is_told_who_has_the_lock(url, purpose, start_owner):
    owner = start_owner()
    assert owner.stdout.readline() == "owns\n"
    with (
        pytest.raises(DatabaseUnavailableError) as caught,
        exclusive(url, purpose, "counting", patience_s=0.2),
    ):
        raise AssertionError("two own the lock")
    told = str(caught.value)
    assert told.startswith("Another process has been counting for 0 seconds (")
    assert f"process {owner.pid} on " in told
    # the owner has lost nothing by it
    assert owner.communicate("go on\n", timeout=60)[0] == "done\n"


def test_the_lock_of_a_process_that_is_killed_is_free(url, purpose, start_owner):
    owner = start_owner()
    assert owner.stdout.readline() == "owns\n"
    owner.kill()
    with exclusive(url, purpose, "counting", patience_s=30):
        owner.wait()


def test_an_error_frees_the_lock(url, purpose):
    with pytest.raises(ZeroDivisionError), exclusive(url, purpose, "counting"):
        raise ZeroDivisionError
    with exclusive(url, purpose, "counting", patience_s=0.2):
        pass


def test_other_purposes_are_not_kept_waiting(url, purpose):
    with ExitStack() as stack:
        for number in range(3):
            stack.enter_context(exclusive(url, f"{purpose}-{number}", "counting", patience_s=0.2))


def test_every_name_of_a_file_leads_to_one_lock(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "other.db").symlink_to(tmp_path / "folder" / "here.db")
    monkeypatch.chdir(tmp_path)
    for name in ("folder/here.db", "link/here.db", f"/{tmp_path}/link/here.db", "other.db"):
        with (
            exclusive(f"sqlite:///{tmp_path}/folder/here.db", "it", "counting"),
            pytest.raises(DatabaseUnavailableError),
            exclusive(f"sqlite:///{name}", "it", "counting", patience_s=0.1),
        ):
            raise AssertionError(f"two own the lock by the name {name}")


def test_a_lock_file_that_was_deleted_is_no_lock(tmp_path):
    address = f"sqlite:///{tmp_path}/here.db"
    with exclusive(address, "it", "counting") as confirm:
        confirm()
        (tmp_path / "here.db.it-lock").unlink()
        with pytest.raises(DatabaseUnavailableError, match="The lock for counting was lost"):
            confirm()


def test_a_session_that_ended_has_no_lock(postgres_schema, purpose):
    with postgres_schema("end the session of a lock") as address:
        server = sa.create_engine(address)
        cut = sa.text(
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity "
            "JOIN pg_locks USING (pid) WHERE locktype = 'advisory' AND pid <> pg_backend_pid() "
            "AND application_name LIKE :name"
        )
        with exclusive(address, purpose, "counting") as confirm:
            confirm()
            with server.begin() as connection:
                from wine_quality.database.locks import _this_process

                name = f"wine-quality {_this_process()}"
                assert connection.scalar(cut, {"name": f"{name[:63]}%"}) == 1
            with pytest.raises(DatabaseUnavailableError, match="The lock for counting was lost"):
                confirm()
        with exclusive(address, purpose, "counting", patience_s=0.2) as confirm:
            confirm()
        server.dispose()


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("mysql://wine:secret@host/db", DatabaseError, "cannot be kept in mysql"),
        ("sqlite://", DatabaseError, "names no file"),
        ("postgresql://wine:secret@127.0.0.1:1/x", DatabaseUnavailableError, "is not available"),
    ],
)
def test_where_no_lock_can_be(address, error, message):
    if "postgresql" in address:
        pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    with pytest.raises(error, match=message) as caught, exclusive(address, "it", "counting"):
        pass
    assert "secret" not in str(caught.value)


def test_a_folder_where_nothing_may_be_written_is_named(tmp_path):
    # root may write anywhere: a file in the folder's place is no folder for anybody
    (tmp_path / "file").touch()
    with (
        pytest.raises(DatabaseError, match=r"The lock .*file/here\.db\.it-lock cannot be taken"),
        exclusive(f"sqlite:///{tmp_path}/file/here.db", "it", "counting"),
    ):
        pass
