"""What never passes is no outage, and each class of errors has the remedy that helps."""

import sqlite3
from contextlib import closing, contextmanager
from uuid import uuid4

import pytest
import sqlalchemy as sa

from wine_quality.database.database import Database
from wine_quality.database.errors import DatabaseError, DatabaseUnavailableError
from wine_quality.database.explaining import may_pass
from wine_quality.drift.store_schema import MONITORING

ANY = sa.select(sa.table("verdicts", sa.column("subject")))


@contextmanager
def raises(may_pass_by_itself, *parts):
    """Expect an error of one of the two classes, whose one line holds these parts."""
    with pytest.raises(DatabaseError) as caught:
        yield
    told = str(caught.value)
    assert isinstance(caught.value, DatabaseUnavailableError) is may_pass_by_itself, told
    assert "\n" not in told
    for part in parts:
        assert part in told


def use(address, statement, **options):
    with (
        Database(address, MONITORING, **options) as database,
        database.transaction(writing=True) as connection,
    ):
        connection.execute(statement)


# either kind


@pytest.fixture
def filled(url):
    """Address of a database with the tables."""
    with Database(url, MONITORING) as database:
        database.open(create=True)
    return url


@pytest.mark.parametrize(
    "statement", ["SELECT colour FROM verdicts", "INSERT INTO verdicts (colour) VALUES (1)"]
)
def test_a_column_that_is_not_there(filled, statement):
    with raises(False, "lacks a table or a column (", "colour", "put a backup in its place"):
        use(filled, sa.text(statement))


def test_a_table_that_is_not_there(filled):
    with raises(False, "lacks a table or a column (", "nothing_here"):
        use(filled, sa.text("SELECT 1 FROM nothing_here"))


def test_a_statement_that_is_none(filled):
    with raises(False, "refuses a statement (", "of a version that wine-quality supports"):
        use(filled, sa.text("SELECT FROM WHERE"))


# SQLite


@pytest.fixture
def file(tmp_path):
    with Database(f"sqlite:///{tmp_path}/here.db", MONITORING) as database:
        database.open(create=True)
    return tmp_path / "here.db"


def test_a_file_kept_busy_may_pass(file):
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with raises(True, "kept busy by another process (database is locked)", "see what holds it"):
            use(f"sqlite:///{file}", ANY, busy_timeout_s=0.1)


def test_a_read_only_file(file):
    # root may write any file
    with Database(f"sqlite:///{file}", MONITORING) as database:
        with database.transaction(writing=True) as connection:
            connection.exec_driver_sql("PRAGMA query_only = ON")
        with (
            raises(False, "is read-only (attempt to write", "the right to write the file"),
            database.transaction(writing=True) as connection,
        ):
            connection.exec_driver_sql("DELETE FROM verdicts")


def test_a_full_disk_may_pass(file):
    with Database(f"sqlite:///{file}", MONITORING) as database:
        with database.transaction(writing=True) as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
        with (
            raises(True, "has no space left (", "free space on its disk"),
            database.transaction(writing=True) as connection,
        ):
            connection.exec_driver_sql("CREATE TABLE more AS SELECT zeroblob(1000000) AS x")


def test_a_file_that_is_no_database(file):
    file.write_bytes(b"type;alcohol\nred;9.4\n" * 500)
    with raises(False, "is damaged or no SQLite database (", "put a backup in its place"):
        use(f"sqlite:///{file}", ANY)


# PostgreSQL


