"""The first tables, which stood without a version before.

Each store made its own when it was first used, so that some may be there.
"""

from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations

_WINDOW = ("model_version", "reference", "window_seconds", "window_start")


def upgrade(op: Operations) -> None:
    """Make the tables that are not there."""

    def by_window(name: str, *columns: sa.Column[Any], key: tuple[str, ...] = ()) -> None:
        op.create_table(
            name,
            sa.Column("model_version", sa.Text, nullable=False),
            sa.Column("reference", sa.Text, nullable=False),
            sa.Column("window_seconds", sa.BigInteger, nullable=False),
            sa.Column("window_start", sa.DateTime, nullable=False),
            *columns,
            sa.PrimaryKeyConstraint(*_WINDOW, *key),
            if_not_exists=True,
        )

    by_window("profile_windows", sa.Column("state", sa.Text, nullable=False))
    by_window(
        "profile_counts",
        sa.Column("column", sa.Text, nullable=False),
        sa.Column("bin", sa.Integer, nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("minimum", sa.Double),
        sa.Column("maximum", sa.Double),
        key=("column", "bin"),
    )
    by_window(
        "profile_errors",
        sa.Column("segment", sa.Text, nullable=False),
        sa.Column("labelled", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Double, nullable=False),
        sa.Column("absolute_error", sa.Double, nullable=False),
        sa.Column("squared_error", sa.Double, nullable=False),
        sa.Column("fourth_power", sa.Double, nullable=False),
        sa.Column("within_half", sa.BigInteger, nullable=False),
        sa.Column("within_one", sa.BigInteger, nullable=False),
        key=("segment",),
    )
    op.create_table(
        "verdicts",
        sa.Column("window_start", sa.DateTime, nullable=False),
        sa.Column("window_seconds", sa.BigInteger, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("window_end", sa.DateTime, nullable=False),
        sa.Column("decided_at", sa.DateTime, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("threshold", sa.Double),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint(
            "window_start", "window_seconds", "model_version", "subject", "revision"
        ),
        if_not_exists=True,
    )
    op.create_table(
        "told_alerts",
        sa.Column("window_start", sa.DateTime, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("told_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("window_start", "model_version", "subject", "verdict"),
        if_not_exists=True,
    )
