"""Versions of tables: steps are frozen, lead to the tables of a new database, and lose nothing."""

import ast
import dataclasses
import itertools
import multiprocessing
import shutil
import sqlite3
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from wine_quality.database.addresses import store_url
from wine_quality.database.database import Database
from wine_quality.database.errors import DatabaseError
from wine_quality.database.schema import Schema
from wine_quality.drift.alerts import Alert, AlertSettings
from wine_quality.drift.incident_store import IncidentStore
from wine_quality.drift.notifying import notify
from wine_quality.drift.store_database import StoreDatabase
from wine_quality.drift.store_schema import INCIDENT_ALERTS, MONITORING
from wine_quality.drift.verdict_store import VerdictStore
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.log_schema import GROUND_TRUTH, LOG, PREDICTIONS
from wine_quality.serving.log_writing import ShadowAnswers

NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)
NOON_UTC = NOON.replace(tzinfo=None)
OLD = Path(__file__).parents[1] / "data" / "0d1af09"
SETTINGS = AlertSettings()
SCHEMAS = pytest.mark.parametrize("schema", [LOG, MONITORING], ids=lambda schema: schema.what)


@pytest.fixture(params=["sqlite", "postgresql"])
def make_address(request, tmp_path, postgres_schema):
    """Makes addresses of empty databases, of each kind."""
    numbers = itertools.count()
    with ExitStack() as stack:

        def make() -> str:
            if request.param == "sqlite":
                return f"sqlite:///{tmp_path}/{next(numbers)}.db"
            return stack.enter_context(postgres_schema("migrate tables in PostgreSQL too"))

        yield make


def shape(address: str, schema: Schema) -> dict[str, object]:
    """All that a database says of a schema's tables, and their version."""
    engine = sa.create_engine(store_url(address, "test"))
    inspector = sa.inspect(engine)
    found: dict[str, object] = {}
    for name in [*schema.tables.tables, schema.version_table]:
        # the names of constraints count, for later steps call them by name
        found[name] = (
            [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(name)],
            inspector.get_pk_constraint(name),
            inspector.get_foreign_keys(name),
            inspector.get_indexes(name),
            inspector.get_unique_constraints(name),
        )
    with engine.connect() as connection:
        found["version"] = connection.scalars(sa.select(schema.versions)).all()
        if engine.dialect.name == "sqlite":
            query = sa.text("SELECT name FROM pragma_table_list WHERE wr = 1 ORDER BY name")
            found["without rowid"] = connection.scalars(query).all()
    engine.dispose()
    return found


def take_steps(address: str, schema: Schema, first: int | None = None) -> None:
    """Take all steps, or so many, from the first on an empty database."""
    steps = dict(sorted(schema._steps().items())[:first])
    with (
        pytest.MonkeyPatch.context() as patch,
        Database(address, schema) as database,
        ExitStack() as stack,
    ):
        patch.setattr(Schema, "_steps", lambda _: steps)
        if first is not None:
            # of tables that come with later steps
            patch.setattr(Database, "_check_references", lambda *_: None)
        connection = stack.enter_context(database._altering())
        schema.upgrade(connection, None)


@SCHEMAS
def test_the_steps_lead_to_the_tables_of_a_new_database(schema, make_address):
    stepped, new = make_address(), make_address()
    take_steps(stepped, schema)
    with Database(new, schema) as database:
        assert database.migrate().endswith(f"schema none -> {schema.version}.")
    assert shape(stepped, schema) == shape(new, schema)
    # a database that was migrated is one like any other
    with Database(stepped, schema) as database:
        assert database.open(create=False)
        assert database.migrate().endswith(f"has schema {schema.version} already.")


