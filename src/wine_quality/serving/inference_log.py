"""The inference log: every prediction answered, and the ground truth that came later.

An append returns when its transaction is committed, and committed means on disk, so that whatever
was acknowledged is found again after a crash.
"""

import hashlib
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain, pairwise
from operator import itemgetter
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from wine_quality.database.database import Database
from wine_quality.database.engines import Synchronous, sqlite_connection
from wine_quality.errors import RefusedBatchError, WineQualityError
from wine_quality.serving.identifiers import first_uuid7
from wine_quality.serving.log_schema import (
    GROUND_TRUTH,
    LOG,
    LOG_DTYPES,
    PREDICTION_REQUESTS,
    PREDICTIONS,
    labelled_predictions,
    null_if_nan,
)
from wine_quality.serving.moments import Moments, utc_moment, utc_moments
from wine_quality.wines import MEASUREMENT_NAMES, QUALITY, QUALITY_BOUNDS, QUALITY_IS_WHOLE, TYPE

_T = TypeVar("_T")

_IDS_A_LOOKUP = 1_000
_ROWS_A_STATEMENT = 100
_COLUMNS_OF = itemgetter(*(column.name for column in PREDICTIONS.columns))
_COLUMN_LIST = ", ".join(f'"{column.name}"' for column in PREDICTIONS.columns)
_POSTGRES = postgresql.dialect()  # type: ignore[no-untyped-call]
_POSTGRES_TYPES = [column.type.compile(_POSTGRES).lower() for column in PREDICTIONS.columns]
_NAMES_IN_A_MESSAGE = 5
_REQUEST_ID_LENGTH = 255
_PACK_MEASUREMENTS = struct.Struct(f"<{len(MEASUREMENT_NAMES)}d").pack


class UnknownPredictionsError(WineQualityError):
    """Ground truth names predictions that the log does not hold.

    Attributes:
        names: All of them, as they were given.
    """

    def __init__(self, message: str, names: Sequence[str]) -> None:
        super().__init__(message)
        self.names = tuple(names)


class RequestConflictError(RefusedBatchError):
    """A request id came back with other wines than the first time."""


@dataclass(frozen=True)
class PredictionBatch:
    """The predictions of one request, ready to be logged.

    Attributes:
        rows: One mapping a wine, keyed by the columns of ``predictions`` without ``request_id``, at
            least one, in ascending order of ``prediction_id``.
        request_id: Idempotency key of the request; without one, whatever comes is written.
    """

    rows: Sequence[Mapping[str, Any]]
    request_id: str | None = None

    def __post_init__(self) -> None:
        """Refuse what the log could not give back.

        Raises:
            WineQualityError: If the request id is no printable ASCII text of 1 to 255 characters.
            ValueError: If there are no rows, or if their ids do not ascend.
        """
        ids = [row["prediction_id"] for row in self.rows]
        if not ids:
            raise ValueError("a batch of predictions needs at least one row")
        if any(a >= b for a, b in pairwise(ids)):
            raise ValueError("the prediction ids of a batch must ascend")
        key = self.request_id
        if key is not None and not (
            0 < len(key) <= _REQUEST_ID_LENGTH and key.isascii() and key.isprintable()
        ):
            raise WineQualityError(
                f"The request id {key[:40]!r} cannot be used: give 1 to {_REQUEST_ID_LENGTH} "
                "printable ASCII characters."
            )

    @classmethod
    def from_frame(
        cls,
        wines: pd.DataFrame,
        predictions: NDArray[np.float64],
        *,
        prediction_ids: Sequence[UUID],
        event_time: Moments,
        received_at: datetime,
        model_version: str,
        source: str,
        latency_ms: float,
        request_id: str | None = None,
    ) -> Self:
        """Put wines and their predictions together.

        Args:
            wines: Frame with the twelve inputs, n rows; other columns are left out.
            predictions: Predicted quality, shape (n,), finite.
            prediction_ids: n identifiers in ascending order.
            event_time: When the wines were measured: one moment, or n.
            received_at: When the request came.
            model_version: The version that answered.
            source: Who asked, for example ``simulation``.
            latency_ms: Milliseconds from the request's arrival until its predictions were there.
            request_id: Idempotency key of the request.

        Returns:
            A batch of n rows.

        Raises:
            WineQualityError: If a moment has no timezone, or the request id cannot be used.
        """
        n = len(wines)
        columns: dict[str, Iterable[Any]] = {
            "prediction_id": prediction_ids,
            "event_time": utc_moments(event_time, n, "event_time"),
            "received_at": [utc_moment(received_at, "received_at")] * n,
            "model_version": [model_version] * n,
            "source": [source] * n,
            TYPE: wines[TYPE].tolist(),
            **{
                name: wines[name].to_numpy(dtype="float64", na_value=np.nan).tolist()
                for name in MEASUREMENT_NAMES
            },
            "prediction": predictions.tolist(),
            "latency_ms": [latency_ms] * n,
        }
        names = tuple(columns)
        rows = [
            dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)
        ]
        return cls(rows, request_id)

    def digest(self) -> bytes:
        """Fingerprint of the wines, 16 bytes: the same for the same inputs, whenever they come."""
        return _digest((row[TYPE], [row[name] for name in MEASUREMENT_NAMES]) for row in self.rows)


