"""The log's database: crashes, other processes, and all that can stand at its place."""

import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from wine_quality.database import engines
from wine_quality.database.database import Database
from wine_quality.database.errors import DatabaseError, DatabaseUnavailableError
from wine_quality.database.explaining import explain
from wine_quality.errors import WineQualityError
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.prediction_batch import PredictionBatch

MakeBatch = Callable[..., PredictionBatch]

# Appends batches of 40 and says so after each. The wines of a request follow from its number, so
# that anyone can send the same request again.
WRITER = """
import sys
from datetime import UTC, datetime
import numpy as np
import pandas as pd
from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.prediction_batch import PredictionBatch
from wine_quality.wines import MEASUREMENT_NAMES

url, name, first, batches = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
log = InferenceLog(url)
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, first + batches):
    wines = pd.DataFrame({m: np.full(40, number % 9) for m in MEASUREMENT_NAMES})
    logged = log.append_predictions(PredictionBatch.from_frame(
        wines.assign(type="red"), np.full(40, float(number)),
        prediction_ids=uuid7_batch(40), event_time=datetime.now(UTC), received_at=datetime.now(UTC),
        model_version="1", source=name, latency_ms=1.0, request_id=f"{name}-{number}",
    ))
    print(number, logged.prediction_ids[0], logged.prediction_ids[-1], flush=True)
"""


@contextmanager
def writer(url: str, name: str, first: int, batches: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, url, name, str(first), str(batches)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_what_was_acknowledged_survives_kill_minus_nine(log_url: str) -> None:
    acknowledged: dict[int, tuple[str, str]] = {}
    for life in range(4):
        with writer(log_url, "w", first=len(acknowledged), batches=10_000) as process:
            start(process)
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(3 + 4 * life)]
            os.kill(process.pid, signal.SIGKILL)
            lines += process.stdout.readlines()
            assert process.wait() == -signal.SIGKILL
        for line in lines:
            if line.endswith("\n"):
                number, first, last = line.split()
                acknowledged[int(number)] = (first, last)
        assert sorted(acknowledged) == list(range(len(acknowledged)))

        with InferenceLog(log_url) as log:
            found = log.read()
        per_request = found.groupby("prediction")["prediction_id"].agg(["min", "max", "size"])
        assert found["prediction_id"].is_unique
        # Of batches that nobody heard of there is at most the one that was under way, whole.
        assert len(per_request) - len(acknowledged) in {0, 1}
        assert set(per_request["size"]) == {40}
        for number, ends in acknowledged.items():
            assert tuple(per_request.loc[number, ["min", "max"]]) == ends


def test_processes_that_write_at_once_lose_nothing(log_url: str) -> None:
    with (
        writer(log_url, "a", 0, 25) as a,
        writer(log_url, "b", 0, 25) as b,
        writer(log_url, "c", 0, 25) as c,
    ):
        # They meet at the creation of the database already.
        for process in (a, b, c):
            start(process)
        heard = {p: p.communicate(timeout=60)[0].splitlines() for p in (a, b, c)}
        assert [p.returncode for p in (a, b, c)] == [0, 0, 0]
    assert [len(lines) for lines in heard.values()] == [25, 25, 25]
    with InferenceLog(log_url) as log:
        found = log.read()
    assert found["prediction_id"].is_unique
    assert found.groupby("source").size().to_dict() == {"a": 1000, "b": 1000, "c": 1000}


# SQLite's file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "inference.db"


@pytest.fixture
def log_file(path: Path) -> Iterator[InferenceLog]:
    with InferenceLog(f"sqlite:///{path}", busy_timeout_s=0.2) as log:
        yield log


def test_every_commit_reaches_the_disk(
    log_file: InferenceLog, path: Path, make_batch: MakeBatch
) -> None:
    log_file.append_predictions(make_batch(1))
    with log_file._database.transaction(writing=True) as connection:
        full = 2
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == full
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    with InferenceLog(f"sqlite:///{path}", synchronous="NORMAL") as fast:
        fast.append_predictions(make_batch(1))
        with fast._database.transaction(writing=True) as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1


def test_folders_are_made_for_the_first_row(tmp_path: Path, make_batch: MakeBatch) -> None:
    with InferenceLog(f"sqlite:///{tmp_path}/a/b/c.db") as log:
        assert not log.exists()
        assert not (tmp_path / "a").exists()
        log.append_predictions(make_batch(1))
    assert (tmp_path / "a/b/c.db").is_file()


