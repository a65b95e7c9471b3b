"""The tables that monitoring keeps, in a database of their own or in the inference log's.

Moments are UTC. A change of these tables needs a step in `drift/migrations`, see `database.schema`.
"""

import sqlalchemy as sa

from wine_quality.database.schema import Schema

METADATA = sa.MetaData()
MONITORING = Schema(
    what="monitoring database",
    tables=METADATA,
    version_table="monitoring_version",
    migrations="wine_quality.drift.migrations",
    first_has_no_version=True,
)


PROFILE_HOURS = sa.Table(
    "profile_hours",
    METADATA,
    sa.Column("model_version", sa.Text, primary_key=True),
    sa.Column("reference", sa.Text, primary_key=True),
    sa.Column("grain_seconds", sa.BigInteger, primary_key=True),
    # seconds since 1970
    sa.Column("start_second", sa.BigInteger, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    # null: no wine of the version in this hour
    sa.Column("profile", sa.LargeBinary),
)
PROFILE_REFERENCES = sa.Table(
    "profile_references",
    METADATA,
    sa.Column("version_key", sa.Text, primary_key=True),
    sa.Column("reference", sa.Text, nullable=False),
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
RETRAININGS = sa.Table(
    "retrainings",
    METADATA,
    sa.Column("decision_id", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("decided_at", sa.DateTime, nullable=False),
    # retrain or keep
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("champion", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    # JSON of the whole decision
    sa.Column("details", sa.Text, nullable=False),
    # what a retraining came to; null while it runs
    sa.Column("version", sa.Text),
    sa.Column("promoted", sa.Integer),
    sa.Column("outcome", sa.Text),
)