@pytest.fixture
def server(postgres_schema):
    """A schema with the tables, and a connection that may do anything."""
    with postgres_schema("meet PostgreSQL's errors") as address:
        with Database(address, MONITORING) as database:
            database.open(create=True)
        engine = sa.create_engine(address, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            yield sa.make_url(address), connection
        engine.dispose()


def having(url, **query):
    """The address with other options."""
    return url.update_query_dict(query, append=False).render_as_string(hide_password=False)


def test_a_server_where_nobody_listens_may_pass():
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    with raises(True, "is not available (", "see that the database runs"):
        use("postgresql://wine:secret@127.0.0.1:1/wine", ANY)


def test_a_host_that_nobody_knows_may_pass():
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    with raises(True, "is not available (", "host and port in its address are right"):
        use("postgresql://wine@no-such-host.invalid/wine", ANY)


@pytest.mark.parametrize("user", ["nobody-here", "locked-out"])
def test_a_user_who_may_not_log_in(server, user):
    url, admin = server
    known = f"{user}-{uuid4().hex}"
    if user == "locked-out":
        admin.exec_driver_sql(f'CREATE ROLE "{known}" NOLOGIN')
    try:
        with raises(False, "refuses the login (", "correct user and password"):
            use(url.set(username=known).render_as_string(hide_password=False), ANY)
    finally:
        admin.exec_driver_sql(f'DROP ROLE IF EXISTS "{known}"')


def test_a_database_that_is_not_there(server):
    url, _ = server
    with raises(False, "is not there (", "create the database on the server"):
        use(url.set(database="no-such-database").render_as_string(hide_password=False), ANY)


def test_a_user_who_may_connect_and_no_more(server):
    url, admin = server
    user = f"reader-{uuid4().hex}"
    admin.exec_driver_sql(f'CREATE ROLE "{user}" LOGIN')
    schema = url.query["options"].partition("search_path=")[2]
    admin.exec_driver_sql(f'GRANT USAGE ON SCHEMA {schema} TO "{user}"')
    try:
        with raises(False, "forbids this user to do it (", "grant the user"):
            use(url.set(username=user).render_as_string(hide_password=False), ANY)
    finally:
        admin.exec_driver_sql(f'REVOKE ALL ON SCHEMA {schema} FROM "{user}"')
        admin.exec_driver_sql(f'DROP ROLE "{user}"')


def test_a_server_that_takes_no_further_connection_may_pass(server):
    url, admin = server
    user = f"crowd-{uuid4().hex}"
    admin.exec_driver_sql(f'CREATE ROLE "{user}" LOGIN CONNECTION LIMIT 0')
    try:
        with raises(True, "takes no further connection (", "try again"):
            use(url.set(username=user).render_as_string(hide_password=False), ANY)
    finally:
        admin.exec_driver_sql(f'DROP ROLE "{user}"')


def test_a_standby(server):
    url, _ = server
    options = f"{url.query['options']} -cdefault_transaction_read_only=on"
    with raises(False, "is read-only (", "not a standby"):
        use(having(url, options=options), sa.text("DELETE FROM verdicts"))


def test_a_statement_that_takes_too_long_may_pass(server):
    url, _ = server
    options = f"{url.query['options']} -cstatement_timeout=50"
    with raises(True, "has not answered in time (", "see what keeps it busy"):
        use(having(url, options=options), sa.text("SELECT pg_sleep(60)"))


def test_a_table_that_is_kept_locked_may_pass(server, monkeypatch):
    url, admin = server
    monkeypatch.setattr("wine_quality.database.engines.POSTGRES_LOCK_S", 0.1)
    admin.exec_driver_sql("BEGIN")
    admin.exec_driver_sql("LOCK TABLE verdicts")
    try:
        with raises(True, "is kept busy by another process (", "see what holds it"):
            use(url.render_as_string(hide_password=False), ANY)
    finally:
        admin.exec_driver_sql("ROLLBACK")


def test_a_connection_that_was_cut_may_pass(server):
    url, admin = server
    with (
        Database(url.render_as_string(hide_password=False), MONITORING) as database,
        raises(True, "is not available (", "then try again"),
        database.transaction(writing=True) as connection,
    ):
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        admin.execute(sa.text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
        connection.execute(ANY)


def test_an_error_without_a_code():
    closed = sqlite3.ProgrammingError("Cannot operate on a closed database.")
    assert not may_pass(sa.exc.ProgrammingError("SELECT 1", {}, closed))
    stopped = sqlite3.OperationalError("interrupted")
    assert may_pass(sa.exc.OperationalError("SELECT 1", {}, stopped))
    assert not may_pass(ValueError("database is locked"))
    assert not may_pass(DatabaseError("no database"))
    assert may_pass(DatabaseUnavailableError("away"))
