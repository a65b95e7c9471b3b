"""The inference log: every prediction answered, and the ground truth that came later.

An append returns when its transaction is committed, and committed means on disk, so that whatever
was acknowledged is found again after a crash.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import pandas as pd
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from wine_quality.database.database import Database
from wine_quality.database.engines import Synchronous
from wine_quality.serving.identifiers import first_uuid7
from wine_quality.serving.labels import read_labels, unknown_predictions
from wine_quality.serving.log_schema import (
    GROUND_TRUTH,
    LOG,
    LOG_DTYPES,
    PREDICTIONS,
    SHADOW_DTYPES,
    SHADOW_PREDICTIONS,
    labelled_predictions,
    shadowed_predictions,
)
from wine_quality.serving.log_writing import (
    ShadowAnswers,
    append_batches,
    append_shadows,
    chunks,
    repeat_request,
    stored_requests,
)
from wine_quality.serving.moments import utc_moment
from wine_quality.serving.prediction_batch import (
    LoggedBatch,
    PredictionBatch,
    RequestConflictError,
    digest_wines,
    measurements_of,
)
from wine_quality.wines import MEASUREMENT_NAMES, QUALITY, TYPE

_DTYPES = LOG_DTYPES | SHADOW_DTYPES


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

    May be shared by threads, and several processes may open the same database. Every method raises
    `DatabaseError` where the database cannot be used; nothing is written then.
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
        """
        self._database.open(create=True)
        try:
            with self._database.transaction(writing=True) as connection:
                return append_batches(connection, batches)
        except exc.IntegrityError:
            # Another process wrote one of the request ids between our look and our insert
            # (PostgreSQL only). The second look finds it.
            with self._database.transaction(writing=True) as connection:
                return append_batches(connection, batches)

    def append_shadows(self, answers: Sequence[ShadowAnswers]) -> None:
        """Write what challengers said of wines that were answered, in one transaction.

        Args:
            answers: Their answers; the predictions are in the log.

        Raises:
            sqlalchemy.exc.IntegrityError: If one of the predictions is not in the log.
        """
        self._database.open(create=True)
        with self._database.transaction(writing=True) as connection:
            append_shadows(connection, answers)

    def find_request(self, request_id: str, wines: pd.DataFrame) -> LoggedBatch | None:
        """Look up what was answered to a request.

        Args:
            request_id: Idempotency key of the request.
            wines: Frame with the twelve inputs of its wines, of canonical types.

        Returns:
            What the log holds for it; None if the key has not come yet.

        Raises:
            RequestConflictError: If the key came before with other wines.
        """
        if not self._database.open(create=False):
            return None
        with self._database.transaction(writing=False) as connection:
            found = stored_requests(connection, [request_id]).get(request_id)
        if found is None:
            return None
        digest = digest_wines(wines[TYPE].tolist(), measurements_of(wines))
        logged = repeat_request(request_id, digest, *found)
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
        """
        labels: dict[UUID, float] = {}
        if not self._database.open(create=False):
            return labels
        columns = GROUND_TRUTH.c
        with self._database.transaction(writing=False) as connection:
            for chunk in chunks(prediction_ids):
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
        """
        query = labelled_predictions().where(*_conditions(since, until, model_version, source))
        return self._frame(query, LOG_DTYPES)

    def read_shadowed(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        model_version: str | None = None,
        shadow_version: str | None = None,
    ) -> pd.DataFrame:
        """Read the predictions of whose wines a challenger said something too.

        Args:
            since: First event time wanted.
            until: First event time no longer wanted.
            model_version: Only what this version predicted.
            shadow_version: Only what this challenger said.

        Returns:
            Frame in order of event time, one row for each shadow answer, with the columns and types
            of ``LOG_DTYPES`` (the prediction that was given, its newest label) and
            ``SHADOW_DTYPES``. Empty if there are none.

        Raises:
            WineQualityError: If a limit has no timezone.
        """
        conditions = _conditions(since, until, model_version, None)
        if shadow_version is not None:
            conditions.append(SHADOW_PREDICTIONS.c.model_version == shadow_version)
        return self._frame(shadowed_predictions().where(*conditions), _DTYPES)

    def newest_labelled_shadows(self, limit: int) -> pd.DataFrame:
        """Read the shadow answers on labelled wines of the predictions that were made last.

        Args:
            limit: Most rows.

        Returns:
            What ``read_shadowed`` returns, at most ``limit`` rows, each with a ``quality``.
        """
        query = (
            shadowed_predictions()
            .where(GROUND_TRUTH.c[QUALITY].is_not(None))
            .order_by(SHADOW_PREDICTIONS.c.prediction_id.desc())
            .limit(limit)
        )
        return self._frame(query, _DTYPES).sort_values("event_time", kind="stable")

    def _frame(self, query: sa.Select[Any], dtypes: dict[str, str]) -> pd.DataFrame:
        """Rows of predictions, in order of event time where the query has none."""
        rows = self._rows(query.order_by(PREDICTIONS.c.event_time, PREDICTIONS.c.prediction_id))
        frame = pd.DataFrame.from_records(rows, columns=list(dtypes))
        frame["prediction_id"] = [str(i) for i in frame["prediction_id"]]
        return frame.astype(dtypes)

    def newest(
        self, since: datetime, limit: int, shadow_version: str | None = None
    ) -> pd.DataFrame:
        """Read the predictions that were made last, without their labels.

        The primary key is ordered by time, so that this reads no more rows than it gives.

        Args:
            since: First moment of arrival wanted.
            limit: Most rows.
            shadow_version: A challenger, whose answers are wanted too.

        Returns:
            Frame in order of arrival with ``received_at``, ``model_version``, the twelve inputs,
            ``prediction`` and ``shadow_prediction``, NaN where the challenger said nothing; at most
            ``limit`` rows.
        """
        names = ["received_at", "model_version", TYPE, *MEASUREMENT_NAMES, "prediction"]
        query = (
            _shadowed(sa.select(*(PREDICTIONS.c[name] for name in names)), shadow_version)
            .where(PREDICTIONS.c.prediction_id >= first_uuid7(utc_moment(since, "since")))
            .order_by(PREDICTIONS.c.prediction_id.desc())
            .limit(limit)
        )
        rows = self._rows(query)
        names.append("shadow_prediction")
        frame = pd.DataFrame.from_records(rows[::-1], columns=names)
        return frame.astype({name: _DTYPES[name] for name in names})

    def newest_labelled(self, limit: int, shadow_version: str | None = None) -> pd.DataFrame:
        """Read the predictions whose labels came last.

        Args:
            limit: Most labels; of several labels of a prediction the newest counts.
            shadow_version: A challenger, whose answers are wanted too.

        Returns:
            Frame in the order in which the labels came, with ``labelled_at``, ``model_version``,
            ``type``, ``prediction``, ``quality`` and ``shadow_prediction``, NaN where the
            challenger said nothing.
        """
        names = ["labelled_at", "model_version", TYPE, "prediction", QUALITY]
        newest = (
            sa.select(GROUND_TRUTH).order_by(GROUND_TRUTH.c.label_id.desc()).limit(limit).subquery()
        )
        select = sa.select(
            PREDICTIONS.c.prediction_id,
            newest.c.labelled_at,
            *(PREDICTIONS.c[name] for name in names[1:4]),
            newest.c[QUALITY],
        ).join(newest, newest.c.prediction_id == PREDICTIONS.c.prediction_id)
        rows = self._rows(_shadowed(select, shadow_version).order_by(newest.c.label_id))
        names.append("shadow_prediction")
        frame = pd.DataFrame.from_records(rows, columns=["prediction_id", *names])
        once = frame.drop_duplicates("prediction_id", keep="last")
        return once[names].astype({name: _DTYPES[name] for name in names})

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


def _shadowed(select: sa.Select[Any], version: str | None) -> sa.Select[Any]:
    """Add what a challenger said to a select of predictions; NULL where it said nothing."""
    if version is None:
        return select.add_columns(sa.null())
    shadow = SHADOW_PREDICTIONS.c
    same = sa.and_(
        shadow.prediction_id == PREDICTIONS.c.prediction_id, shadow.model_version == version
    )
    return select.add_columns(shadow.prediction).join(SHADOW_PREDICTIONS, same, isouter=True)


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


def _present(connection: Connection, wanted: set[UUID]) -> set[UUID]:
    """The ids among these that are in the log."""
    present: set[UUID] = set()
    for chunk in chunks(sorted(wanted)):
        query = sa.select(PREDICTIONS.c.prediction_id).where(PREDICTIONS.c.prediction_id.in_(chunk))
        present.update(connection.scalars(query))
    return present
