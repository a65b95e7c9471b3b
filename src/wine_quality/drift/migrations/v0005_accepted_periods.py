"""Periods that people have accepted as a version's reference, and hours whose windows changed.

Hours that were counted before count as judged.
"""

import sqlalchemy as sa
from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    """Make the table, and the column of the hours."""
    op.create_table(
        "accepted_periods",
        sa.Column("period", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("registered", sa.Text, nullable=False),
        sa.Column("period_start", sa.DateTime, nullable=False),
        sa.Column("period_end", sa.DateTime, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("labelled", sa.BigInteger, nullable=False),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("accepted_at", sa.DateTime, nullable=False),
        sa.Column("withdrawn_by", sa.Text),
        sa.Column("withdrawn_note", sa.Text),
        sa.Column("withdrawn_at", sa.DateTime),
        sa.PrimaryKeyConstraint("period"),
    )
    op.add_column(
        "profile_hours", sa.Column("recounted", sa.Integer, nullable=False, server_default="0")
    )