def imports(source: str) -> set[str]:
    """The packages that a step imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." if node.level else (node.module or "").partition(".")[0])
    return found


FROZEN = {"sqlalchemy", "alembic", "typing", "collections", "datetime", "json"}


@SCHEMAS
def test_steps_import_nothing_that_changes(schema):
    for module in schema._steps().values():
        source = Path(import_module(module).__file__).read_text(encoding="utf-8")
        assert imports(source) <= FROZEN, module


@pytest.mark.parametrize(
    "line",
    ["import wine_quality.wines", "from wine_quality.wines import INPUTS", "from . import x"],
)
def test_a_step_that_imports_the_project_would_be_noticed(line):
    assert not imports(line) <= FROZEN


# The next version


NEXT_STEP = """
import sqlalchemy as sa
from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    {body}
"""
ADD = 'op.add_column("predictions", sa.Column("colour", sa.Text))'
# SQLite makes the table a second time for it
NARROW = """with op.batch_alter_table("predictions") as table:
        table.alter_column("source", type_=sa.String(99), existing_type=sa.Text)"""


NEXT = f"{int(LOG.version) + 1:04}"


@pytest.fixture
def make_next(tmp_path, monkeypatch):
    """Makes the log's next version, with a step of its own."""
    monkeypatch.syspath_prepend(tmp_path / "steps")

    def make(name: str, body: str, change: Any) -> Schema:
        folder = tmp_path / "steps" / name
        shutil.copytree(Path(import_module(LOG.migrations).__file__).parent, folder)
        (folder / f"v{NEXT}_next.py").write_text(NEXT_STEP.format(body=body))
        tables = sa.MetaData(naming_convention=LOG.tables.naming_convention)
        for table in LOG.tables.tables.values():
            table.to_metadata(tables)
        change(tables.tables["predictions"])
        return dataclasses.replace(LOG, tables=tables, migrations=name)

    return make


@pytest.fixture
def with_colour(make_next):
    return make_next(
        "log_with_colour", ADD, lambda t: t.append_column(sa.Column("colour", sa.Text))
    )


WINES = [{"type": "red", "alcohol": 9.5 + number, "prediction": 5.5} for number in range(3)]


def fill(address: str) -> None:
    """Write three predictions with a label each into a log."""
    known = {"model_version": "1", "source": "test"}
    with Database(address, LOG) as log:
        log.open(create=True)
        with log.transaction(writing=True) as connection:
            for number, wine in enumerate(WINES):
                key = {"prediction_id": UUID(int=number)}
                moment = {"event_time": NOON, "received_at": NOON}
                connection.execute(sa.insert(PREDICTIONS), {**key, **known, **moment, **wine})
                label = {"quality": number, "labelled_at": NOON}
                connection.execute(sa.insert(GROUND_TRUTH), {**key, **label})


def assert_filled(address: str, schema: Schema) -> None:
    with Database(address, schema) as database:
        assert database.open(create=False)
        with database.transaction(writing=False) as connection:
            read = sa.select(PREDICTIONS.c.alcohol).order_by(PREDICTIONS.c.prediction_id)
            assert connection.scalars(read).all() == [wine["alcohol"] for wine in WINES]
            labels = sa.select(GROUND_TRUTH.c.quality).order_by(GROUND_TRUTH.c.label_id)
            assert connection.scalars(labels).all() == [0, 1, 2]


@pytest.mark.parametrize("first", ["open", "migrate"])
def test_a_column_more_is_there_in_a_new_log(with_colour, make_address, first):
    address = make_address()
    with Database(address, with_colour) as log:
        assert log.open(create=True) if first == "open" else log.migrate()
    stepped = make_address()
    take_steps(stepped, with_colour)
    assert shape(address, with_colour) == shape(stepped, with_colour)
    assert shape(address, with_colour)["version"] == [NEXT]


def test_a_column_more_comes_to_an_old_log_by_command(with_colour, make_address):
    address = make_address()
    fill(address)
    with Database(address, with_colour) as log:
        for create in (False, True):
            with pytest.raises(DatabaseError, match=rf"\(schema {LOG.version}, this") as caught:
                log.open(create=create)
            command = f"'python -m wine_quality.serving migrate --log-url {log.where}'"
            assert command in str(caught.value)
        assert log.migrate().endswith(f"schema {LOG.version} -> {NEXT}.")
    assert_filled(address, with_colour)
    # what does not know the version leaves it
    with Database(address, LOG) as old, pytest.raises(DatabaseError, match="by a newer wine-qual"):
        old.open(create=True)


def test_a_step_that_makes_a_table_a_second_time_keeps_what_refers_to_it(make_next, make_address):
    def narrow(table: sa.Table) -> None:
        table.c.source.type = sa.String(99)

    schema = make_next("log_with_short_source", NARROW, narrow)
    address = make_address()
    fill(address)
    with Database(address, schema) as log:
        assert log.migrate().endswith(f"schema {LOG.version} -> {NEXT}.")
        assert_filled(address, schema)
        # references are kept to again
        with pytest.raises(sa.exc.IntegrityError), log.transaction(writing=True) as connection:
            connection.execute(
                sa.insert(GROUND_TRUTH),
                {"prediction_id": UUID(int=9), "quality": 5, "labelled_at": NOON},
            )


