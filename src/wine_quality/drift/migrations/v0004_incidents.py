"""Incidents, what people did about them and what was sent of them, in place of `told_alerts`.

The alerts that were sent before stay, with the moment: an incident that goes on is then no news.
"""

import sqlalchemy as sa
from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    """Make the tables, and move the alerts that were sent into theirs."""
    op.create_table(
        "incidents",
        sa.Column("incident", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("opened_at", sa.DateTime, nullable=False),
        sa.Column("closed_at", sa.DateTime),
        sa.PrimaryKeyConstraint("incident"),
    )
    op.create_table(
        "incident_alerts",
        sa.Column("found", sa.DateTime, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("incident", sa.Integer),
        sa.Column("segment", sa.Text),
        sa.Column("since", sa.DateTime),
        sa.Column("since_earliest", sa.DateTime),
        sa.Column("since_latest", sa.DateTime),
        sa.Column("resolved", sa.DateTime),
        sa.Column("n", sa.BigInteger),
        sa.Column("reason", sa.Text),
        sa.Column("certain", sa.Integer),
        sa.Column("sent_at", sa.DateTime),
        sa.PrimaryKeyConstraint("found", "model_version", "subject", "verdict"),
        sa.ForeignKeyConstraint(["incident"], ["incidents.incident"]),
    )
    op.create_table(
        "incident_actions",
        sa.Column("action_id", sa.Integer, nullable=False),
        sa.Column("incident", sa.Integer, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("until", sa.DateTime),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("acted_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("action_id"),
        sa.ForeignKeyConstraint(["incident"], ["incidents.incident"]),
    )
    op.create_table(
        "notifications",
        sa.Column("notification_id", sa.Integer, nullable=False),
        sa.Column("incident", sa.Integer, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("decided_at", sa.DateTime, nullable=False),
        sa.Column("sent_at", sa.DateTime),
        sa.Column("failure", sa.Text),
        sa.PrimaryKeyConstraint("notification_id"),
        sa.ForeignKeyConstraint(["incident"], ["incidents.incident"]),
    )
    op.execute(
        "INSERT INTO incident_alerts (found, model_version, subject, verdict, sent_at) "
        "SELECT window_start, model_version, subject, verdict, told_at FROM told_alerts"
    )
    op.drop_table("told_alerts")
