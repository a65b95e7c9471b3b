"""The inference log's tables, the same in SQLite and in PostgreSQL.

* ``predictions``: one row a wine, keyed by a time-ordered UUID, so that inserts append.
* ``ground_truth``: append-only; of a prediction's labels the newest counts.
* ``prediction_requests``: one row for every request that came with an idempotency key.
* ``shadow_predictions``: what a challenger said of wines that another version answered; nobody was
  given it.

A change of these tables needs a step in `serving/migrations`, see `database.schema`.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from wine_quality.database.schema import Schema
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, QUALITY, QUALITY_IS_WHOLE, TYPE


class _PredictionId(TypeDecorator[UUID]):
    """A UUID as PostgreSQL's own type, and as 16 ordered bytes in SQLite."""

    impl = sa.LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID(as_uuid=True))
        return dialect.type_descriptor(sa.LargeBinary(16))

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return value.bytes

    def process_result_value(self, value: UUID | bytes | None, dialect: Dialect) -> UUID | None:
        return UUID(bytes=value) if isinstance(value, bytes) else value


class _UtcDateTime(TypeDecorator[datetime]):
    """A moment: with a timezone in and out, UTC at rest (SQLite knows no timezones)."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(sa.DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a timezone cannot be logged")
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class _Measured(TypeDecorator[float]):
    """A measurement; what is missing is NULL, never NaN."""

    impl = sa.Double
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[float | None], float | None]:
        # Thirteen of these stand in every row: process_bind_param would cost a second call each.
        return null_if_nan


def null_if_nan(value: float | None) -> float | None:
    """A measurement as the log keeps it; what is missing is None, never NaN."""
    return None if value is None or math.isnan(value) else float(value)


# Constraints need names that a migration can call them by.
METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

PREDICTIONS = sa.Table(
    "predictions",
    METADATA,
    sa.Column("prediction_id", _PredictionId, primary_key=True),
    sa.Column("event_time", _UtcDateTime, nullable=False, index=True),
    sa.Column("received_at", _UtcDateTime, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text),
    sa.Column(TYPE, sa.Text, nullable=False),
    *(sa.Column(name, _Measured) for name in MEASUREMENT_NAMES),
    sa.Column("prediction", _Measured, nullable=False),
    sa.Column("latency_ms", _Measured),
    # The rows lie in the order of their key, without a second index beside them.
    sqlite_with_rowid=False,
)

PREDICTION_REQUESTS = sa.Table(
    "prediction_requests",
    METADATA,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("first_prediction_id", _PredictionId, nullable=False),
    sa.Column("last_prediction_id", _PredictionId, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

GROUND_TRUTH = sa.Table(
    "ground_truth",
    METADATA,
    # The order of arrival: it decides between labels of the same moment.
    sa.Column("label_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column(
        "prediction_id", _PredictionId, sa.ForeignKey(PREDICTIONS.c.prediction_id), nullable=False
    ),
    sa.Column(QUALITY, sa.SmallInteger if QUALITY_IS_WHOLE else sa.Double, nullable=False),
    sa.Column("labelled_at", _UtcDateTime, nullable=False),
    sa.UniqueConstraint("prediction_id", "labelled_at", QUALITY),
)

SHADOW_PREDICTIONS = sa.Table(
    "shadow_predictions",
    METADATA,
    sa.Column(
        "prediction_id", _PredictionId, sa.ForeignKey(PREDICTIONS.c.prediction_id), primary_key=True
    ),
    sa.Column("model_version", sa.Text, primary_key=True),
    sa.Column("prediction", _Measured, nullable=False),
    sa.Column("answered_at", _UtcDateTime, nullable=False),
    sqlite_with_rowid=False,
)

LOG = Schema(
    what="inference log",
    tables=METADATA,
    version_table="inference_log_version",
    migrations="wine_quality.serving.migrations",
    command="python -m wine_quality.serving migrate --log-url",
)

LOGGED_COLUMNS = (
    PREDICTIONS.c.prediction_id,
    PREDICTIONS.c.event_time,
    PREDICTIONS.c.received_at,
    PREDICTIONS.c.model_version,
    PREDICTIONS.c.source,
    *(PREDICTIONS.c[name] for name in INPUTS),
    PREDICTIONS.c.prediction,
    PREDICTIONS.c.latency_ms,
)
LOG_DTYPES: dict[str, str] = {
    "prediction_id": "str",
    "event_time": "datetime64[us, UTC]",
    "received_at": "datetime64[us, UTC]",
    "model_version": "str",
    "source": "str",
    TYPE: "str",
    **dict.fromkeys(MEASUREMENT_NAMES, "float64"),
    "prediction": "float64",
    "latency_ms": "float64",
    QUALITY: "float64",
    "labelled_at": "datetime64[us, UTC]",
}
"""The columns of the log as it is read, with their types; no quality yet is NaN and NaT."""
SHADOW_DTYPES: dict[str, str] = {"shadow_version": "str", "shadow_prediction": "float64"}
"""What a challenger said of a prediction's wine, beside the columns of the log."""


def labelled_predictions() -> sa.Select[Any]:
    """Select all predictions, each with its newest label; narrow it with ``.where()``.

    Returns:
        A select of the columns of ``LOG_DTYPES``. Between labels of the same moment the one that
        arrived last is the newest.
    """
    return sa.select(
        *LOGGED_COLUMNS, GROUND_TRUTH.c[QUALITY], GROUND_TRUTH.c.labelled_at
    ).select_from(_with_labels(PREDICTIONS))


def _with_labels(predictions: sa.FromClause) -> sa.FromClause:
    newest = (
        sa.select(GROUND_TRUTH.c.label_id)
        .where(GROUND_TRUTH.c.prediction_id == PREDICTIONS.c.prediction_id)
        .order_by(GROUND_TRUTH.c.labelled_at.desc(), GROUND_TRUTH.c.label_id.desc())
        .limit(1)
        .correlate(PREDICTIONS)
        .scalar_subquery()
    )
    return predictions.outerjoin(GROUND_TRUTH, GROUND_TRUTH.c.label_id == newest)


def shadowed_predictions() -> sa.Select[Any]:
    """Select the predictions of whose wines a challenger said something too.

    Returns:
        A select of the columns of ``LOG_DTYPES`` and ``SHADOW_DTYPES``, one row for each shadow
        answer.
    """
    shadow = SHADOW_PREDICTIONS.c
    both = SHADOW_PREDICTIONS.join(PREDICTIONS, shadow.prediction_id == PREDICTIONS.c.prediction_id)
    # from the shadow answers on, of which there may be few or none in a large log
    return (
        sa.select(*LOGGED_COLUMNS, GROUND_TRUTH.c[QUALITY], GROUND_TRUTH.c.labelled_at)
        .add_columns(shadow.model_version, shadow.prediction)
        .select_from(_with_labels(both))
    )