def test_a_step_that_fails_changes_nothing(make_next, make_address):
    address = make_address()
    fill(address)
    before = shape(address, LOG)
    broken = make_next("log_broken", f"{ADD}\n    raise ZeroDivisionError", lambda _: None)
    with Database(address, broken) as log, pytest.raises(ZeroDivisionError):
        log.migrate()
    assert shape(address, LOG) == before
    assert_filled(address, LOG)


# What the version before wrote


@pytest.fixture
def old(tmp_path):
    """Copies a file that the old version wrote; gives its address."""

    def copy(name: str) -> str:
        shutil.copy(OLD / name, tmp_path / name)
        return f"sqlite:///{tmp_path}/{name}"

    return copy


def rows(address: str, schema: Schema) -> dict[str, list[tuple[Any, ...]]]:
    """All rows, as they are stored."""
    with closing(sqlite3.connect(store_url(address, "test").database)) as connection:
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        return {
            name: sorted(connection.execute(f'SELECT * FROM "{name}"'), key=repr)
            for name in schema.tables.tables
            if name in there
        }


def test_an_old_log_is_migrated_by_command_without_loss(old):
    address = old("inference_log.db")
    before = rows(address, LOG)
    for use in (InferenceLog.read, InferenceLog.check):
        with (
            InferenceLog(address) as log,
            pytest.raises(DatabaseError, match=r"quality\.serving migrate"),
        ):
            use(log)
    assert rows(address, LOG) == before
    with Database(address, LOG) as database:
        assert database.migrate().endswith(f"schema 0001 -> {LOG.version}.")
    with InferenceLog(address) as log:
        assert log.counts().predictions == 12
        assert log.counts().labels == 6
        found = log.read()
        assert found["quality"].notna().sum() == 6
        assert found["event_time"].min() == pd.Timestamp("2026-01-31T12:00Z")
        log.check()
        assert log.read_shadowed().empty
        ids = [UUID(name) for name in found["prediction_id"]]
        log.append_shadows([ShadowAnswers(ids, "9", np.full(12, 5.5), NOON)])
        assert log.read_shadowed()["shadow_prediction"].tolist() == [5.5] * 12
    after = rows(address, LOG)
    assert len(after.pop("shadow_predictions")) == 12
    assert after == before


@pytest.mark.parametrize("name", ["inference_log.db", "monitoring.db"])
def test_an_old_store_is_adopted_without_loss(old, name):
    address = old(name)
    before = rows(address, MONITORING)
    assert {table: len(found) for table, found in before.items()} == {"verdicts": 4}
    with closing(sqlite3.connect(store_url(address, "test").database)) as connection:
        ((*sent, sent_at),) = connection.execute("SELECT * FROM told_alerts")
    with VerdictStore(address) as store:
        history = store.history()
        assert list(history["verdict"]) == ["no_labels", "decayed", "drift", "ok"]
        assert list(history["revision"]) == [1, 2, 1, 1]
    after = rows(address, MONITORING)
    assert {table: after[table] for table in before} == before
    (kept,) = after["incident_alerts"]
    assert [*kept[:4], kept[-1]] == [*sent, sent_at]
    assert set(kept[4:-1]) == {None}
    # what was sent is no news, though nobody knew of incidents
    with IncidentStore(address) as store:
        day = datetime(2026, 1, 31, tzinfo=UTC)
        alert = Alert("drift", "3", "pH", "all", day, day, day, day, None, 50, "moved")
        both = [alert, replace(alert, subject="alcohol")]
        found = notify(both, store, lambda _: "", SETTINGS, NOON)
        assert [(a.incident, a.new, a.sent) for a in found] == [(1, False, True), (1, True, True)]
        assert [sent.event for sent in store.notifications(1)] == ["ongoing"]
    # its counts by window are taken from the log again, by hour
    with closing(sqlite3.connect(store_url(address, "test").database)) as connection:
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    gone = {"profile_windows", "profile_counts", "profile_errors", "told_alerts"}
    assert not there & gone
    assert shape(address, MONITORING)["version"] == [MONITORING.version]


def test_a_store_that_was_used_in_part_gets_the_other_tables(tmp_path):
    address = f"sqlite:///{tmp_path}/monitoring.db"
    with closing(sqlite3.connect(OLD / "monitoring.db")) as connection:
        (made,) = connection.execute(
            "SELECT sql FROM sqlite_master WHERE name = 'told_alerts'"
        ).fetchone()
        (sent,) = connection.execute("SELECT * FROM told_alerts")
    with closing(sqlite3.connect(tmp_path / "monitoring.db")) as connection:
        connection.execute(made)
        connection.execute("INSERT INTO told_alerts VALUES (?, ?, ?, ?, ?)", sent)
        connection.commit()
    with VerdictStore(address) as store:
        assert store.history().empty
    (kept,) = rows(address, MONITORING)["incident_alerts"]
    assert kept[:4] == sent[:4]
    assert shape(address, MONITORING)["version"] == [MONITORING.version]


