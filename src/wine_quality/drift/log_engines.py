"""What holds an inference log, and hands over its rows: SQLite, PostgreSQL, DuckDB or Spark.

Every engine answers a select with the rows in bounded parts, which `count_batches` counts, in
this process or, with Spark, in those that hold the rows. What is counted, and how, is none of an
engine's business.
"""

import hashlib
import os
import pickle
import shutil
import sqlite3
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql.compiler import GenericTypeCompiler, IdentifierPreparer

from wine_quality.database.addresses import parse_database_url
from wine_quality.drift.profiles import Profile, count_batches, merge_profiles
from wine_quality.drift.reference import Reference
from wine_quality.drift.settings import window_length
from wine_quality.drift.sources import MODEL_VERSION, SOURCE, Sources
from wine_quality.errors import WineQualityError
from wine_quality.system.storage import find_store, is_address
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, PREDICTION, QUALITY

if TYPE_CHECKING:
    import pyarrow as pa

EVENT_TIME = "event_time"
LABELLED_AT = "labelled_at"
MOMENTS = (EVENT_TIME, "received_at", LABELLED_AT)
PREDICTION_ID = "prediction_id"
LOG_COLUMNS = (EVENT_TIME, MODEL_VERSION, SOURCE, *INPUTS, PREDICTION, QUALITY, LABELLED_AT)
"""What monitoring reads of a log kept in a database, beside the identifiers."""
BATCH, FETCHED = 65_536, 32_768
"""Rows read at a time (about 130 B each), and as Python's objects, from SQLite."""
BATCH_BYTES = 8 << 20
"""The same for PostgreSQL, whose driver counts bytes."""
_MEASURED = {*MEASUREMENT_NAMES, PREDICTION, QUALITY}
_LOG, _DAY = "log", "day"
_LARGEST = 1e300


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_LONG = timedelta(days=1)


