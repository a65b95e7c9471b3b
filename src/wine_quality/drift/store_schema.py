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
    first_tables=frozenset(
        {"profile_windows", "profile_counts", "profile_errors", "verdicts", "told_alerts"}
    ),
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
    # 1: counted again, or to be compared with another reference, since its window was judged
    sa.Column("recounted", sa.Integer, nullable=False, server_default="0"),
)
PROFILE_REFERENCES = sa.Table(
    "profile_references",
    METADATA,
    sa.Column("version_key", sa.Text, primary_key=True),
    sa.Column("reference", sa.Text, nullable=False),
)
ACCEPTED_PERIODS = sa.Table(
    "accepted_periods",
    METADATA,
    # a number that people type
    sa.Column("period", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("model_version", sa.Text, nullable=False),
    # fingerprint of the version's own reference
    sa.Column("registered", sa.Text, nullable=False),
    sa.Column("period_start", sa.DateTime, nullable=False),
    sa.Column("period_end", sa.DateTime, nullable=False),
    # JSON of the reference that the period's wines make
    sa.Column("reference", sa.Text, nullable=False),
    # 0: its errors are those of the reference before
    sa.Column("labelled", sa.BigInteger, nullable=False),
    sa.Column("person", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("accepted_at", sa.DateTime, nullable=False),
    # null while it is in force
    sa.Column("withdrawn_by", sa.Text),
    sa.Column("withdrawn_note", sa.Text),
    sa.Column("withdrawn_at", sa.DateTime),
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
INCIDENTS = sa.Table(
    "incidents",
    METADATA,
    # a number that people type
    sa.Column("incident", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    # when a run saw it first, and saw that it was over; null while it is open
    sa.Column("opened_at", sa.DateTime, nullable=False),
    sa.Column("closed_at", sa.DateTime),
)
INCIDENT_ALERTS = sa.Table(
    "incident_alerts",
    METADATA,
    sa.Column("found", sa.DateTime, primary_key=True),
    sa.Column("model_version", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("verdict", sa.Text, primary_key=True),
    # null from here on: sent by an edition that knew of no incidents, and not seen since
    sa.Column("incident", sa.Integer, sa.ForeignKey("incidents.incident")),
    sa.Column("segment", sa.Text),
    sa.Column("since", sa.DateTime),
    sa.Column("since_earliest", sa.DateTime),
    sa.Column("since_latest", sa.DateTime),
    sa.Column("resolved", sa.DateTime),
    sa.Column("n", sa.BigInteger),
    sa.Column("reason", sa.Text),
    sa.Column("certain", sa.Integer),
    # when its incident was sent; null while nobody was sent it
    sa.Column("sent_at", sa.DateTime),
)
INCIDENT_ACTIONS = sa.Table(
    "incident_actions",
    METADATA,
    sa.Column("action_id", sa.Integer, primary_key=True),
    sa.Column("incident", sa.Integer, sa.ForeignKey("incidents.incident"), nullable=False),
    # acknowledged or muted
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("until", sa.DateTime),
    sa.Column("person", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("acted_at", sa.DateTime, nullable=False),
)
NOTIFICATIONS = sa.Table(
    "notifications",
    METADATA,
    sa.Column("notification_id", sa.Integer, primary_key=True),
    sa.Column("incident", sa.Integer, sa.ForeignKey("incidents.incident"), nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    # opened, worsened, ongoing, resolved, reopened
    sa.Column("event", sa.Text, nullable=False),
    # that of the incident at that time
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("decided_at", sa.DateTime, nullable=False),
    # null: not sent yet, or refused with these words
    sa.Column("sent_at", sa.DateTime),
    sa.Column("failure", sa.Text),
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