def test_an_empty_file_is_a_log_not_yet_written(
    log_file: InferenceLog, path: Path, make_batch: MakeBatch
) -> None:
    path.touch()
    assert not log_file.exists()
    assert log_file.read().empty
    log_file.append_predictions(make_batch(1))
    assert log_file.counts().predictions == 1


def test_a_database_of_other_tables_takes_the_log_in(
    log_file: InferenceLog, path: Path, make_batch: MakeBatch
) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE verdicts (x)")
    assert not log_file.exists()
    log_file.append_predictions(make_batch(1))
    assert log_file.exists()


def test_the_log_waits_for_a_writer_before_it_moves_in(path: Path, make_batch: MakeBatch) -> None:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE verdicts (x)")
    other.execute("BEGIN IMMEDIATE")
    with (
        InferenceLog(f"sqlite:///{path}", busy_timeout_s=0.1) as log,
        pytest.raises(DatabaseUnavailableError, match="database is locked"),
    ):
        log.append_predictions(make_batch(1))
    release = threading.Timer(0.2, other.execute, ["ROLLBACK"])
    release.start()
    with InferenceLog(f"sqlite:///{path}") as log:
        log.append_predictions(make_batch(1))
        assert log.counts().predictions == 1
    release.join()
    other.close()


def test_a_file_deleted_under_an_open_log_is_made_anew(
    log_file: InferenceLog, path: Path, make_batch: MakeBatch, caplog: pytest.LogCaptureFixture
) -> None:
    log_file.append_predictions(make_batch(2))
    for file in path.parent.glob("inference.db*"):
        file.unlink()

    assert not log_file.exists()
    log_file.append_predictions(make_batch(3))

    assert "not the file it was" in caplog.text
    with InferenceLog(f"sqlite:///{path}") as other:
        assert other.counts().predictions == 3


