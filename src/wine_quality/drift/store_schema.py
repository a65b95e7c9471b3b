"""The tables that monitoring keeps, in a database of their own or in the inference log's.

Moments are UTC. A change of these tables needs a step in `drift/migrations`, see `database.schema`.
"""

from typing import Any

import sqlalchemy as sa

from wine_quality.database.schema import Schema
from wine_quality.drift.profiles import ERRORS_DTYPES

METADATA = sa.MetaData()
MONITORING = Schema(
    what="monitoring database",
    tables=METADATA,
    version_table="monitoring_version",
    migrations="wine_quality.drift.migrations",
    first_has_no_version=True,
)


def _by_window(name: str, *columns: sa.Column[Any]) -> sa.Table:
    """A table of the windows' counts."""
    return sa.Table(
        name,
        METADATA,
        sa.Column("model_version", sa.Text, primary_key=True),
        sa.Column("reference", sa.Text, primary_key=True),
        sa.Column("window_seconds", sa.BigInteger, primary_key=True),
        sa.Column("window_start", sa.DateTime, primary_key=True),
        *columns,
    )


PROFILE_WINDOWS = _by_window("profile_windows", sa.Column("state", sa.Text, nullable=False))
PROFILE_COUNTS = _by_window(
    "profile_counts",
    sa.Column("column", sa.Text, primary_key=True),
    sa.Column("bin", sa.Integer, primary_key=True),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("minimum", sa.Double),
    sa.Column("maximum", sa.Double),
)
PROFILE_ERRORS = _by_window(
    "profile_errors",
    sa.Column("segment", sa.Text, primary_key=True),
    *(
        sa.Column(name, sa.BigInteger if kind == "int64" else sa.Double, nullable=False)
        for name, kind in list(ERRORS_DTYPES.items())[3:]
    ),
)
VERDICTS = sa.Table(
    "verdicts",
    METADATA,
    sa.Column("window_start", sa.DateTime, primary_key=True),
    sa.Column("window_seconds", sa.BigInteger, primary_key=True),
    sa.Column("model_version", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("window_end", sa.DateTime, nullable=False),
    sa.Column("decided_at", sa.DateTime, nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("threshold", sa.Double),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)
TOLD_ALERTS = sa.Table(
    "told_alerts",
    METADATA,
    sa.Column("window_start", sa.DateTime, primary_key=True),
    sa.Column("model_version", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("verdict", sa.Text, primary_key=True),
    sa.Column("told_at", sa.DateTime, nullable=False),
)
