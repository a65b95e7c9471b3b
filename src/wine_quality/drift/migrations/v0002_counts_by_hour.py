"""Counts by hour, packed, in place of a row for each window, column and bin.

The counts of the first tables cannot be divided into hours and segments: they are dropped, and
taken from the log again. Verdicts and sent alerts stay.
"""

import sqlalchemy as sa
from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    """Make the new tables, and drop those whose counts are taken again."""
    op.create_table(
        "profile_hours",
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("grain_seconds", sa.BigInteger, nullable=False),
        sa.Column("start_second", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("profile", sa.LargeBinary),
        sa.PrimaryKeyConstraint("model_version", "reference", "grain_seconds", "start_second"),
    )
    op.create_table(
        "profile_references",
        sa.Column("version_key", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("version_key"),
    )
    for name in ("profile_windows", "profile_counts", "profile_errors"):
        op.drop_table(name)
