"""Which alerts somebody was told of, in the monitoring's database: whatever machine a run is on.

Telling takes longer than a transaction may, so it has a lock of its own: of two runs at once one
tells, and the other waits and finds nothing new. A run that is killed while it tells leaves its
alerts to the next one: rather told twice than never.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from wine_quality.drift.alerts import IDENTITY, Alert
from wine_quality.drift.store_database import StoreDatabase
from wine_quality.drift.store_schema import TOLD_ALERTS


class ToldAlerts(StoreDatabase):
    """The alerts that were told, in a SQLite file or a PostgreSQL database."""

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until nobody else tells alerts, and keep others waiting meanwhile.

        Raises:
            WineQualityError: Another run takes too long, or the database cannot be used.
        """
        with self.exclusive("alerts", "sending alerts"):
            yield

    def untold(self, alerts: Iterable[Alert]) -> list[Alert]:
        """Leave out the alerts that were told."""
        keyed = [(_key(alert), alert) for alert in alerts]
        if not keyed:
            return []
        first = min(key[0] for key, _ in keyed)
        query = sa.select(*(TOLD_ALERTS.c[name] for name in IDENTITY)).where(
            TOLD_ALERTS.c.window_start >= first
        )
        with self.transaction() as connection:
            told = {tuple(row) for row in connection.execute(query)}
        return [alert for key, alert in keyed if key not in told]

    def add(self, alerts: Iterable[Alert], told_at: datetime) -> None:
        """Note that alerts were told, all or none.

        Args:
            alerts: None of them noted before.
            told_at: When, with a time zone.
        """
        moment = told_at.astimezone(UTC).replace(tzinfo=None)
        rows = [
            {**dict(zip(IDENTITY, _key(alert), strict=True)), "told_at": moment} for alert in alerts
        ]
        if rows:
            with self.transaction() as connection:
                connection.execute(sa.insert(TOLD_ALERTS), rows)


def _key(alert: Alert) -> tuple[Any, ...]:
    """`IDENTITY` as the database keeps it."""
    start, *others = (alert[name] for name in IDENTITY)
    moment = datetime.fromisoformat(start).astimezone(UTC).replace(tzinfo=None)
    return (moment, *(str(other) for other in others))
