"""Incidents and what was sent of them, in the monitoring's database: whatever machine a run is on.

What is to be sent is written down in the transaction that sees the change, and marked once a
channel has taken it. Sending takes longer than a transaction may, so it has a lock of its own: of
two runs at once one sends, and the other waits and finds nothing left. A run that is killed before
it sends leaves that to the next one; killed between a channel's answer and the mark, it leaves a
message that is sent twice: at least once, never lost.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from wine_quality.database.locks import Confirm
from wine_quality.drift.alerts import Alert, AlertSettings, Severity
from wine_quality.drift.incidents import (
    Action,
    Event,
    Handling,
    Incident,
    Last,
    Recorded,
    by_cause,
    follow,
    next_event,
)
from wine_quality.drift.store_database import StoreDatabase, without_zone
from wine_quality.drift.store_schema import (
    INCIDENT_ACTIONS,
    INCIDENT_ALERTS,
    INCIDENTS,
    NOTIFICATIONS,
)
from wine_quality.errors import WineQualityError

_MOMENTS = ("found", "since", "since_earliest", "since_latest", "resolved")
_ALERT = ("model_version", "subject", "verdict", "incident", "segment", "n", "reason")


@dataclass(frozen=True)
class Notification:
    """A message that a channel is owed, or was sent.

    Attributes:
        identifier: Of the message.
        incident: As it is now.
        channel: The channel's name.
        event: What happened.
        decided_at: When that was seen.
        sent_at: When the channel took it; None while it is owed.
        failure: Why the channel did not take it, in its words.
    """

    identifier: int
    incident: Incident
    channel: str
    event: Event
    decided_at: datetime
    sent_at: datetime | None
    failure: str | None

    def describe(self) -> str:
        """Say in one line what it is and what became of it."""
        fate = f"sent {self.sent_at:%Y-%m-%d %H:%M} UTC" if self.sent_at else "not sent yet"
        why = f" ({self.failure})" if self.failure else ""
        what = f"{self.decided_at:%Y-%m-%d %H:%M} UTC {self.event}"
        return f"{what}, channel {self.channel}: {fate}{why}"


class IncidentStore(StoreDatabase):
    """The incidents in a SQLite file or a PostgreSQL database."""

    def turn(self) -> AbstractContextManager[Confirm]:
        """Wait until nobody else sends messages, and keep others waiting meanwhile.

        Raises:
            WineQualityError: Another run takes too long, or the database cannot be used.
        """
        return self.exclusive("alerts", "sending alerts")

    def follow(
        self,
        raised: Sequence[Alert],
        channels: Mapping[str, Severity],
        settings: AlertSettings,
        now: datetime,
    ) -> list[Alert]:
        """Bring the incidents up to date, and write down what each channel is to be sent.

        Args:
            raised: All alerts of a run.
            channels: The lowest severity that each takes, by name; others are owed nothing more.
            settings: When to send again.
            now: The moment of the run.

        Returns:
            The alerts as they are recorded, see `incidents.follow`.
        """
        with self.transaction() as connection:
            known, sent_before = _read(connection)
            incidents, current = follow(known, sent_before, raised, now)
            before = {incident.number: incident for incident in known}
            for incident in incidents:
                if incident != before.get(incident.number):
                    self._write(connection, incident)
            owed = sa.delete(NOTIFICATIONS).where(NOTIFICATIONS.c.sent_at.is_(None))
            connection.execute(owed.where(NOTIFICATIONS.c.channel.not_in(list(channels))))
            last = _last_notifications(connection)
            for incident in incidents:
                for channel, lowest in channels.items():
                    then = last.get((incident.number, channel))
                    event = next_event(incident, then, lowest, settings, now)
                    if event is not None:
                        _owe(connection, incident, channel, event, now)
        return current

    def _write(self, connection: Connection, incident: Incident) -> None:
        row = {
            "incident": incident.number,
            "model_version": incident.model_version,
            "title": incident.title,
            "opened_at": without_zone(incident.opened_at),
            "closed_at": without_zone(incident.closed_at),
        }
        put = self.insert(INCIDENTS).values(row)
        connection.execute(put.on_conflict_do_update(index_elements=["incident"], set_=row))
        for alert in incident.alerts:
            values = {name: getattr(alert, name) for name in _ALERT}
            values |= {name: without_zone(getattr(alert, name)) for name in _MOMENTS}
            values["certain"] = int(alert.certain)
            keys = [column.name for column in INCIDENT_ALERTS.primary_key]
            put = self.insert(INCIDENT_ALERTS).values(values)
            connection.execute(put.on_conflict_do_update(index_elements=keys, set_=values))

    def owed(self, channel: str) -> list[Notification]:
        """List what a channel is to be sent, the oldest first."""
        c = NOTIFICATIONS.c
        return self._notifications(c.channel == channel, c.sent_at.is_(None))

    def notifications(self, number: int) -> list[Notification]:
        """List all messages about an incident, the oldest first."""
        return self._notifications(NOTIFICATIONS.c.incident == number)

    def _notifications(self, *which: sa.ColumnElement[bool]) -> list[Notification]:
        query = sa.select(NOTIFICATIONS).where(*which).order_by(NOTIFICATIONS.c.notification_id)
        with self.transaction(writing=False) as connection:
            rows = connection.execute(query).all()
            known = {row.number: row for row in _read(connection)[0]} if rows else {}
        return [
            Notification(
                row.notification_id, known[row.incident], row.channel, row.event,
                row.decided_at.replace(tzinfo=UTC), _zoned(row.sent_at), row.failure,
            )
            for row in rows
        ]  # fmt: skip

    def mark_sent(self, taken: Iterable[Notification], now: datetime) -> None:
        """Note that a channel has taken messages, all or none."""
        with self.transaction() as connection:
            for notification in taken:
                row = {
                    "sent_at": without_zone(now),
                    "severity": notification.incident.severity,
                    "failure": None,
                }
                connection.execute(_of(notification).values(row))

    def mark_refused(self, refused: Iterable[Notification], words: str) -> None:
        """Note why a channel has not taken messages; they stay owed."""
        with self.transaction() as connection:
            for notification in refused:
                connection.execute(_of(notification).values(failure=words))

    def settle(
        self, is_heard: Callable[[Severity, frozenset[str]], bool], now: datetime
    ) -> set[int]:
        """Note of each alert that somebody was sent its incident, where that is so.

        Args:
            is_heard: Whether an incident of this severity that these channels have taken has
                reached somebody.
            now: The moment of the run.

        Returns:
            The incidents that somebody was sent.
        """
        c = NOTIFICATIONS.c
        query = sa.select(c.incident, c.channel).where(c.sent_at.is_not(None)).distinct()
        with self.transaction() as connection:
            takers: dict[int, set[str]] = defaultdict(set)
            for number, channel in connection.execute(query):
                takers[number].add(channel)
            sent = set()
            for incident in _read(connection)[0]:
                unsent = not all(alert.sent for alert in incident.alerts)
                if unsent and is_heard(incident.severity, frozenset(takers[incident.number])):
                    own = INCIDENT_ALERTS.c.incident == incident.number
                    unmarked = INCIDENT_ALERTS.c.sent_at.is_(None)
                    connection.execute(
                        sa.update(INCIDENT_ALERTS)
                        .where(own, unmarked)
                        .values(sent_at=without_zone(now))
                    )
                    unsent = False
                if not unsent:
                    sent.add(incident.number)
        return sent

    def incidents(self) -> list[Incident]:
        """Read all incidents, by number."""
        with self.transaction(writing=False) as connection:
            return _read(connection)[0]

    def incident(self, number: int) -> Incident:
        """Read an incident.

        Raises:
            WineQualityError: There is none of this number.
        """
        for incident in self.incidents():
            if incident.number == number:
                return incident
        raise WineQualityError(f"There is no incident {number}: 'kedro alerts list' names them.")

    def act(
        self, number: int, action: Action, person: str, note: str, until: datetime | None,
        now: datetime,
    ) -> Incident:  # fmt: skip
        """Note that a person acknowledges or mutes an incident; the last action is in force.

        Args:
            number: Of the incident.
            action: What the person does.
            person: Who it is.
            note: Why.
            until: When that ends; None: with the incident.
            now: This moment.

        Returns:
            The incident, with it.

        Raises:
            WineQualityError: There is no such incident, it is over, or the end has passed.
        """
        if until is not None and until <= now:
            raise WineQualityError(
                f"{until:%Y-%m-%d %H:%M} UTC has passed: name a later date, as 2030-01-31."
            )
        incident = self.incident(number)
        if not incident.is_open:
            raise WineQualityError(
                f"Incident {number} is over since {incident.resolved:%Y-%m-%d %H:%M} UTC: nothing "
                "more is sent of it."
            )
        row = {
            "incident": number, "action": action, "until": without_zone(until), "person": person,
            "note": note, "acted_at": without_zone(now),
        }  # fmt: skip
        with self.transaction() as connection:
            connection.execute(sa.insert(INCIDENT_ACTIONS), row)
        return self.incident(number)

    def handlings(self, number: int) -> list[Handling]:
        """List what people did about an incident, the oldest first."""
        with self.transaction(writing=False) as connection:
            return [found for of, found in _handlings(connection) if of == number]


def _read(connection: Connection) -> tuple[list[Incident], list[Recorded]]:
    """All incidents, and what was sent before there were any."""
    alerts: dict[int, list[Alert]] = defaultdict(list)
    sent_before = []
    for row in connection.execute(sa.select(INCIDENT_ALERTS)):
        if row.incident is None:
            found = row.found.replace(tzinfo=UTC)
            sent_before.append(Recorded(row.model_version, row.subject, row.verdict, found))
        else:
            alerts[row.incident].append(_alert(row))
    # the last one is in force
    handlings = dict(_handlings(connection))
    query = sa.select(INCIDENTS).order_by(INCIDENTS.c.incident)
    incidents = [
        Incident(
            row.incident, row.model_version, row.title, row.opened_at.replace(tzinfo=UTC),
            _zoned(row.closed_at), by_cause(alerts[row.incident]), handlings.get(row.incident),
        )
        for row in connection.execute(query)
    ]  # fmt: skip
    return incidents, sent_before


def _alert(row: Row[Any]) -> Alert:
    values = {name: getattr(row, name) for name in _ALERT}
    values |= {name: _zoned(getattr(row, name)) for name in _MOMENTS}
    return Alert(**values, certain=bool(row.certain), sent=row.sent_at is not None)


def _handlings(connection: Connection) -> list[tuple[int, Handling]]:
    """What people did, the oldest first, with the number of the incident."""
    query = sa.select(INCIDENT_ACTIONS).order_by(INCIDENT_ACTIONS.c.action_id)
    return [
        (
            row.incident,
            Handling(
                row.action, _zoned(row.until), row.person, row.note,
                row.acted_at.replace(tzinfo=UTC),
            ),
        )
        for row in connection.execute(query)
    ]  # fmt: skip


def _last_notifications(connection: Connection) -> dict[tuple[int, str], Last]:
    c = NOTIFICATIONS.c
    columns = (c.incident, c.channel, c.event, c.severity, c.decided_at, c.sent_at)
    # the newest comes last, and stays
    return {
        (row.incident, row.channel): Last(
            row.event, row.severity, row.decided_at.replace(tzinfo=UTC), row.sent_at is not None
        )
        for row in connection.execute(sa.select(*columns).order_by(c.notification_id))
    }


def _owe(
    connection: Connection, incident: Incident, channel: str, event: Event, now: datetime
) -> None:
    """Write down a message, in place of one that the channel has not taken yet."""
    c = NOTIFICATIONS.c
    connection.execute(
        sa.delete(NOTIFICATIONS).where(
            c.incident == incident.number, c.channel == channel, c.sent_at.is_(None)
        )
    )
    row = {
        "incident": incident.number, "channel": channel, "event": event,
        "severity": incident.severity, "decided_at": without_zone(now),
    }  # fmt: skip
    connection.execute(sa.insert(NOTIFICATIONS), row)


def _of(notification: Notification) -> sa.Update:
    c = NOTIFICATIONS.c
    return sa.update(NOTIFICATIONS).where(c.notification_id == notification.identifier)


def _zoned(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)