@dataclass(frozen=True)
class LoggedBatch:
    """What the log holds for a request.

    Attributes:
        prediction_ids: n identifiers, in the order of the request's wines.
        predictions: n predicted qualities.
        model_versions: n versions.
        repeated: Whether it was there before, so that nothing was written.
    """

    prediction_ids: tuple[UUID, ...]
    predictions: tuple[float, ...]
    model_versions: tuple[str, ...]
    repeated: bool


@dataclass(frozen=True)
class LogCounts:
    """How much the log holds.

    Attributes:
        predictions: Predictions.
        labels: Labels, repeated judgements of a wine included.
        labelled: Predictions with at least one label.
    """

    predictions: int
    labels: int
    labelled: int


class InferenceLog:
    """Predictions and ground truth in one database, created on the first write.

    May be shared by threads, and several processes may open the same database.
    """

    def __init__(
        self, url: str, *, synchronous: Synchronous = "FULL", busy_timeout_s: float = 30.0
    ) -> None:
        """Name the database; nothing is opened or created yet.

        Args:
            url: ``sqlite:///relative/path``, ``sqlite:////absolute/path`` or
                ``postgresql://user:password@host/database``.
            synchronous: SQLite only: ``NORMAL`` is faster, and a power cut takes the last rows.
            busy_timeout_s: SQLite only: seconds to wait for another process that is writing.

        Raises:
            DatabaseError: If the URL cannot be understood or its driver is missing.
            WineQualityError: If it names an object store, which is no place for a database.
        """
        self._database = Database(url, LOG, synchronous=synchronous, busy_timeout_s=busy_timeout_s)

    def __repr__(self) -> str:
        """Name the database, without its password."""
        return f"InferenceLog({self._database.where!r})"

    def __enter__(self) -> Self:
        """Use the log in a ``with`` statement, which closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the log."""
        self.close()

    def close(self) -> None:
        """Close the connections. The log may be used again; it opens new ones."""
        self._database.close()

    def exists(self) -> bool:
        """Whether the log has ever been written to; creates nothing.

        Returns:
            True if the database is there and holds the log's tables.

        Raises:
            DatabaseError: If it cannot be reached, or holds something else.
        """
        return self._database.open(create=False)

    def open(self) -> None:
        """Check the log's schema, creating database file, folders and tables where there are none.

        Every append does this by itself; call it to learn of trouble early.

        Raises:
            DatabaseError: If the place cannot be used, or holds something else or something
                newer.
        """
        self._database.open(create=True)

    def check(self) -> None:
        """Check that the log can be written to now; writes nothing beyond a missing schema.

        Raises:
            DatabaseError: If it cannot.
        """
        self._database.open(create=True)
        with self._database.transaction(writing=True) as connection:
            connection.execute(sa.select(LOG.versions))

    def append_predictions(self, batch: PredictionBatch) -> LoggedBatch:
        """Write the predictions of one request; they are on disk when this returns.

        Args:
            batch: The request's predictions.

        Returns:
            What the log holds for it: the batch itself, or what was stored when the same request id
            came before.

        Raises:
            RequestConflictError: If the request id came before with other wines.
            DatabaseError: If they could not be written; nothing of the batch is.
        """
        (logged,) = self.append_many([batch])
        if isinstance(logged, RequestConflictError):
            raise logged
        return logged

    def append_many(
        self, batches: Sequence[PredictionBatch]
    ) -> list[LoggedBatch | RequestConflictError]:
        """Write the predictions of several requests in one transaction: one commit for them all.

        Args:
            batches: k requests.

        Returns:
            k results in their order; a request whose id came before with other wines gets the error
            as its result, for it must not take the others down.

        Raises:
            DatabaseError: If they could not be written; nothing of any batch is.
        """
        self._database.open(create=True)
        try:
            with self._database.transaction(writing=True) as connection:
                return _append(connection, batches)
        except exc.IntegrityError:
            # Another process wrote one of the request ids between our look and our insert
            # (PostgreSQL only). The second look finds it.
            with self._database.transaction(writing=True) as connection:
                return _append(connection, batches)

    def find_request(self, request_id: str, wines: pd.DataFrame) -> LoggedBatch | None:
        """Look up what was answered to a request.

        Args:
            request_id: Idempotency key of the request.
            wines: Frame with the twelve inputs of its wines, of canonical types.

        Returns:
            What the log holds for it; None if the key has not come yet.

        Raises:
            RequestConflictError: If the key came before with other wines.
            DatabaseError: If the log cannot be read.
        """
        if not self._database.open(create=False):
            return None
        with self._database.transaction(writing=False) as connection:
            found = _stored_requests(connection, [request_id]).get(request_id)
        if found is None:
            return None
        measurements = wines[list(MEASUREMENT_NAMES)].to_numpy(dtype="float64", na_value=np.nan)
        digest = _digest(zip(wines[TYPE], measurements.tolist(), strict=True))
        logged = _repeat(request_id, digest, *found)
        if isinstance(logged, RequestConflictError):
            raise logged
        return logged

    def append_ground_truth(self, labels: pd.DataFrame) -> int:
        """Write what tasters said of wines that were predicted; all labels of the frame, or none.

        A label that is there already (same prediction, same quality, same moment) is passed over.

        Args:
            labels: Frame with ``prediction_id``, ``quality`` (integers from 0 to 10) and, where
                known, ``labelled_at`` (moments with a timezone; now, if the column is not there).

        Returns:
            How many labels were new.

        Raises:
            UnknownPredictionsError: If a prediction is not in the log.
            WineQualityError: If a column is missing, or a quality or moment is not one.
            DatabaseError: If they could not be written.
        """
        rows, malformed = read_labels(labels)
        if not len(labels):
            return 0
        if not rows or not self._database.open(create=False):
            raise unknown_predictions([str(name) for name in labels["prediction_id"]], len(labels))
        with self._database.transaction(writing=True) as connection:
            present = _present(connection, {row["prediction_id"] for row in rows})
            unknown = malformed + [
                str(row["prediction_id"]) for row in rows if row["prediction_id"] not in present
            ]
            if unknown:
                raise unknown_predictions(unknown, len(labels))
            statement = self._database.insert(GROUND_TRUTH).on_conflict_do_nothing()
            # Without the option only SQLite's driver tells how many of many rows were new.
            options = {"preserve_rowcount": True}
            return connection.execute(statement, rows, execution_options=options).rowcount

    def newest_labels(self, prediction_ids: Sequence[UUID]) -> dict[UUID, float]:
        """Look up what these predictions' wines were last said to be.

        Args:
            prediction_ids: Predictions, known or not.

        Returns:
            The quality by prediction, of those that have a label.

        Raises:
            DatabaseError: If the log cannot be read.
        """
        labels: dict[UUID, float] = {}
        if not self._database.open(create=False):
            return labels
        columns = GROUND_TRUTH.c
        with self._database.transaction(writing=False) as connection:
            for chunk in _chunks(prediction_ids):
                query = (
                    sa.select(columns.prediction_id, columns[QUALITY])
                    .where(columns.prediction_id.in_(chunk))
                    .order_by(columns.labelled_at, columns.label_id)
                )
                # the newest comes last, and stays
                labels.update((name, quality) for name, quality in connection.execute(query))
        return labels

    def read(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        model_version: str | None = None,
        source: str | None = None,
    ) -> pd.DataFrame:
        """Read the log with each prediction's newest label.

        Args:
            since: First event time wanted.
            until: First event time no longer wanted.
            model_version: Only what this version predicted.
            source: Only what this source asked for.

        Returns:
            Frame in order of event time, with the columns and types of ``LOG_DTYPES``: ``quality``
            is NaN and ``labelled_at`` NaT where no label has come. Empty if nothing was logged.

        Raises:
            WineQualityError: If a limit has no timezone.
            DatabaseError: If the log cannot be read.
        """
        query = (
            labelled_predictions()
            .where(*_conditions(since, until, model_version, source))
            .order_by(PREDICTIONS.c.event_time, PREDICTIONS.c.prediction_id)
        )
        names = list(LOG_DTYPES)
        if not self._database.open(create=False):
            return pd.DataFrame({name: [] for name in names}).astype(LOG_DTYPES)
        with self._database.transaction(writing=False) as connection:
            rows = connection.execute(query).tuples().all()
        frame = pd.DataFrame.from_records(rows, columns=names)
        frame["prediction_id"] = [str(i) for i in frame["prediction_id"]]
        return frame.astype(LOG_DTYPES)

    def newest(self, since: datetime, limit: int) -> pd.DataFrame:
        """Read the predictions that were made last, without their labels.

        The primary key is ordered by time, so that this reads no more rows than it gives.

        Args:
            since: First moment of arrival wanted.
            limit: Most rows.

        Returns:
            Frame in order of arrival with ``received_at``, ``model_version``, the twelve inputs and
            ``prediction``; at most ``limit`` rows.

        Raises:
            DatabaseError: If the log cannot be read.
        """
        names = ["received_at", "model_version", TYPE, *MEASUREMENT_NAMES, "prediction"]
        query = (
            sa.select(*(PREDICTIONS.c[name] for name in names))
            .where(PREDICTIONS.c.prediction_id >= first_uuid7(utc_moment(since, "since")))
            .order_by(PREDICTIONS.c.prediction_id.desc())
            .limit(limit)
        )
        rows = self._rows(query)
        frame = pd.DataFrame.from_records(rows[::-1], columns=names)
        return frame.astype({name: LOG_DTYPES[name] for name in names})

    def newest_labelled(self, limit: int) -> pd.DataFrame:
        """Read the predictions whose labels came last.

        Args:
            limit: Most labels; of several labels of a prediction the newest counts.

        Returns:
            Frame in the order in which the labels came, with ``labelled_at``, ``model_version``,
            ``type``, ``prediction`` and ``quality``.

        Raises:
            DatabaseError: If the log cannot be read.
        """
        names = ["labelled_at", "model_version", TYPE, "prediction", QUALITY]
        newest = (
            sa.select(GROUND_TRUTH).order_by(GROUND_TRUTH.c.label_id.desc()).limit(limit).subquery()
        )
        query = (
            sa.select(
                PREDICTIONS.c.prediction_id,
                newest.c.labelled_at,
                *(PREDICTIONS.c[name] for name in names[1:4]),
                newest.c[QUALITY],
            )
            .join(newest, newest.c.prediction_id == PREDICTIONS.c.prediction_id)
            .order_by(newest.c.label_id)
        )
        frame = pd.DataFrame.from_records(self._rows(query), columns=["prediction_id", *names])
        once = frame.drop_duplicates("prediction_id", keep="last")
        return once[names].astype({name: LOG_DTYPES[name] for name in names})

    def _rows(self, query: sa.Select[Any]) -> Sequence[tuple[Any, ...]]:
        if not self._database.open(create=False):
            return []
        with self._database.transaction(writing=False) as connection:
            return connection.execute(query).tuples().all()

    def last_event_time(self, source: str | None = None) -> datetime | None:
        """When the newest logged wine was measured.

        Args:
            source: Look only at what this source asked for.

        Returns:
            The greatest event time, in UTC, or None if there is none.

        Raises:
            DatabaseError: If the log cannot be read.
        """
        if not self._database.open(create=False):
            return None
        query = (
            sa.select(PREDICTIONS.c.event_time)
            .where(*_conditions(None, None, None, source))
            .order_by(PREDICTIONS.c.event_time.desc())
            .limit(1)
        )
        with self._database.transaction(writing=False) as connection:
            return connection.scalar(query)

    def absent(self, prediction_ids: Iterable[str]) -> set[str]:
        """Which of these predictions the log does not hold.

        Args:
            prediction_ids: As the log gave them.

        Raises:
            DatabaseError: If the log cannot be read.
        """
        wanted = {UUID(name): name for name in prediction_ids}
        if not self._database.open(create=False):
            return set(wanted.values())
        with self._database.transaction(writing=False) as connection:
            present = _present(connection, set(wanted))
        return {name for prediction_id, name in wanted.items() if prediction_id not in present}

    def counts(self) -> LogCounts:
        """Count what the log holds.

        Returns:
            The counts; zeros if nothing was ever logged.

        Raises:
            DatabaseError: If the log cannot be read.
        """
        if not self._database.open(create=False):
            return LogCounts(0, 0, 0)
        labels = GROUND_TRUTH.c.prediction_id
        with self._database.transaction(writing=False) as connection:
            return LogCounts(
                connection.scalar(sa.select(sa.func.count()).select_from(PREDICTIONS)) or 0,
                connection.scalar(sa.select(sa.func.count()).select_from(GROUND_TRUTH)) or 0,
                connection.scalar(sa.select(sa.func.count(labels.distinct()))) or 0,
            )