def test_a_file_put_in_place_of_the_one_in_use_is_refused_and_kept(
    log_file: InferenceLog, path: Path, make_batch: MakeBatch, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.db"
    with InferenceLog(f"sqlite:///{backup}") as other:
        other.append_predictions(make_batch(700))
    log_file.append_predictions(make_batch(2))
    kept = backup.read_bytes()
    backup.replace(path)

    for _ in range(2):
        with pytest.raises(DatabaseError, match="was replaced while it was in use") as caught:
            log_file.append_predictions(make_batch(3))
    assert_one_line(caught, path, "inference.db-wal")
    assert path.read_bytes() == kept

    # what the message says to do
    for name in ("inference.db-wal", "inference.db-shm"):
        (path.parent / name).unlink()
    log_file.append_predictions(make_batch(3))
    assert log_file.counts().predictions == 703


def test_a_file_made_anew_by_another_process_is_taken(
    log_file: InferenceLog, path: Path, make_batch: MakeBatch
) -> None:
    log_file.append_predictions(make_batch(2))
    path.unlink()
    with InferenceLog(f"sqlite:///{path}") as other:
        other.append_predictions(make_batch(4))
        log_file.append_predictions(make_batch(3))
        assert other.counts().predictions == 7


def test_a_file_deleted_while_it_is_made_is_said(
    log_file: InferenceLog, path: Path, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Database._make_schema

    def create_and_delete(database: Database) -> None:
        create(database)
        path.unlink()

    with monkeypatch.context() as patch:
        patch.setattr(Database, "_make_schema", create_and_delete)
        with pytest.raises(DatabaseUnavailableError, match="deleted while it was made"):
            log_file.append_predictions(make_batch(2))
    log_file.append_predictions(make_batch(3))
    with InferenceLog(f"sqlite:///{path}") as other:
        assert other.counts().predictions == 3


def damage_header(path: Path) -> None:
    path.write_bytes(b"type;alcohol\nred;9.4\n" * 500)


def damage_pages(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


@pytest.mark.parametrize("damage", [damage_header, damage_pages])
def test_a_damaged_file_is_left_alone(
    path: Path, make_batch: MakeBatch, damage: Callable[[Path], None]
) -> None:
    with InferenceLog(f"sqlite:///{path}") as log:
        log.append_predictions(make_batch(500))
    damage(path)
    before = path.read_bytes()
    for use in USES:
        with (
            InferenceLog(f"sqlite:///{path}") as log,
            pytest.raises(DatabaseError, match="is damaged or no SQLite database") as caught,
        ):
            use(log, make_batch)
        assert_one_line(caught, path, "move the file away")
    assert path.read_bytes() == before


USES: list[Callable[[InferenceLog, MakeBatch], object]] = [
    lambda log, _: log.read(),
    lambda log, make_batch: log.append_predictions(make_batch(1)),
]


def assert_one_line(caught: pytest.ExceptionInfo[BaseException], *parts: object) -> None:
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


@pytest.mark.parametrize("use", USES)
def test_a_folder_is_no_log(
    tmp_path: Path, make_batch: MakeBatch, use: Callable[[InferenceLog, MakeBatch], object]
) -> None:
    log = InferenceLog(f"sqlite:///{tmp_path}")
    with pytest.raises(DatabaseError, match="names a folder") as caught:
        use(log, make_batch)
    assert_one_line(caught, tmp_path, "add a file name")


def test_a_folder_that_cannot_be_made(tmp_path: Path, make_batch: MakeBatch) -> None:
    (tmp_path / "file").write_text("no folder")
    log = InferenceLog(f"sqlite:///{tmp_path}/file/inference.db")
    assert not log.exists()
    with pytest.raises(DatabaseError, match="cannot be made") as caught:
        log.append_predictions(make_batch(1))
    assert_one_line(caught, tmp_path, "name another place")


def test_a_file_that_cannot_be_made(tmp_path: Path, make_batch: MakeBatch) -> None:
    # A name no file system takes: even root, who may write into any folder, cannot make it.
    log = InferenceLog(f"sqlite:///{tmp_path}/{'x' * 300}.db")
    assert not log.exists()
    with pytest.raises(DatabaseError, match="unable to open database file") as caught:
        log.append_predictions(make_batch(1))
    assert_one_line(caught, tmp_path, "that this user may read and write in it")
    # it does not pass by itself
    assert not isinstance(caught.value, DatabaseUnavailableError)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("0001", "was written by an older wine-quality .* migrate --log-url sqlite"),
        ("9999", "was written by a newer wine-quality .*: upgrade"),
        ("f00", "holds tables of another make"),
        (None, "holds tables of another make"),
    ],
)
def test_a_schema_of_another_version_is_refused(
    path: Path, make_batch: MakeBatch, version: str | None, message: str
) -> None:
    with InferenceLog(f"sqlite:///{path}") as log:
        log.append_predictions(make_batch(1))
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM inference_log_version")
        if version:
            connection.execute("INSERT INTO inference_log_version VALUES (?)", [version])
    for use in USES:
        with (
            InferenceLog(f"sqlite:///{path}") as log,
            pytest.raises(DatabaseError, match=message) as caught,
        ):
            use(log, make_batch)
        assert_one_line(caught, path)


def test_a_log_of_other_columns_is_refused_and_kept(path: Path, make_batch: MakeBatch) -> None:
    with InferenceLog(f"sqlite:///{path}") as log:
        log.append_predictions(make_batch(1))
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE predictions RENAME COLUMN alcohol TO colour")
    for use in USES:
        with (
            InferenceLog(f"sqlite:///{path}") as log,
            pytest.raises(DatabaseError, match=r"\(alcohol, colour in predictions\)") as caught,
        ):
            use(log, make_batch)
        assert_one_line(caught, path, "name another file")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM predictions").fetchone() == (1,)


def test_tables_of_the_same_name_are_not_taken_for_the_log(
    log_file: InferenceLog, path: Path
) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE predictions (x)")
    with pytest.raises(DatabaseError, match=r"another make \(predictions\)") as caught:
        log_file.open()
    assert_one_line(caught, path, "name another file")


def test_a_locked_database_is_unavailable_until_it_is_free(
    log_file: InferenceLog, path: Path, make_batch: MakeBatch
) -> None:
    log_file.append_predictions(make_batch(1))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    batch = make_batch(5, request_id="waits")
    with pytest.raises(DatabaseUnavailableError, match="database is locked") as caught:
        log_file.append_predictions(batch)
    assert_one_line(caught, path, "try again")
    assert len(log_file.read()) == 1

    other.execute("ROLLBACK")
    other.close()

    assert not log_file.append_predictions(batch).repeated
    assert log_file.counts().predictions == 6


def test_a_full_disk_writes_nothing_of_the_batch(
    log_file: InferenceLog, make_batch: MakeBatch
) -> None:
    log_file.append_predictions(make_batch(1))
    with log_file._database.transaction(writing=True) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DatabaseUnavailableError, match="disk is full"):
        log_file.append_predictions(make_batch(2_000))
    assert log_file.counts().predictions == 1


