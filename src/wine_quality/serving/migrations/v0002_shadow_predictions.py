"""What the challenger would have answered."""

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects import postgresql

_ID = sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")
_MOMENT = sa.DateTime().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "shadow_predictions",
        sa.Column("prediction_id", _ID, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("prediction", sa.Double, nullable=False),
        sa.Column("answered_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("prediction_id", "model_version", name="pk_shadow_predictions"),
        sa.ForeignKeyConstraint(
            ["prediction_id"], ["predictions.prediction_id"],
            name="fk_shadow_predictions_predictions",
        ),
        sqlite_with_rowid=False,
    )  # fmt: skip
