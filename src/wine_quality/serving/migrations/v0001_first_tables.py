"""The log's first tables."""

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects import postgresql

_ID = sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")
_MOMENT = sa.DateTime().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade(op: Operations) -> None:
    """Make the tables."""
    op.create_table(
        "predictions",
        sa.Column("prediction_id", _ID, nullable=False),
        sa.Column("event_time", _MOMENT, nullable=False),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("fixed_acidity", sa.Double),
        sa.Column("volatile_acidity", sa.Double),
        sa.Column("citric_acid", sa.Double),
        sa.Column("residual_sugar", sa.Double),
        sa.Column("chlorides", sa.Double),
        sa.Column("free_sulfur_dioxide", sa.Double),
        sa.Column("total_sulfur_dioxide", sa.Double),
        sa.Column("density", sa.Double),
        sa.Column("pH", sa.Double),
        sa.Column("sulphates", sa.Double),
        sa.Column("alcohol", sa.Double),
        sa.Column("prediction", sa.Double, nullable=False),
        sa.Column("latency_ms", sa.Double),
        sa.PrimaryKeyConstraint("prediction_id", name="pk_predictions"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_predictions_event_time", "predictions", ["event_time"])
    op.create_table(
        "prediction_requests",
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("first_prediction_id", _ID, nullable=False),
        sa.Column("last_prediction_id", _ID, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="pk_prediction_requests"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ground_truth",
        sa.Column(
            "label_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False
        ),
        sa.Column("prediction_id", _ID, nullable=False),
        sa.Column("quality", sa.SmallInteger, nullable=False),
        sa.Column("labelled_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("label_id", name="pk_ground_truth"),
        sa.ForeignKeyConstraint(
            ["prediction_id"], ["predictions.prediction_id"],
            name="fk_ground_truth_predictions",
        ),
        sa.UniqueConstraint("prediction_id", "labelled_at", "quality", name="uq_ground_truth"),
    )  # fmt: skip