def lake_states(folder: str, versions: Iterable[str], window: str = "1D") -> pd.DataFrame:
    """The states of a log in Parquet files, by the files of its days instead of their rows.

    Args:
        folder: The folder of the folders `day=YYYY-MM-DD`, a path or an address that fsspec knows.
            A prediction's event time lies in its day, UTC; late labels come with the files
            of their predictions rewritten: a further file would count these twice.
        versions: The model versions that may have predictions in any of the windows.
        window: Length of a window, see `DriftSettings`.

    Returns:
        One row per `window_start` and `model_version`, and a text `state`: a file that is new, gone
        or rewritten changes the state of every window that its day touches.
    """
    import fsspec

    files, root = fsspec.core.url_to_fs(folder)
    length = window_length(window).to_pytimedelta()
    parts: dict[datetime, list[str]] = {}
    for path, info in sorted(files.glob(f"{root}/day=*/*.parquet", detail=True).items()):
        day_name, name = path.rsplit("/", 2)[1:]
        try:
            day = datetime.strptime(day_name, "day=%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError as error:
            raise WineQualityError(
                f"{day_name} in {folder} names no day: name the folders like day=2026-01-31"
            ) from error
        changed = info.get("ETag") or info.get("mtime") or info.get("LastModified")
        start = _EPOCH + (day - _EPOCH) // length * length
        while start < day + _DAY_LONG:
            parts.setdefault(start, []).append(f"{day_name}/{name}:{info['size']}:{changed}")
            start += length
    rows = [
        {
            "window_start": pd.Timestamp(start).as_unit("us"),
            "model_version": version,
            "state": hashlib.sha256("\n".join(files_of).encode()).hexdigest()[:32],
        }
        for start, files_of in sorted(parts.items())
        for version in versions
    ]
    return pd.DataFrame(rows, columns=["window_start", "model_version", "state"])


class LogEngine(ABC):
    """A connection to what holds a log.

    Attributes:
        dialect: How its SQL is written.
        moment: A moment in its SQL; the braces stand for the moment in UTC, in ISO's format.
        log: The log's rows.
    """

    dialect: ClassVar[Dialect]
    moment: ClassVar[str] = "'{}+00:00'"
    log: sa.FromClause

    def sql(self, select: sa.Select[Any]) -> str:
        """Write a select with all its values."""
        return str(select.compile(dialect=self.dialect, compile_kwargs={"literal_binds": True}))

    def literal(self, moment: datetime) -> sa.ColumnElement[datetime]:
        """A moment as the log's event times can be compared with it.

        Raises:
            ValueError: If it has no time zone.
        """
        if moment.tzinfo is None:
            raise ValueError("since and until need a time zone")
        utc = moment.astimezone(UTC).replace(tzinfo=None)
        text = utc.isoformat(sep=" ", timespec="microseconds")
        return sa.literal_column(self.moment.format(text))

    def between(
        self, since: datetime | None, until: datetime | None
    ) -> list[sa.ColumnElement[bool]]:
        """Conditions that leave out what was measured before `since`, or at `until` and later."""
        event_time = self.log.c[EVENT_TIME]
        conditions = []
        if since is not None:
            conditions.append(event_time >= self.literal(since))
        if until is not None:
            conditions.append(event_time < self.literal(until))
        return conditions

    @abstractmethod
    def states(self, window: str, versions: Sequence[str], sources: Sources) -> pd.DataFrame:
        """The state of every window, see `LogReader`."""

    @abstractmethod
    def stream(self, select: sa.Select[Any]) -> Iterator[pd.DataFrame]:
        """Read the rows of a select in bounded parts; moments without a zone are UTC."""

    def count(self, select: sa.Select[Any], reference: Reference, grain: int) -> Profile:
        """Count the rows of a select by hour, see `count_batches`."""
        return count_batches(self.stream(select), reference, grain)

    @abstractmethod
    def close(self) -> None:
        """Disconnect."""


class _DatabaseEngine(LogEngine):
    """The inference log's own tables.

    Args:
        labelled_predictions: Select of at least `LOG_COLUMNS` and `PREDICTION_ID`, each prediction
            with its newest label.
    """

    def __init__(self, labelled_predictions: sa.Select[Any]) -> None:
        rows = labelled_predictions.subquery()
        columns = [rows.c[name] for name in LOG_COLUMNS]
        identifier = self.identifier(rows.c[PREDICTION_ID]).label(PREDICTION_ID)
        self.log = sa.select(*columns, identifier).subquery(_LOG)

    def states(self, window: str, versions: Sequence[str], sources: Sources) -> pd.DataFrame:
        """Tell the windows' states by their rows.

        A state holds numbers of wines and of labelled wines, sums of the labels, of their squares
        and of the seconds at which they were made: a further wine, a label, or a newer label
        changes it.
        """
        log = self.log.c
        step = window_length(window) // timedelta(seconds=1)
        second = self.seconds(log[EVENT_TIME])
        # databases round -1 / 2 up
        start = (second - (second % step + step) % step).label("start")
        quality = sa.cast(log[QUALITY], sa.Double)
        # of a NaN, too, this is not true
        known = sa.func.abs(quality) < _LARGEST
        sums = {
            "n": sa.func.count(),
            "labelled": sa.func.count(sa.case((known, 1))),
            "total": sa.func.sum(sa.case((known, quality))),
            "squares": sa.func.sum(sa.case((known, quality * quality))),
            "moments": sa.func.sum(sa.case((known, self.seconds(log[LABELLED_AT])))),
        }
        whole = [
            sa.cast(sa.func.coalesce(value, 0), sa.BigInteger).label(name)
            for name, value in sums.items()
        ]
        version = sources.traffic(self.log).label(MODEL_VERSION)
        select = (
            sa.select(start, version, *whole)
            .where(*sources.conditions(self.log))
            .group_by(start, version)
            .order_by(start, version)
        )
        names = ["start", MODEL_VERSION, *sums]
        found = pd.concat([pd.DataFrame(columns=names), *self.stream(select)], ignore_index=True)
        states = [
            ":".join(map(str, row)) for row in zip(*(found[name] for name in sums), strict=True)
        ]
        return pd.DataFrame(
            {
                "window_start": pd.to_datetime(found["start"], unit="s", utc=True).dt.as_unit("us"),
                MODEL_VERSION: found[MODEL_VERSION].astype("str"),
                "state": pd.Series(states, dtype="str"),
            }
        )

    @staticmethod
    @abstractmethod
    def identifier(column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """A prediction's identifier as text whose last digits are the UUID's."""

    @staticmethod
    @abstractmethod
    def seconds(moment: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
        """Whole seconds from 1970-01-01 UTC to a moment, rounded down."""


class SqliteEngine(_DatabaseEngine):
    """A SQLite file; its moments are text.

    Args:
        where: The file's address.
        labelled_predictions: See `_DatabaseEngine`.

    Raises:
        WineQualityError: If the file is not there.
    """

    # without marks for values, so that a % stays one
    dialect = SQLiteDialect(paramstyle="named")
    moment = "'{}'"

    def __init__(self, where: sa.URL, labelled_predictions: sa.Select[Any]) -> None:
        super().__init__(labelled_predictions)
        if not Path(where.database or "").is_file():
            raise WineQualityError(
                f"The inference log {where.render_as_string()} is not there: run 'kedro run' once, "
                "or send traffic with 'kedro run --pipeline serving_simulation'."
            )
        # nodes that read it one after the other may run in different threads
        self._connection = sqlite3.connect(str(where.database), check_same_thread=False)

    @staticmethod
    def identifier(column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """See `_DatabaseEngine`."""
        # sixteen bytes
        return sa.func.lower(sa.func.hex(column), type_=sa.Text)

    @staticmethod
    def seconds(moment: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
        """See `_DatabaseEngine`."""
        # to round a fraction is SQLite's way
        whole = sa.func.substr(sa.type_coerce(moment, sa.Text), 1, 19)
        return sa.cast(sa.func.strftime("%s", whole), sa.BigInteger)

    def stream(self, select: sa.Select[Any]) -> Iterator[pd.DataFrame]:
        """See `LogEngine`."""
        names = select.selected_columns.keys()
        with closing(self._connection.execute(self.sql(select))) as cursor:
            while rows := cursor.fetchmany(FETCHED):
                yield _frame_of(names, rows)

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()


def _frame_of(names: Sequence[str], rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Rows of SQLite, which keeps in any column whatever it is given."""
    measured = [k for k, name in enumerate(names) if name in _MEASURED]
    columns: dict[str, Any] = {}
    if len(measured) > 1:
        # all in one go takes a third of the time, but a text among them makes it fail
        with suppress(TypeError, ValueError):
            numbers = np.array(list(map(itemgetter(*measured), rows)), float)
            by_column = np.ascontiguousarray(numbers.T)
            columns = {names[k]: column for k, column in zip(measured, by_column, strict=True)}
    for k, name in enumerate(names):
        if name not in columns:
            columns[name] = _column(name, [row[k] for row in rows])
    return pd.DataFrame(columns, copy=False)


def _column(name: str, values: list[Any]) -> pd.Series:
    import pyarrow as pa

    if name in MOMENTS:
        return pd.Series(np.array(values, "datetime64[us]"))
    try:
        column = pa.array(values)
    except pa.ArrowException:
        return pd.Series(values, dtype=object)
    if pa.types.is_null(column.type):
        column = column.cast(pa.float64())
    series: pd.Series = column.to_pandas()
    return series


class PostgresEngine(_DatabaseEngine):
    """A PostgreSQL database, whose rows come as PostgreSQL's own binary copy.

    Args:
        where: The database's address, as SQLAlchemy takes it for psycopg.
        labelled_predictions: See `_DatabaseEngine`.

    Raises:
        WineQualityError: If the extra is not installed.
        ConnectionError: If the database cannot be reached, here or later.
    """

    # without marks for values, so that a % stays one
    dialect = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]

    def __init__(self, where: sa.URL, labelled_predictions: sa.Select[Any]) -> None:
        super().__init__(labelled_predictions)
        try:
            import adbc_driver_postgresql.dbapi as adbc
            from psycopg.conninfo import make_conninfo
        except ImportError as error:
            raise WineQualityError(
                f"PostgreSQL cannot be read ({error}): add its drivers with './just extras' (pip "
                "install wine-quality[postgres] elsewhere)."
            ) from error
        _, parameters = where.get_dialect()().create_connect_args(where)
        # psycopg's own, of no use to another driver
        parameters.pop("context", None)
        self._failures = (adbc.OperationalError, OSError)
        with self._explained():
            # no transaction stays open between two reads
            self._connection = adbc.connect(make_conninfo(**parameters), autocommit=True)

    @staticmethod
    def identifier(column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """See `_DatabaseEngine`."""
        return sa.cast(column, sa.Text)

    @staticmethod
    def seconds(moment: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
        """See `_DatabaseEngine`."""
        return sa.cast(sa.func.floor(sa.extract("epoch", moment)), sa.BigInteger)

    def stream(self, select: sa.Select[Any]) -> Iterator[pd.DataFrame]:
        """See `LogEngine`."""
        size = {"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)}
        with self._explained(), self._connection.cursor(adbc_stmt_kwargs=size) as cursor:
            cursor.execute(self.sql(select))
            yield from map(_frame, cursor.fetch_record_batch())

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            raise ConnectionError(f"PostgreSQL does not hand over the log: {error}") from error

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()


def open_database(url: str, labelled_predictions: sa.Select[Any]) -> SqliteEngine | PostgresEngine:
    """Open the inference log of a SQLite or PostgreSQL database.

    Args:
        url: As the inference log takes it.
        labelled_predictions: Select of at least `LOG_COLUMNS` and `PREDICTION_ID`, each prediction
            with its newest label.

    Raises:
        WineQualityError: If the database is not there or not of these two kinds.
    """
    where = parse_database_url(url)
    if where.get_backend_name() == "sqlite":
        return SqliteEngine(where, labelled_predictions)
    if where.get_backend_name() == "postgresql":
        return PostgresEngine(where, labelled_predictions)
    raise WineQualityError(
        f"Profiles cannot be computed in {where.get_backend_name()}: use a URL that begins "
        "with sqlite:/// or postgresql://."
    )


class _LakeEngine(LogEngine):
    """Parquet files in folders `day=YYYY-MM-DD`; a prediction's event time lies in its day, UTC."""

    folder: str

    def between(
        self, since: datetime | None, until: datetime | None
    ) -> list[sa.ColumnElement[bool]]:
        """Leave out the other days' files, too, which need not be opened then."""
        conditions = super().between(since, until)
        day = self.log.c[_DAY]
        if since is not None:
            conditions.append(day >= f"{since.astimezone(UTC):%Y-%m-%d}")
        if until is not None:
            conditions.append(day <= f"{until.astimezone(UTC):%Y-%m-%d}")
        return conditions

    def states(self, window: str, versions: Sequence[str], sources: Sources) -> pd.DataFrame:
        """Tell the windows' states by the files of their days, without reading a row."""
        return lake_states(self.folder, versions, window)


class DuckdbEngine(_LakeEngine):
    """A lake read by DuckDB.

    Args:
        folder: The folder of the days' folders, a path or an address.
        memory_limit: DuckDB's own buffers may take this much.
        threads: Number of threads.

    Raises:
        WineQualityError: If there are no such files, or they have no event times.
    """

    # DuckDB writes SQL as PostgreSQL does
    dialect = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]

    def __init__(self, folder: str, memory_limit: str, threads: int) -> None:
        import duckdb

        self.folder = folder
        self._connection = duckdb.connect(
            config={
                # what does not fit goes there, not into the folder that the run was started in
                "temp_directory": f"{gettempdir()}/wine-quality-duckdb-{os.getpid()}",
                "memory_limit": memory_limit,
                "threads": threads,
                "preserve_insertion_order": False,
                # no file is read twice
                "enable_external_file_cache": False,
            }
        )
        self._connection.execute("SET TimeZone = 'UTC'")
        if is_address(folder):
            # read through fsspec: DuckDB's own way to S3 is an extension, which it would download
            self._connection.register_filesystem(find_store(folder)[0])
        files = "'{}/day=*/*.parquet'".format(folder.replace("'", "''"))
        rows = f"read_parquet({files}, hive_partitioning = true, union_by_name = true)"
        try:
            described = self._connection.execute(f"DESCRIBE FROM {rows}").fetchall()
        except duckdb.IOException as error:
            raise _nothing_in(folder) from error
        kinds = {name: kind for name, kind, *_ in described}
        moment = f"{EVENT_TIME}::TIMESTAMPTZ" if _is_text(kinds) else EVENT_TIME
        self._connection.execute(
            f"CREATE VIEW {_LOG} AS SELECT * REPLACE ({moment} AS {EVENT_TIME}) FROM {rows}"  # noqa: S608
        )
        self.log = _log_of(kinds)

    def stream(self, select: sa.Select[Any]) -> Iterator[pd.DataFrame]:
        """See `LogEngine`."""
        yield from map(_frame, self._connection.execute(self.sql(select)).to_arrow_reader(BATCH))

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()


class _SparkDialect(DefaultDialect):
    """Spark's SQL as far as it differs: names stand in backticks, and texts are strings."""

    supports_statement_cache = True

    class type_compiler_cls(GenericTypeCompiler):  # noqa: N801  SQLAlchemy's name for it
        def visit_TEXT(self, type_: Any, **_: Any) -> str:  # noqa: N802
            return "STRING"

    class preparer(IdentifierPreparer):  # noqa: N801
        def __init__(self, dialect: Dialect) -> None:
            super().__init__(dialect, initial_quote="`")


class SparkEngine(_LakeEngine):
    """A lake read by Spark, and counted in its workers.

    Args:
        folder: The folder of the days' folders, as Spark reads it.

    Raises:
        WineQualityError: As `DuckdbEngine`, and if there is no Spark.
    """

    dialect = _SparkDialect(paramstyle="named")
    moment = "TIMESTAMP'{}+00:00'"

    def __init__(self, folder: str) -> None:
        self.folder = folder
        require_spark()
        from pyspark.errors import AnalysisException, PySparkException
        from pyspark.sql import SparkSession

        self._is_ours = SparkSession.getActiveSession() is None
        try:
            # the settings below are those of this one alone
            self._session = _spark_session().newSession()
        except PySparkException as error:
            raise WineQualityError(
                f"Spark does not start ({error}): install Java 17, or set JAVA_HOME to it."
            ) from error
        for name, value in {
            "spark.sql.session.timeZone": "UTC",
            # moments written without a time zone are UTC
            "spark.sql.parquet.inferTimestampNTZ.enabled": "false",
            "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH),
        }.items():
            self._session.conf.set(name, value)
        try:
            rows = self._session.read.parquet(folder)
        except AnalysisException as error:
            raise _nothing_in(folder) from error
        kinds = dict(rows.dtypes)
        if _is_text(kinds):
            rows = rows.withColumn(EVENT_TIME, rows[EVENT_TIME].cast("timestamp"))
        rows.createOrReplaceTempView(_LOG)
        self.log = _log_of(kinds)

    def stream(self, select: sa.Select[Any]) -> Iterator[pd.DataFrame]:
        """See `LogEngine`; only what is counted does not come to this process as a whole."""
        yield from map(_frame, self._session.sql(self.sql(select)).toArrow().to_batches())

    def count(self, select: sa.Select[Any], reference: Reference, grain: int) -> Profile:
        """See `LogEngine`."""

        def profile(batches: Iterator["pa.RecordBatch"]) -> Iterator["pa.RecordBatch"]:
            import pyarrow as pa

            counted = count_batches(map(_frame, batches), reference, grain)
            yield pa.RecordBatch.from_pydict({"profile": [pickle.dumps(counted)]})

        parts = self._session.sql(self.sql(select)).mapInArrow(profile, "profile binary")
        # written by the function above
        profiles = (pickle.loads(row.profile) for row in parts.collect())  # noqa: S301
        return merge_profiles(profiles, reference)

    def close(self) -> None:
        """Stop Spark, if it was started here."""
        if self._is_ours:
            self._session.stop()


def require_spark() -> None:
    """See that Spark is installed, and what it runs on; nothing is started.

    Raises:
        WineQualityError: It is not.
    """
    if find_spec("pyspark") is None:
        raise WineQualityError(
            "Spark is not installed: add it with './just extras' (pip install "
            "wine-quality[spark] elsewhere), and Java 17."
        )
    if not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
        raise WineQualityError("Spark needs Java: install Java 17, or set JAVA_HOME to it.")


def _spark_session() -> Any:
    """The current session, or a new one by Spark's own defaults, without a page or a progress bar.

    Where Spark's configuration names a master, that is used; else this machine.
    """
    from pyspark.sql import SparkSession

    session = SparkSession.getActiveSession()
    if session is None:
        quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
        session = SparkSession.builder.appName("wine_quality").config(map=quiet).getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
    context = session.sparkContext
    if context.master.startswith("local") and "PYSPARK_PYTHON" not in os.environ:
        # its workers need the packages of this Python; else it takes the first on the PATH
        context.pythonExec = sys.executable
    return session


def _frame(batch: "pa.RecordBatch") -> pd.DataFrame:
    frame: pd.DataFrame = batch.to_pandas(split_blocks=True)
    return frame


def _is_text(kinds: Mapping[str, str]) -> bool:
    """Tell whether a lake keeps its event times as text, which has to be read first.

    Raises:
        WineQualityError: If it has none, or no model versions.
    """
    absent = [name for name in (EVENT_TIME, MODEL_VERSION) if name not in kinds]
    if absent:
        raise WineQualityError(
            f"the inference log has no column {' and no '.join(absent)}: write it into the files"
        )
    kind = kinds[EVENT_TIME].lower()
    if not kind.startswith(("timestamp", "varchar", "string")):
        raise WineQualityError(
            f"{EVENT_TIME} in the inference log is {kind}: write it as a moment in UTC, with time "
            "zone"
        )
    return not kind.startswith("timestamp")


def _log_of(kinds: Iterable[str]) -> sa.TableClause:
    return sa.table(_LOG, *map(sa.column, kinds))


def _nothing_in(folder: str) -> WineQualityError:
    return WineQualityError(
        f"There is no log in {folder}: it needs Parquet files in folders named day=YYYY-MM-DD."
    )