def _conditions(
    since: datetime | None, until: datetime | None, model_version: str | None, source: str | None
) -> list[sa.ColumnElement[bool]]:
    wanted: list[sa.ColumnElement[bool]] = []
    if since is not None:
        wanted.append(PREDICTIONS.c.event_time >= utc_moment(since, "since"))
    if until is not None:
        wanted.append(PREDICTIONS.c.event_time < utc_moment(until, "until"))
    if model_version is not None:
        wanted.append(PREDICTIONS.c.model_version == model_version)
    if source is not None:
        wanted.append(PREDICTIONS.c.source == source)
    return wanted


def _append(
    connection: Connection, batches: Sequence[PredictionBatch]
) -> list[LoggedBatch | RequestConflictError]:
    keys = [batch.request_id for batch in batches if batch.request_id is not None]
    seen = _stored_requests(connection, keys)
    results: list[LoggedBatch | RequestConflictError] = []
    rows: list[Mapping[str, Any]] = []
    requests: list[Mapping[str, Any]] = []
    for batch in batches:
        key = batch.request_id
        digest = batch.digest() if key is not None else b""
        if key is not None and key in seen:
            results.append(_repeat(key, digest, *seen[key]))
            continue
        logged = _logged(
            [(row["prediction_id"], row["prediction"], row["model_version"]) for row in batch.rows]
        )
        results.append(logged)
        rows.extend({**row, "request_id": key} for row in batch.rows)
        if key is not None:
            seen[key] = (digest, logged)
            requests.append(
                {
                    "request_id": key,
                    "first_prediction_id": logged.prediction_ids[0],
                    "last_prediction_id": logged.prediction_ids[-1],
                    "digest": digest,
                }
            )
    if requests:
        # in one order: two processes that are given the same requests would wait for each other
        requests.sort(key=itemgetter("request_id"))
        connection.execute(sa.insert(PREDICTION_REQUESTS), requests)
    if rows:
        _insert(connection, rows)
    return results


