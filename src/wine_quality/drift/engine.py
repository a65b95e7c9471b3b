"""Profiles computed where the log lies, whichever engine holds it.

PostgreSQL and Spark do what `profile_windows` does with a frame in one Ibis expression, and only
counts leave them. Each column is one group-by of its own, all of them united, so that a log that is
being written to is seen at one moment: a single scan that keeps every column's bins at once is
slower and needs far more memory. SQLite and DuckDB work in this process, so that nothing has to
travel: they hand the rows of one statement over in parts, which NumPy counts many times faster.
"""

import math
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from wine_quality.database.addresses import parse_database_url
from wine_quality.drift.profiles import (
    COUNTS_DTYPES,
    ERRORS_DTYPES,
    LARGEST_ERROR,
    OTHER_TYPE,
    ColumnBins,
    Fault,
    Profile,
    Reference,
    profile_batches,
)
from wine_quality.drift.settings import window_length
from wine_quality.errors import WineQualityError
from wine_quality.storage import find_store, is_address
from wine_quality.wines import (
    INPUTS,
    PREDICTION,
    QUALITY,
    QUALITY_DTYPE,
    QUALITY_STEP,
    TYPE,
    WINE_TYPES,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import sqlalchemy as sa

LABELLED_AT = "labelled_at"
LOG_COLUMNS = ("event_time", "model_version", *INPUTS, PREDICTION, QUALITY, LABELLED_AT)
"""What monitoring reads of a log kept in a database."""
PREDICTION_ID = "prediction_id"
INFINITY = math.inf
_MANTISSA_BITS = 53
_LARGEST_SHIFT = 62
_BATCH, _FETCHED = 65_536, 32_768
"""Rows read at a time from DuckDB (about 130 B each) and, as Python's objects, from SQLite."""
_IN_THIS_PROCESS = {"duckdb", "sqlite"}
_WINDOW = "window_second"


def database_log(url: str, labelled_predictions: "sa.Select[Any]") -> "ir.Table":
    """Open the inference log of a SQLite or PostgreSQL database.

    Args:
        url: As the inference log takes it.
        labelled_predictions: Select of at least `LOG_COLUMNS` and `PREDICTION_ID`, each prediction
            with its newest label; bound values are written into it.

    Returns:
        The log's `LOG_COLUMNS`, and its identifiers as text. In SQLite moments are text, as they
        are stored there. Close it with `table.get_backend().disconnect()`.

    Raises:
        WineQualityError: If the database is not there or not of these two kinds.
    """
    import ibis
    import sqlalchemy as sa

    where = parse_database_url(url)
    of_log = labelled_predictions.subquery()
    identifier = of_log.c[PREDICTION_ID]
    if where.get_backend_name() == "sqlite":
        if not Path(where.database or "").is_file():
            raise WineQualityError(
                f"The inference log {where.render_as_string()} is not there: run 'kedro run' once, "
                "or send traffic with 'kedro run --pipeline serving_simulation'."
            )
        # nodes that read it one after the other may run in different threads
        shared = sqlite3.connect(str(where.database), check_same_thread=False)
        connection = ibis.sqlite.from_connection(shared)
        moments = "string"
        # sixteen bytes
        as_text: sa.ColumnElement[str] = sa.func.lower(sa.func.hex(identifier))
    elif where.get_backend_name() == "postgresql":
        connection = ibis.postgres.connect(
            host=where.host,
            port=where.port or 5432,
            user=where.username,
            password=where.password,
            database=where.database,
            **where.query,
        )
        moments = "timestamp('UTC')"
        as_text = sa.cast(identifier, sa.Text)
    else:
        raise WineQualityError(
            f"Profiles cannot be computed in {where.get_backend_name()}: use a URL that begins "
            "with sqlite:/// or postgresql://."
        )
    dialect = where.get_dialect()()
    columns = [of_log.c[name] for name in LOG_COLUMNS]
    selected = sa.select(*columns, as_text.label(PREDICTION_ID))
    # sqlalchemy doubles % for drivers that substitute; this text goes to none
    query = selected.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    # said, since an empty SQLite table would not tell
    schema = {
        **dict.fromkeys(LOG_COLUMNS, "float64"),
        **dict.fromkeys(("model_version", TYPE), "string"),
        **dict.fromkeys(("event_time", LABELLED_AT), moments),
        QUALITY: QUALITY_DTYPE,
        PREDICTION_ID: "string",
    }
    return connection.sql(str(query).replace("%%", "%"), schema=schema)


def lake_log(folder: str, memory_limit: str = "300MB", threads: int = 2) -> "ir.Table":
    """Open a log of Parquet files in folders `day=YYYY-MM-DD`, with DuckDB.

    Args:
        folder: The folder of the days' folders, a path or an address.
        memory_limit: DuckDB's own buffers may take this much.
        threads: Number of threads.

    Raises:
        WineQualityError: If there are no such files.
    """
    import duckdb
    import ibis
    import sqlglot as sg

    connection = ibis.duckdb.connect(
        # what does not fit goes there, not into the folder that the run was started in
        temp_directory=f"{gettempdir()}/wine-quality-duckdb-{os.getpid()}",
        memory_limit=memory_limit,
        threads=threads,
        preserve_insertion_order=False,
        # no file is read twice
        enable_external_file_cache=False,
    )
    if is_address(folder):
        # read through fsspec: DuckDB's own way to S3 is an extension, which it would download; the
        # statement below is ours because Ibis asks for that one by the address alone
        connection.register_filesystem(find_store(folder)[0])
    files = sg.exp.Literal.string(f"{folder}/day=*/*.parquet").sql("duckdb")
    options = "hive_partitioning = true, union_by_name = true"
    try:
        return connection.sql(f"SELECT * FROM read_parquet({files}, {options})")  # noqa: S608
    except duckdb.IOException as error:
        raise _nothing_in(folder) from error


def spark_log(folder: str, session: Any = None) -> "ir.Table":
    """Open a log of Parquet files in folders `day=YYYY-MM-DD`, with Spark.

    Args:
        folder: The folder of the days' folders, as Spark reads it.
        session: A SparkSession; without one, the current one or a new one.

    Raises:
        WineQualityError: If there are no such files, or no Spark.
    """
    import ibis

    require_spark()
    from pyspark.errors import AnalysisException, PySparkException

    try:
        connection = ibis.pyspark.connect(session or _spark_session())
    except PySparkException as error:
        raise WineQualityError(
            f"Spark does not start ({error}): install Java 17, or set JAVA_HOME to it."
        ) from error
    # moments written without a time zone are UTC, whatever the session's time zone is
    connection.raw_sql("SET spark.sql.parquet.inferTimestampNTZ.enabled = false")
    try:
        return connection.read_parquet(folder)
    except AnalysisException as error:
        raise _nothing_in(folder) from error


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
    return session


def _nothing_in(folder: str) -> WineQualityError:
    return WineQualityError(
        f"There is no log in {folder}: it needs Parquet files in folders named day=YYYY-MM-DD."
    )


def profile_table(
    table: "ir.Table",
    reference: Reference,
    window: str = "1D",
    since: datetime | None = None,
    until: datetime | None = None,
) -> Profile:
    """Count an inference log's wines per window, model version, column and bin, in its engine.

    Args:
        table: One row per prediction, with the columns that `profile_windows` takes, each of
            whatever type. Moments without a time zone, and those kept as text, are UTC.
        reference: Says which bins there are.
        window: Length of a window, see `DriftSettings`.
        since: First event time counted, with a time zone; a window's start, or that window is
            counted in part. From the beginning, if not given.
        until: First event time no longer counted, likewise.

    Returns:
        What `profile_windows` returns for the same rows: the same integers, sums that differ in
        rounding alone.

    Raises:
        WineQualityError: If a prediction has no event time or no model version, or if the engine
            cannot read the moments.
    """
    keyed = _keyed(between(table, since, until), window)
    columns = sorted(reference.columns, key=lambda c: c.bins.name)
    if table.get_backend().name in _IN_THIS_PROCESS:
        names = [column.bins.name for column in columns]
        return profile_batches(_batches(keyed, [*names, QUALITY]), reference, window)
    counted = _united([_count(keyed, column.bins) for column in columns]).to_pandas()
    _require_keys(counted[counted["column"] == columns[0].bins.name])
    summed = _errors(keyed)
    errors = pd.DataFrame(columns=[_WINDOW, "model_version", "segment", *_SUMS])
    if summed is not None:
        errors = summed.to_pandas()
    return Profile(
        _finished(counted, ["column", "bin"], COUNTS_DTYPES),
        _finished(errors, ["segment"], ERRORS_DTYPES),
    )


def window_states(
    table: "ir.Table",
    window: str = "1D",
    since: datetime | None = None,
    until: datetime | None = None,
) -> pd.DataFrame:
    """Say in short what each window of a log holds, so that a change of it can be told.

    Args:
        table: As `profile_table` takes it, and `labelled_at`.
        window: Length of a window, see `DriftSettings`.
        since: First event time looked at, see `profile_table`.
        until: First event time no longer looked at.

    Returns:
        One row per `window_start` and `model_version`, in this order, and a text `state`: numbers
        of wines and of labelled wines, sums of the labels, of their squares and of the seconds
        at which they were made. A further wine, a label, or a newer label changes it.

    Raises:
        WineQualityError: As `profile_table`.
    """
    import ibis

    keyed = _keyed(between(table, since, until), window)
    label = _number(keyed[QUALITY])
    if label is None:
        raise WineQualityError("quality in the inference log is no number: repair its schema")
    known = label.abs() < INFINITY
    quality = known.ifelse(label, ibis.null("float64"))
    moment = known.ifelse(_seconds(keyed, LABELLED_AT), ibis.null("int64"))
    found = (
        keyed.group_by([_WINDOW, "model_version"])
        .aggregate(
            n=keyed.count(),
            labelled=quality.count(),
            total=quality.sum(),
            squares=(quality * quality).sum(),
            moments=moment.sum().cast("int64"),
        )
        .to_pandas()
    )
    _require_keys(found)
    parts = [found[name].fillna(0) for name in ("n", "labelled", "total", "squares", "moments")]
    states = [":".join(f"{int(x)}" for x in row) for row in zip(*parts, strict=True)]
    dtypes = {"window_start": "datetime64[us, UTC]", "model_version": "str", "state": "str"}
    return _finished(found.assign(state=pd.Series(states, dtype="str")), [], dtypes)


def between(table: "ir.Table", since: datetime | None, until: datetime | None) -> "ir.Table":
    """Leave out what was measured before `since`, or at `until` and later.

    Args:
        table: As `profile_table` takes it.
        since: A moment with a time zone, or None for the beginning.
        until: A moment with a time zone, or None for the end.
    """
    if since is not None:
        table = table.filter(table["event_time"] >= _moment(table, since))
    if until is not None:
        table = table.filter(table["event_time"] < _moment(table, until))
    return table


def _moment(table: "ir.Table", moment: datetime) -> Any:
    """A moment as the log's event times can be compared with it."""
    import ibis

    if moment.tzinfo is None:
        raise ValueError("since and until need a time zone")
    utc = moment.astimezone(UTC).replace(tzinfo=None)
    kind = table["event_time"].type()
    if kind.is_string():
        return ibis.literal(utc.isoformat(sep=" ", timespec="microseconds"))
    # Spark's moments have no time zone of their own, but are compared in the session's
    zoneless = kind.timezone is None and table.get_backend().name != "pyspark"
    return ibis.timestamp(utc if zoneless else utc.replace(tzinfo=UTC))


def _keyed(table: "ir.Table", window: str) -> "ir.Table":
    """Add each row's window, as seconds since 1970 of its start."""
    absent = [name for name in ("event_time", "model_version") if name not in table.columns]
    if absent:
        raise WineQualityError(
            f"the inference log has no column {' and no '.join(absent)}: read it from the log"
        )
    return table.mutate(
        **{
            _WINDOW: _seconds(table, "event_time", window_length(window) // timedelta(seconds=1)),
            "model_version": table["model_version"].cast("string"),
        }
    )


def _seconds(table: "ir.Table", name: str, step: int = 1) -> Any:
    """Whole seconds from 1970-01-01 UTC to a moment, rounded down to a multiple of step.

    Every engine rounds a moment's fraction in its own way when asked for seconds, and some look at
    the session's time zone; so the fraction goes first, in a way of which neither is true.
    """
    import ibis

    moment = table[name]
    kind = moment.type()
    if kind.is_string():
        return moment.substr(0, 19).cast("timestamp").epoch_seconds().cast("int64") // step * step
    engine = table.get_backend().name
    if not kind.is_timestamp():
        raise WineQualityError(
            f"{name} in the inference log is {kind}: write it as a moment in UTC, with time zone"
        )
    if engine == "duckdb":

        @ibis.udf.scalar.builtin(signature=((kind,), "int64"))  # type: ignore[untyped-decorator]
        def epoch_us(moment: Any) -> Any: ...

        return epoch_us(moment) // (step * 1_000_000) * step
    return moment.truncate("s").epoch_seconds().cast("int64") // step * step


def _count(keyed: "ir.Table", bins: ColumnBins) -> "ir.Table":
    """Count one column by window, version and bin."""
    import ibis

    low = high = ibis.null("float64")
    if bins.name not in keyed.columns:
        codes = ibis.literal(Fault.ABSENT.value, "int64")
    elif bins.is_category:
        codes = _category_codes(keyed[bins.name], bins.categories)
    elif (number := _number(keyed[bins.name])) is None:
        codes = keyed[bins.name].isnull()  # noqa: PD003  Ibis, not pandas
        codes = codes.ifelse(Fault.MISSING.value, Fault.INVALID.value)
    else:
        codes = _number_codes(number, bins)
        low, high = number.min(), number.max()
    coded = keyed.mutate(bin=codes.cast("int64"))
    return (
        coded.group_by([_WINDOW, "model_version", "bin"])
        .aggregate(n=coded.count(), minimum=low, maximum=high)
        .mutate(column=ibis.literal(bins.name))
        .select(_WINDOW, "model_version", "column", "bin", "n", "minimum", "maximum")
    )


def _category_codes(column: Any, categories: Sequence[str]) -> Any:
    import ibis

    known = []
    if column.type().is_string():
        known = [(column == name, k) for k, name in enumerate(categories)]
    return ibis.cases((_missing(column), Fault.MISSING.value), *known, else_=Fault.UNKNOWN.value)


def _missing(column: Any) -> Any:
    missing = column.isnull()  # noqa: PD003  Ibis, not pandas
    if column.type().is_floating():
        missing |= column > INFINITY  # NaN, which every engine that has it sorts last
    return missing


def _number(column: Any) -> Any:
    """A column as floats; None if it holds no numbers (a text is none, whatever it says)."""
    kind = column.type()
    if kind.is_boolean():
        column = column.cast("int64")
    elif not kind.is_numeric():
        return None
    return column.cast("float64")


def _number_codes(x: Any, bins: ColumnBins) -> Any:
    """Each number's bin, by bisection: five comparisons instead of twenty.

    Whatever no comparison holds for goes the way of the large numbers: NaN, which every engine that
    has it sorts above infinity, and null.
    """
    import ibis

    # upper bounds in ascending order; at the same value the one that excludes it comes first
    cuts: list[tuple[float, bool, Fault | None]] = [(edge, True, None) for edge in bins.edges]
    if bins.plausible is not None:
        low, high = bins.plausible
        cuts += [(low, False, Fault.TOO_LOW), (high, True, Fault.TOO_HIGH)]
    cuts.sort(key=lambda cut: cut[:2])

    def code(passed: int) -> int:
        beyond = [fault for _, _, fault in cuts[:passed]]
        if Fault.TOO_HIGH in beyond:
            return Fault.TOO_HIGH.value
        if Fault.TOO_LOW in [fault for _, _, fault in cuts[passed:]]:
            return Fault.TOO_LOW.value
        return beyond.count(None)

    def bisect(first: int, last: int) -> Any:
        if first < last:
            middle = (first + last) // 2
            value, inclusive, _ = cuts[middle]
            below = x <= _exact(value) if inclusive else x < _exact(value)
            return below.ifelse(bisect(first, middle), bisect(middle + 1, last))
        leaf: Any = ibis.literal(code(first), "int64")
        if first == 0:
            leaf = (x > -INFINITY).ifelse(leaf, Fault.INVALID.value)
        if last == len(cuts):
            leaf = ibis.cases(
                (x < INFINITY, leaf),
                (x <= INFINITY, Fault.INVALID.value),
                else_=Fault.MISSING.value,
            )
        return leaf

    return bisect(0, len(cuts))


def _exact(value: float) -> Any:
    """A float that is the same in every engine.

    Edges are values that occur, so that ties are the rule; but engines read decimal fractions as
    decimals, or miss the nearest float by a bit. An integer of 53 bits and powers of two are exact
    in all of them.
    """
    import ibis

    fraction, exponent = math.frexp(value)
    shift = exponent - _MANTISSA_BITS
    number = ibis.literal(int(fraction * 2**_MANTISSA_BITS), "int64").cast("float64")
    while shift:
        part = max(-_LARGEST_SHIFT, min(_LARGEST_SHIFT, shift))
        power = ibis.literal(2 ** abs(part), "int64").cast("float64")
        number = number * power if part > 0 else number / power
        shift -= part
    return number


_SUMS = tuple(ERRORS_DTYPES)[3:]


def _errors(keyed: "ir.Table") -> "ir.Table | None":
    """Sum the errors by window, version and segment; None if no wine can have one."""
    import ibis

    if not {PREDICTION, QUALITY} <= set(keyed.columns):
        return None
    prediction, quality = _number(keyed[PREDICTION]), _number(keyed[QUALITY])
    if prediction is None or quality is None:
        return None
    segment: Any = ibis.literal(OTHER_TYPE)
    if TYPE in keyed.columns and keyed[TYPE].type().is_string():
        segment = keyed[TYPE].isin(WINE_TYPES).ifelse(keyed[TYPE], OTHER_TYPE)
    rows = keyed.select(_WINDOW, "model_version", segment=segment, error=prediction - quality)
    rows = rows.filter(rows["error"].abs() < INFINITY)
    rows = rows.mutate(error=rows["error"].clip(-LARGEST_ERROR, LARGEST_ERROR))
    error, size = rows["error"], rows["error"].abs()
    square = error * error
    return rows.group_by([_WINDOW, "model_version", "segment"]).aggregate(
        labelled=rows.count(),
        error=error.sum(),
        absolute_error=size.sum(),
        squared_error=square.sum(),
        fourth_power=(square * square).sum(),
        within_half=(size <= 0.5 * QUALITY_STEP).ifelse(1, 0).sum(),
        within_one=(size <= QUALITY_STEP).ifelse(1, 0).sum(),
    )


def _batches(keyed: "ir.Table", names: Iterable[str]) -> Iterator[pd.DataFrame]:
    """Read a log in parts, each column as one that `profile_windows` counts the same, but fast."""
    import ibis

    def plain(column: Any) -> Any:
        if column.type().is_string():
            return column
        number = _number(column)
        if number is not None and column.get_name() != TYPE:
            return number
        # neither a number nor a known category, whatever it is
        return _missing(column).ifelse(ibis.null("string"), "")

    columns = {name: plain(keyed[name]) for name in names if name in keyed.columns}
    moments = keyed["event_time"]
    if not moments.type().is_timestamp():
        moments = keyed[_WINDOW]
    rows = keyed.select("model_version", event_time=moments, **columns)
    # map keeps no part while the next is read
    return map(_dated, (_fetched if rows.get_backend().name == "sqlite" else _streamed)(rows))


def _dated(part: pd.DataFrame) -> pd.DataFrame:
    """Turn seconds since 1970 into moments; what are moments stay the same."""
    moments = pd.to_datetime(part["event_time"], unit="s", utc=True, cache=False)
    return part.assign(event_time=moments)


def _streamed(rows: "ir.Table") -> Iterator[pd.DataFrame]:
    import pyarrow as pa

    batches = rows.to_pyarrow_batches(chunk_size=_BATCH)
    return map(partial(pa.RecordBatch.to_pandas, split_blocks=True), batches)


def _fetched(rows: "ir.Table") -> Iterator[pd.DataFrame]:
    """Read SQLite's rows in parts; Ibis would hold all of them at once."""
    engine = rows.get_backend()
    with closing(engine.raw_sql(engine.compile(rows))) as cursor:
        while fetched := cursor.fetchmany(_FETCHED):
            yield pd.DataFrame(fetched, columns=list(rows.columns))


def _united(tables: "Sequence[ir.Table]") -> "ir.Table":
    import ibis

    return ibis.union(*tables, distinct=False) if len(tables) > 1 else tables[0]


def _require_keys(found: pd.DataFrame) -> None:
    for name, key in (("event time", _WINDOW), ("model version", "model_version")):
        if nulls := int(found.loc[found[key].isna(), "n"].sum()):
            raise WineQualityError(f"{nulls} predictions have no {name}: repair them in the log")


def _finished(found: pd.DataFrame, keys: list[str], dtypes: dict[str, str]) -> pd.DataFrame:
    """Give what an engine answered the order and the types of a profile."""
    ordered = found.sort_values([_WINDOW, "model_version", *keys], ignore_index=True)
    for name in {"minimum", "maximum"} & set(dtypes):
        # those of faults that are no numbers: infinite ones and NaN
        ordered[name] = ordered[name].astype("float64").where(np.isfinite)
    seconds = ordered[_WINDOW].astype("int64")
    starts = pd.to_datetime(seconds, unit="s", utc=True).dt.as_unit("us")
    return ordered.assign(window_start=starts)[list(dtypes)].astype(dtypes)
