"""A backup is of one moment and holds what was committed, while others write."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
import sqlalchemy as sa

from wine_quality.database.database import Database
from wine_quality.database.errors import DatabaseError
from wine_quality.database.schema import Schema

TABLES = sa.MetaData()
NUMBERS = sa.Table("numbers", TABLES, sa.Column("number", sa.Integer, primary_key=True))
SCHEMA = Schema("list of numbers", TABLES, "numbers_version", "wine_quality.serving.migrations")
# Commits two numbers at a time, and names the second when they are on disk.
WRITER = """
import sys
from tests.database.test_backup import NUMBERS, SCHEMA
from wine_quality.database.database import Database
import sqlalchemy as sa

with Database(sys.argv[1], SCHEMA) as database:
    database.open(create=True)
    for number in range(1, 1_000_000, 2):
        with database.transaction(writing=True) as connection:
            connection.execute(sa.insert(NUMBERS), [{"number": number}, {"number": number + 1}])
        print(number + 1, flush=True)
"""


@pytest.fixture
def writer(tmp_path):
    """A process that writes for as long as the test lasts."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, f"sqlite:///{tmp_path}/here.db"],
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def numbers(file):
    with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [n for (n,) in connection.execute("SELECT number FROM numbers ORDER BY number")]


def test_a_backup_under_a_writer_is_whole(tmp_path, writer):
    acknowledged = 0
    for copy in range(5):
        for _ in range(50):
            acknowledged = int(writer.stdout.readline())
        with Database(f"sqlite:///{tmp_path}/here.db", SCHEMA) as database:
            told = database.back_up(tmp_path / "backups" / f"{copy}.db")
        assert told.endswith(f"is copied to {tmp_path}/backups/{copy}.db.")
        # one file, of one moment: all that was acknowledged by then, and nothing by halves
        found = numbers(tmp_path / "backups" / f"{copy}.db")
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= acknowledged
        assert len(found) % 2 == 0
    assert writer.poll() is None
    assert sorted(path.name for path in (tmp_path / "backups").iterdir()) == [
        f"{copy}.db" for copy in range(5)
    ]


def test_a_backup_in_the_place_of_the_lost_file_is_the_database(tmp_path):
    address = f"sqlite:///{tmp_path}/here.db"
    with Database(address, SCHEMA) as database:
        database.open(create=True)
        with database.transaction(writing=True) as connection:
            connection.execute(sa.insert(NUMBERS), {"number": 1})
        database.back_up(tmp_path / "copy.db")
    for path in tmp_path.glob("here.db*"):
        path.unlink()
    (tmp_path / "copy.db").rename(tmp_path / "here.db")
    with Database(address, SCHEMA) as database:
        assert database.open(create=False)
        with database.transaction(writing=True) as connection:
            connection.execute(sa.insert(NUMBERS), {"number": 2})
            assert connection.scalars(sa.select(NUMBERS)).all() == [1, 2]


def test_a_file_that_is_there_is_kept(tmp_path):
    (tmp_path / "copy.db").write_text("precious")
    with Database(f"sqlite:///{tmp_path}/here.db", SCHEMA) as database:
        database.open(create=True)
        with pytest.raises(DatabaseError, match=r"cannot be written \(it is there already\)"):
            database.back_up(tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_nothing_is_made_where_there_is_nothing(tmp_path):
    with (
        Database(f"sqlite:///{tmp_path}/here.db", SCHEMA) as database,
        pytest.raises(DatabaseError, match="nothing to back up"),
    ):
        database.back_up(tmp_path / "copy.db")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sound", [100, 4096], ids=["no page", "the first page"])
def test_a_damaged_database_makes_no_backup(tmp_path, sound):
    path = tmp_path / "here.db"
    with Database(f"sqlite:///{path}", SCHEMA) as database:
        database.open(create=True)
        with database.transaction(writing=True) as connection:
            connection.execute(sa.insert(NUMBERS), [{"number": n} for n in range(5000)])
    content = path.read_bytes()
    path.write_bytes(content[:sound] + b"\xff" * (len(content) - sound))
    with (
        Database(f"sqlite:///{path}", SCHEMA) as database,
        pytest.raises(DatabaseError, match="damaged"),
    ):
        database.back_up(tmp_path / "copy.db")
    assert [p.name for p in tmp_path.iterdir() if "copy" in p.name] == []


def test_postgresql_has_means_of_its_own(tmp_path):
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    address = "postgresql://wine:secret@host:5433/wines?password=secret"
    with pytest.raises(DatabaseError) as caught, Database(address, SCHEMA) as database:
        database.back_up(tmp_path / "copy.dump")
    command = (
        f"pg_dump --format=custom --file={tmp_path}/copy.dump postgresql://wine@host:5433/wines"
    )
    assert command in str(caught.value)
    assert "secret" not in str(caught.value)
