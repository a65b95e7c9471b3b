"""Predictions and shadow answers into the inference log's tables: by columns, past SQLAlchemy."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain, repeat
from operator import itemgetter
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from wine_quality.database.engines import sqlite_connection
from wine_quality.serving.log_schema import PREDICTION_REQUESTS, PREDICTIONS, SHADOW_PREDICTIONS
from wine_quality.serving.prediction_batch import (
    LoggedBatch,
    PredictionBatch,
    RequestConflictError,
)
from wine_quality.wines import MEASUREMENT_NAMES, TYPE

_T = TypeVar("_T")
_IDS_A_LOOKUP = 1_000
_ROWS_A_STATEMENT = 100
_COLUMNS = (
    "prediction_id", "event_time", "received_at", "model_version", "source", "request_id", TYPE,
    *MEASUREMENT_NAMES, "prediction", "latency_ms",
)  # fmt: skip
_POSTGRES = postgresql.dialect()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, eq=False)
class ShadowAnswers:
    """What a challenger said of n wines that another version answered.

    Attributes:
        prediction_ids: Of the n predictions that were given.
        model_version: The challenger's version.
        predictions: Its n predicted qualities, shape (n,).
        answered_at: When it said so, with a timezone.
    """

    prediction_ids: Sequence[UUID]
    model_version: str
    predictions: NDArray[np.float64]
    answered_at: datetime

    def __len__(self) -> int:
        """How many wines."""
        return len(self.prediction_ids)


class _Target:
    """Columns of a table that rows are written to.

    Args:
        table: The table.
        columns: Names of its columns, in the order of the rows' values.
    """

    def __init__(self, table: sa.Table, columns: Sequence[str]) -> None:
        self._name = table.name
        self._width = len(columns)
        self._list = ", ".join(f'"{name}"' for name in columns)
        self._types = [table.c[name].type.compile(_POSTGRES).lower() for name in columns]
        self._statements: dict[int, str] = {}

    def write(self, connection: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
        """Write rows, whose values are as the database's driver takes them."""
        write = self._insert if connection.dialect.name == "sqlite" else self._copy
        write(connection, rows)

    def _insert(self, connection: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
        # A hundred rows a statement, and not `executemany`: the driver gives the interpreter's lock
        # away and has to win it back at every row, which under load takes longer than the row.
        driver = sqlite_connection(connection)
        values = tuple(chain.from_iterable(rows))
        for start in range(0, len(values), self._width * _ROWS_A_STATEMENT):
            chunk = values[start : start + self._width * _ROWS_A_STATEMENT]
            driver.execute(self._statement(len(chunk) // self._width), chunk)

    def _statement(self, n: int) -> str:
        """The statement that inserts n rows."""
        if n not in self._statements:
            rows = ", ".join([f"({', '.join('?' * self._width)})"] * n)
            self._statements[n] = f"INSERT INTO {self._name} ({self._list}) VALUES {rows}"  # noqa: S608
        return self._statements[n]

    def _copy(self, connection: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
        driver: Any = connection.connection
        statement = f"COPY {self._name} ({self._list}) FROM STDIN (FORMAT BINARY)"
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(self._types)
            for row in rows:
                copy.write_row(row)


_PREDICTIONS = _Target(PREDICTIONS, _COLUMNS)
_SHADOWS = _Target(
    SHADOW_PREDICTIONS, ("prediction_id", "model_version", "prediction", "answered_at")
)


def append_batches(
    connection: Connection, batches: Sequence[PredictionBatch]
) -> list[LoggedBatch | RequestConflictError]:
    """Write the predictions of k requests within a transaction.

    Args:
        connection: In a transaction that writes.
        batches: k requests.

    Returns:
        k results in their order: what the log holds for each, or why it was not written.
    """
    keys = [batch.request_id for batch in batches if batch.request_id is not None]
    seen = stored_requests(connection, keys) if keys else {}
    results: list[LoggedBatch | RequestConflictError] = []
    new: list[PredictionBatch] = []
    requests: list[dict[str, Any]] = []
    for batch in batches:
        key = batch.request_id
        digest = batch.digest() if key is not None else b""
        if key is not None and key in seen:
            results.append(repeat_request(key, digest, *seen[key]))
            continue
        logged = LoggedBatch.of(batch)
        results.append(logged)
        new.append(batch)
        if key is not None:
            seen[key] = (digest, logged)
            requests.append(
                {
                    "request_id": key,
                    "first_prediction_id": batch.prediction_ids[0],
                    "last_prediction_id": batch.prediction_ids[-1],
                    "digest": digest,
                }
            )
    if requests:
        # in one order: two processes that are given the same requests would wait for each other
        requests.sort(key=itemgetter("request_id"))
        connection.execute(sa.insert(PREDICTION_REQUESTS), requests)
    if new:
        rows_of = _sqlite_rows if connection.dialect.name == "sqlite" else _postgres_rows
        _PREDICTIONS.write(connection, chain.from_iterable(map(rows_of, new)))
    return results


def append_shadows(connection: Connection, answers: Sequence[ShadowAnswers]) -> None:
    """Write shadow answers within a transaction."""
    is_sqlite = connection.dialect.name == "sqlite"
    # moments are written down once for many answers of a wine each
    moments = {a.answered_at for a in answers}
    written = {m: _sqlite_moment(m) if is_sqlite else _utc(m) for m in moments}
    rows = (
        (i.bytes if is_sqlite else i, a.model_version, prediction, written[a.answered_at])
        for a in answers
        for i, prediction in zip(a.prediction_ids, a.predictions.tolist(), strict=True)
    )
    # made before the first of them is written
    _SHADOWS.write(connection, list(rows))


def repeat_request(
    key: str, digest: bytes, stored_digest: bytes, stored: LoggedBatch
) -> LoggedBatch | RequestConflictError:
    """What a request gets whose key has come before: the same, if its wines are the same."""
    if digest != stored_digest:
        return RequestConflictError(key)
    return replace(stored, repeated=True)


def stored_requests(
    connection: Connection, keys: Sequence[str]
) -> dict[str, tuple[bytes, LoggedBatch]]:
    """The requests among these that are in the log: digest and predictions of each."""
    stored: dict[str, tuple[bytes, LoggedBatch]] = {}
    for chunk in chunks(keys):
        query = sa.select(PREDICTION_REQUESTS).where(PREDICTION_REQUESTS.c.request_id.in_(chunk))
        for request in connection.execute(query).all():
            # A request's rows lie between its first and its last id, with few others among them, so
            # that the primary key finds them and request_id needs no index. Not one query for all
            # requests: PostgreSQL would join them by reading the whole table.
            rows = connection.execute(
                sa.select(
                    PREDICTIONS.c.prediction_id,
                    PREDICTIONS.c.prediction,
                    PREDICTIONS.c.model_version,
                )
                .where(
                    PREDICTIONS.c.prediction_id.between(
                        request.first_prediction_id, request.last_prediction_id
                    ),
                    PREDICTIONS.c.request_id == request.request_id,
                )
                .order_by(PREDICTIONS.c.prediction_id)
            )
            ids, predictions, versions = zip(*rows.tuples(), strict=True)
            logged = LoggedBatch(ids, predictions, versions, repeated=False)
            stored[request.request_id] = (bytes(request.digest), logged)
    return stored


def chunks(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Cut into pieces small enough for the databases' limits on parameters."""
    for start in range(0, len(values), _IDS_A_LOOKUP):
        yield values[start : start + _IDS_A_LOOKUP]


def _postgres_rows(batch: PredictionBatch) -> Iterable[tuple[Any, ...]]:
    numbers = np.column_stack(
        (batch.measurements, batch.predictions, np.full(len(batch), batch.latency_ms))
    )
    known = numbers.astype(object)
    known[np.isnan(numbers)] = None
    return _rows(
        batch, batch.prediction_ids, map(_utc, batch.event_times), _utc(batch.received_at),
        known.T.tolist(),
    )  # fmt: skip


def _sqlite_rows(batch: PredictionBatch) -> Iterable[tuple[Any, ...]]:
    """Rows as the column types of `log_schema` write them; SQLite takes NaN for NULL by itself."""
    arrival = _sqlite_moment(batch.received_at)
    # who does not say when a wine was measured means now
    moments = [
        arrival if moment is batch.received_at else _sqlite_moment(moment)
        for moment in batch.event_times
    ]
    numbers = [*batch.measurements.T.tolist(), batch.predictions.tolist(), repeat(batch.latency_ms)]
    return _rows(batch, [i.bytes for i in batch.prediction_ids], moments, arrival, numbers)


def _rows(
    batch: PredictionBatch,
    ids: Iterable[Any],
    event_times: Iterable[Any],
    received_at: Any,
    numbers: Sequence[Iterable[Any]],
) -> Iterable[tuple[Any, ...]]:
    """Rows in the order of `_COLUMNS`, of columns as a database takes them."""
    return zip(
        ids, event_times, repeat(received_at), repeat(batch.model_version), repeat(batch.source),
        repeat(batch.request_id), batch.types, *numbers,
    )  # fmt: skip


def _sqlite_moment(moment: datetime) -> str:
    return _utc(moment).isoformat(" ", "microseconds")[: -len("+00:00")]


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a moment without a timezone cannot be logged")
    return moment.astimezone(UTC)