# URLs


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense secret", "cannot be understood"),
        ("", "cannot be understood"),
        ("postgresql://wine:secret@host:port/db", "cannot be understood"),
        ("mysql://wine:secret@host/db", "cannot be kept in mysql"),
        ("postgresql+asyncpg://wine:secret@host/db", r"cannot be kept in postgresql\+asyncpg"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///file:secret.db?uri=true", "names no file"),
    ],
)
def test_a_url_that_cannot_be_used(url: str, message: str) -> None:
    with pytest.raises(DatabaseError, match=message) as caught:
        InferenceLog(url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_database_in_an_object_store_is_refused() -> None:
    with pytest.raises(WineQualityError, match="SQLite needs a disk"):
        InferenceLog("sqlite:///s3://wines/log.db")


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DatabaseError, match=r"pip install 'wine-quality\[postgres\]'") as caught:
        InferenceLog("postgresql://wine:secret@localhost/wine")
    assert_one_line(caught, "localhost/wine")
    assert "secret" not in str(caught.value)


@pytest.fixture
def postgres(postgres_schema: Callable[..., Any]) -> Iterator[tuple[str, Callable[[], int]]]:
    """URL of a log in PostgreSQL, and what ends the connections to it, as a restart would."""
    with postgres_schema("cut the connections of a log") as url:
        name = f"log-{uuid4().hex}"
        own = sa.make_url(url).update_query_dict({"application_name": name})
        server = sa.create_engine(url)
        cut = sa.text(
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity "
            "WHERE application_name = :name"
        )

        def end_connections() -> int:
            with server.begin() as connection:
                return connection.scalar(cut, {"name": name}) or 0

        yield own.render_as_string(hide_password=False), end_connections
        server.dispose()


def test_connections_that_were_idle_are_asked_whether_they_live(
    postgres: tuple[str, Callable[[], int]], make_batch: MakeBatch, monkeypatch: Any
) -> None:
    url, end_connections = postgres
    # whatever lies unused is asked
    monkeypatch.setattr(engines, "_TRUSTED_S", 0.0)
    with InferenceLog(url) as log:
        for number in range(3):
            log.append_predictions(make_batch(request_id=f"request {number}"))
            assert end_connections() == 1
        assert log.counts().predictions == 3 * len(make_batch())


def test_a_connection_that_was_just_in_use_is_trusted_and_its_loss_told_once(
    postgres: tuple[str, Callable[[], int]], make_batch: MakeBatch, monkeypatch: Any
) -> None:
    url, end_connections = postgres
    monkeypatch.setattr(engines, "_TRUSTED_S", math.inf)
    batch = make_batch(request_id="again")
    with InferenceLog(url) as log:
        log.append_predictions(make_batch())
        assert end_connections() == 1
        with pytest.raises(DatabaseUnavailableError, match="is not available"):
            log.append_predictions(batch)
        assert not log.append_predictions(batch).repeated
        assert log.counts().predictions == 2 * len(batch)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_an_unreachable_server_is_named_without_its_password(
    scheme: str, make_batch: MakeBatch
) -> None:
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    # Nobody listens on port 1.
    log = InferenceLog(f"{scheme}://wine:se%20cret@127.0.0.1:1/wine?password=secret2")
    for use in [*USES, lambda log, _: log.exists(), lambda log, _: log.counts()]:
        with pytest.raises(DatabaseUnavailableError, match="is not available") as caught:
            use(log, make_batch)
        assert_one_line(caught, "127.0.0.1:1/wine", "see that the database runs")
        assert "cret" not in str(caught.value)
    assert "cret" not in repr(log)


def test_a_driver_that_tells_the_password_is_not_quoted() -> None:
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    log = InferenceLog("postgresql://wine:secret@localhost/wine")
    url = log._database._url
    error = explain("inference log", url, ValueError("cannot use password=secret\nsecret"))
    assert "cannot use password=***" in str(error)
    assert "secret" not in str(error)


def test_a_frame_read_while_others_write_is_whole(
    log_file: InferenceLog, path: Path, make_batch: MakeBatch
) -> None:
    log_file.append_predictions(make_batch(10))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM predictions")
    assert len(log_file.read()) == 10
    other.execute("ROLLBACK")
    other.close()
    assert len(log_file.read()) == 10
