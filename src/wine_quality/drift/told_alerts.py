"""Which alerts were sent, in the monitoring's database: whatever machine a run is on.

Sending takes longer than a transaction may, so it has a lock of its own: of two runs at once one
sends, and the other waits and finds nothing new. A run that is killed while it sends leaves its
alerts to the next one: rather sent twice than never.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa

from wine_quality.drift.alerts import Alert
from wine_quality.drift.store_database import StoreDatabase
from wine_quality.drift.store_schema import TOLD_ALERTS


class ToldAlerts(StoreDatabase):
    """The alerts that were sent, in a SQLite file or a PostgreSQL database."""

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until nobody else sends alerts, and keep others waiting meanwhile.

        Raises:
            WineQualityError: Another run takes too long, or the database cannot be used.
        """
        with self.exclusive("alerts", "sending alerts"):
            yield

    def untold(self, alerts: Iterable[Alert]) -> list[Alert]:
        """Leave out the alerts that were sent.

        An alert is one that was sent if that one, on the same subject of the same version, was
        found while this one lasted: late labels and wines move the hour in which it is found.
        """
        listed = list(alerts)
        if not listed:
            return []
        query = sa.select(*(TOLD_ALERTS.c[name] for name in (*_SUBJECT, "window_start")))
        with self.transaction() as connection:
            sent = [
                ((version, subject, verdict), found.replace(tzinfo=UTC))
                for version, subject, verdict, found in connection.execute(query)
            ]
        by_subject: dict[tuple[str, str, str], list[datetime]] = {}
        for key, found in sent:
            by_subject.setdefault(key, []).append(found)
        return [
            alert
            for alert in listed
            if not any(
                alert.since_earliest <= found <= (alert.resolved or _FOREVER)
                for found in by_subject.get(_subject(alert), [])
            )
        ]

    def add(self, alerts: Iterable[Alert], sent_at: datetime) -> None:
        """Note that alerts were sent, all or none.

        Args:
            alerts: None of them noted before.
            sent_at: When, with a time zone.
        """
        moment = sent_at.astimezone(UTC).replace(tzinfo=None)
        rows = [
            {
                **dict(zip(_SUBJECT, _subject(alert), strict=True)),
                "window_start": alert.found.astimezone(UTC).replace(tzinfo=None),
                "told_at": moment,
            }
            for alert in alerts
        ]
        if rows:
            with self.transaction() as connection:
                connection.execute(self.insert(TOLD_ALERTS).on_conflict_do_nothing(), rows)


_SUBJECT = ("model_version", "subject", "verdict")
_FOREVER = datetime.max.replace(tzinfo=UTC)


def _subject(alert: Alert) -> tuple[str, str, str]:
    return alert.model_version, alert.subject, alert.verdict