def _insert(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert predictions; the one statement whose cost every request feels.

    By the bare driver: SQLAlchemy's processing costs several times as much.
    """
    insert = _insert_sqlite if connection.dialect.name == "sqlite" else _copy_postgres
    insert(connection, rows)


def _copy_postgres(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    driver: Any = connection.connection
    statement = f"COPY {PREDICTIONS.name} ({_COLUMN_LIST}) FROM STDIN (FORMAT BINARY)"
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(_POSTGRES_TYPES)
        for row in rows:
            values = zip(_POSTGRES_CONVERTS, _COLUMNS_OF(row), strict=True)
            copy.write_row([convert(value) for convert, value in values])


def _insert_sqlite(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    # A hundred rows a statement: the driver gives the interpreter's lock away and has to win it
    # back at every statement, which under load takes longer than the statement itself.
    driver = sqlite_connection(connection)
    for start in range(0, len(rows), _ROWS_A_STATEMENT):
        chunk = rows[start : start + _ROWS_A_STATEMENT]
        values = tuple(chain.from_iterable(map(_sqlite_values, chunk)))
        driver.execute(_sqlite_insert(len(chunk)), values)


@lru_cache(maxsize=_ROWS_A_STATEMENT)
def _sqlite_insert(n: int) -> str:
    row = f"({', '.join('?' * len(PREDICTIONS.columns))})"
    return f"INSERT INTO {PREDICTIONS.name} ({_COLUMN_LIST}) VALUES {', '.join([row] * n)}"  # noqa: S608


def _sqlite_values(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """A row as the column types of `log_schema` write it; SQLite takes NaN for NULL by itself."""
    prediction_id, event_time, received_at, *others = _COLUMNS_OF(row)
    arrival = _sqlite_moment(received_at)
    # who does not say when a wine was measured means now
    event = arrival if event_time is received_at else _sqlite_moment(event_time)
    return prediction_id.bytes, event, arrival, *others


def _sqlite_moment(moment: datetime) -> str:
    return _utc(moment).isoformat(" ", "microseconds")[: -len("+00:00")]


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a moment without a timezone cannot be logged")
    return moment.astimezone(UTC)


def _as_it_is(value: Any) -> Any:
    return value


_CONVERTS: dict[str, Callable[[Any], Any]] = {
    "timestamp with time zone": _utc,
    "double precision": null_if_nan,
}
_POSTGRES_CONVERTS = [_CONVERTS.get(kind, _as_it_is) for kind in _POSTGRES_TYPES]


def _digest(wines: Iterable[tuple[str, Sequence[float | None]]]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for kind, measurements in wines:
        # One NaN for all that is missing: not every NaN has the same bits.
        known = (math.nan if v is None or math.isnan(v) else v for v in measurements)
        digest.update(kind.encode() + _PACK_MEASUREMENTS(*known))
    return digest.digest()


def _logged(rows: Iterable[tuple[UUID, float, str]]) -> LoggedBatch:
    ids, predictions, versions = zip(*rows, strict=True)
    return LoggedBatch(ids, predictions, versions, repeated=False)


def _repeat(
    key: str, digest: bytes, stored_digest: bytes, stored: LoggedBatch
) -> LoggedBatch | RequestConflictError:
    if digest != stored_digest:
        return RequestConflictError(
            f"The request id {key!r} was used before for other wines: give each request its own."
        )
    return replace(stored, repeated=True)


def _stored_requests(
    connection: Connection, keys: Sequence[str]
) -> dict[str, tuple[bytes, LoggedBatch]]:
    """The requests among these that are in the log: digest and predictions of each."""
    stored: dict[str, tuple[bytes, LoggedBatch]] = {}
    for chunk in _chunks(keys):
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
            logged = _logged((r.prediction_id, r.prediction, r.model_version) for r in rows)
            stored[request.request_id] = (bytes(request.digest), logged)
    return stored


def _present(connection: Connection, wanted: set[UUID]) -> set[UUID]:
    """The ids among these that are in the log."""
    present: set[UUID] = set()
    for chunk in _chunks(sorted(wanted)):
        query = sa.select(PREDICTIONS.c.prediction_id).where(PREDICTIONS.c.prediction_id.in_(chunk))
        present.update(connection.scalars(query))
    return present


def _chunks(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Cut into pieces small enough for the databases' limits on parameters."""
    for start in range(0, len(values), _IDS_A_LOOKUP):
        yield values[start : start + _IDS_A_LOOKUP]


def read_labels(labels: pd.DataFrame) -> tuple[list[dict[str, Any]], list[str]]:
    """Check labels.

    Args:
        labels: As ``InferenceLog.append_ground_truth`` takes them.

    Returns:
        Mappings of ``prediction_id`` (a UUID), ``quality`` and ``labelled_at`` (UTC); and the ids
        among the labels' that are none.

    Raises:
        WineQualityError: If a column is missing, or a quality or moment is not one.
    """
    missing = {"prediction_id", QUALITY} - set(labels.columns)
    if missing:
        raise WineQualityError(
            f"Ground truth lacks the column(s) {', '.join(sorted(missing))}: give the "
            "prediction_id and the quality of every wine."
        )
    moments = utc_moments(
        labels["labelled_at"] if "labelled_at" in labels else datetime.now(UTC),
        len(labels),
        "labelled_at",
    )
    rows: list[dict[str, Any]] = []
    malformed: list[str] = []
    for name, quality, moment in zip(
        labels["prediction_id"], labels[QUALITY], moments, strict=True
    ):
        label = {QUALITY: _checked_quality(quality, name), "labelled_at": moment}
        try:
            rows.append({"prediction_id": UUID(str(name)), **label})
        except ValueError:
            malformed.append(str(name))
    return rows, malformed


def _checked_quality(quality: Any, name: Any) -> float:
    low, high = QUALITY_BOUNDS
    number = isinstance(quality, int | float | np.integer | np.floating)
    whole = number and float(quality).is_integer()
    if number and low <= quality <= high and (whole or not QUALITY_IS_WHOLE):
        return int(quality) if QUALITY_IS_WHOLE else float(quality)
    kind = "an integer" if QUALITY_IS_WHOLE else "a number"
    raise WineQualityError(
        f"The {QUALITY} {quality!r} of prediction {name} is none: give {kind} from {low} to {high}."
    )


def unknown_predictions(names: Sequence[str], submitted: int) -> UnknownPredictionsError:
    """Make the error that refuses labels.

    Args:
        names: The ids that the log does not hold.
        submitted: How many labels came.
    """
    shown = ", ".join(names[:_NAMES_IN_A_MESSAGE])
    more = ", …" if len(names) > _NAMES_IN_A_MESSAGE else ""
    return UnknownPredictionsError(
        f"{len(names)} of {submitted} labels name predictions that are not in the inference log "
        f"({shown}{more}): nothing of this batch was written; send ids that the service answered.",
        names,
    )