def test_a_store_that_knew_of_no_incidents_keeps_what_was_sent(make_address):
    address = make_address()
    take_steps(address, MONITORING, first=3)
    engine = sa.create_engine(store_url(address, "test"))
    with engine.begin() as connection:
        connection.execute(sa.update(MONITORING.versions).values(version_num="0003"))
        for subject in ("pH", "density"):
            connection.execute(
                sa.text("INSERT INTO told_alerts VALUES (:at, '3', :subject, 'drift', :at)"),
                {"at": NOON_UTC.isoformat(" "), "subject": subject},
            )
    engine.dispose()
    now = NOON + timedelta(days=30)
    at = {"found": NOON, "since": NOON, "since_earliest": NOON, "since_latest": NOON}
    ph = Alert("drift", "3", "pH", "all", **at, resolved=None, n=50, reason="moved")
    with IncidentStore(address) as store:
        # what was over when it was upgraded was, and is, no news
        over = replace(ph, subject="density", resolved=NOON)
        notify([ph, over, replace(ph, subject="alcohol")], store, lambda _: "", SETTINGS, now)
        assert [sent.event for sent in store.notifications(1)] == ["ongoing"]
        assert [(a.subject, a.is_open) for a in store.incident(1).alerts] == [
            ("alcohol", True), ("pH", True), ("density", False),
        ]  # fmt: skip
    assert shape(address, MONITORING)["version"] == [MONITORING.version]


def adopt(address: str, start: Any, results: Any) -> None:
    start.wait(60)
    with VerdictStore(address) as store:
        results.put(len(store.history()))


def test_processes_that_open_an_old_store_at_once_adopt_it_once(old):
    address = old("monitoring.db")
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=adopt, args=(address, start, results)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == [4, 4, 4]
    for process in processes:
        process.join(60)
    assert shape(address, MONITORING)["version"] == [MONITORING.version]


def test_a_store_without_a_version_in_postgresql_is_adopted(postgres_schema):
    with postgres_schema("adopt a store in PostgreSQL") as address:
        take_steps(address, MONITORING, first=1)
        engine = sa.create_engine(store_url(address, "test"))
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP TABLE {MONITORING.version_table}")
            connection.exec_driver_sql("DROP TABLE verdicts")
            connection.execute(
                sa.text("INSERT INTO told_alerts VALUES (:at, '3', 'pH', 'drift', :at)"),
                {"at": NOON_UTC},
            )
        engine.dispose()
        with VerdictStore(address) as store:
            assert store.history().empty
            with store.transaction() as connection:
                (kept,) = connection.execute(sa.select(INCIDENT_ALERTS))
                assert (kept.found, kept.subject, kept.sent_at) == (NOON_UTC, "pH", NOON_UTC)
        assert shape(address, MONITORING)["version"] == [MONITORING.version]


# What is not ours


def test_tables_of_the_same_name_are_not_taken_for_a_store(tmp_path):
    path = tmp_path / "monitoring.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE verdicts (x)")
    with StoreDatabase(f"sqlite:///{path}") as store:
        for _ in range(2):
            with pytest.raises(DatabaseError, match=r"with other columns \(.* in verdicts\)"):
                store.open(create=True)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("verdicts",)]


def test_a_store_of_a_newer_version_is_left_alone(old):
    address = old("monitoring.db")
    with StoreDatabase(address) as store:
        store.open(create=True)
        with store.transaction() as connection:
            connection.execute(sa.update(MONITORING.versions).values(version_num="0999"))
    with VerdictStore(address) as store, pytest.raises(DatabaseError, match="upgrade wine-quality"):
        store.history()


def test_a_table_that_somebody_dropped_is_named(make_address):
    address = make_address()
    fill(address)
    with Database(address, LOG) as log, log.transaction(writing=True) as connection:
        connection.exec_driver_sql("DROP TABLE prediction_requests")
    with (
        Database(address, LOG) as log,
        pytest.raises(DatabaseError, match=r"table\(s\) prediction_requests: put a backup"),
    ):
        log.open(create=True)
