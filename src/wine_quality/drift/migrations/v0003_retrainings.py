"""The decisions to train again or not, and what came of them."""

import sqlalchemy as sa
from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    """Make the table."""
    op.create_table(
        "retrainings",
        sa.Column("decision_id", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("decided_at", sa.DateTime, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("champion", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("version", sa.Text),
        sa.Column("promoted", sa.Integer),
        sa.Column("outcome", sa.Text),
        sa.PrimaryKeyConstraint("decision_id"),
    )
