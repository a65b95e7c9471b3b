"""Incidents: alerts of one cause, with a life, and which of its changes are to be sent.

Alerts are found again in each run, from all counts. `follow` finds them among those recorded
before, puts new ones into incidents, and says what is over; it reads and writes no database.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from wine_quality.drift.alerts import SEVERITIES, Alert, AlertSettings, Severity
from wine_quality.drift.reference import JOINT
from wine_quality.drift.vocabulary import Alarm, count_of
from wine_quality.drift.watching import MODEL
from wine_quality.drift.window_names import in_words
from wine_quality.wines import PREDICTION

ONSET_SLACK = timedelta(hours=3)
"""What onsets of one cause may lie apart, beyond their 90 % intervals."""
PUNCTUAL = 0.98
"""Share of the time after which a reminder is due: a daily run is no clock."""
CONSEQUENCES = (JOINT, PREDICTION, MODEL)
"""Subjects that follow from others, the last one from all: causes are looked for before them."""
GONE = "it is no longer found in the counts"
_FOREVER = datetime.max.replace(tzinfo=UTC)

Event = Literal["opened", "worsened", "ongoing", "resolved", "reopened"]
Action = Literal["acknowledged", "muted"]


@dataclass(frozen=True)
class Handling:
    """What a person did about an incident. Moments are UTC.

    Attributes:
        action: `acknowledged` ends reminders, `muted` all messages.
        until: When that ends; None: with the incident.
        person: Who did it.
        note: Why, in the person's words.
        acted_at: When.
    """

    action: Action
    until: datetime | None
    person: str
    note: str
    acted_at: datetime

    def describe(self) -> str:
        """Say who did what, until when and why."""
        until = f" until {self.until:%Y-%m-%d %H:%M} UTC" if self.until else ""
        return f"{self.action} by {self.person}{until}{f': {self.note}' if self.note else ''}"


@dataclass(frozen=True)
class Incident:
    """Alerts of one version that most likely have one cause. Moments are UTC.

    Attributes:
        number: What people call it by.
        model_version: Whose traffic.
        title: The likely first cause when it was opened, in a few words; it stays, for services to
            know the incident by, whatever is found later.
        opened_at: When a run saw it first.
        closed_at: When a run saw that it was over; None while it is open.
        alerts: Its alerts, the likely first cause first, at least one.
        handling: The last thing that a person did about it, even if that has ended.
    """

    number: int
    model_version: str
    title: str
    opened_at: datetime
    closed_at: datetime | None
    alerts: tuple[Alert, ...]
    handling: Handling | None = None

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.closed_at is None

    @property
    def severity(self) -> Severity:
        """That of its worst alert."""
        return max((alert.severity for alert in self.alerts), key=SEVERITIES.index)

    @property
    def first(self) -> Alert:
        """The alert that was found first; onsets are compared with its."""
        return min(self.alerts, key=lambda alert: alert.found)

    @property
    def since(self) -> datetime:
        """When it most likely began."""
        return min(alert.since for alert in self.alerts)

    @property
    def resolved(self) -> datetime | None:
        """When the last of its alerts was over, in event time; None while it is open."""
        if self.is_open:
            return None
        return max(alert.resolved for alert in self.alerts if alert.resolved is not None)

    def handled(self, now: datetime) -> Handling | None:
        """What a person did about it, if that is still in force."""
        if self.handling is None or (self.handling.until and self.handling.until <= now):
            return None
        return self.handling

    def state(self, now: datetime) -> str:
        """`open`, `acknowledged`, `muted` or `resolved`."""
        if not self.is_open:
            return "resolved"
        handling = self.handled(now)
        return handling.action if handling else "open"

    def describe(self, now: datetime) -> str:
        """Say in one line what it is, since when, and what somebody did about it."""
        span = f"since {in_words(self.since)}"
        if self.resolved is not None:
            span = f"from {in_words(self.since)} to {in_words(self.resolved)}"
        handling = self.handled(now) if self.is_open else None
        return ", ".join(
            [
                f"{self.number}  {_title(self.alerts[0])} ({self.severity})",
                f"version {self.model_version}",
                f"{span} UTC",
                count_of(len(self.alerts), "alert"),
                handling.describe() if handling else self.state(now),
            ]
        )

    def covers(self, alert: Alert) -> bool:
        """Whether an alert began when it began, as far as anybody can tell."""
        return (
            alert.model_version == self.model_version
            and alert.since_earliest <= self.first.since_latest + ONSET_SLACK
            and alert.since_latest >= self.first.since_earliest - ONSET_SLACK
        )


@dataclass(frozen=True)
class Recorded:
    """What an edition that knew of no incidents recorded of an alert that it had sent."""

    model_version: str
    subject: str
    verdict: Alarm
    found: datetime

    @property
    def key(self) -> tuple[str, str, Alarm]:
        """As an alert's."""
        return self.model_version, self.subject, self.verdict


@dataclass(frozen=True)
class Last:
    """The last notification of an incident on a channel.

    Attributes:
        event: What it says.
        severity: The incident's at that time.
        decided_at: When it was decided.
        is_sent: Whether the channel has taken it.
    """

    event: Event
    severity: Severity
    decided_at: datetime
    is_sent: bool


def follow(
    known: Sequence[Incident], sent_before: Sequence[Recorded], raised: Sequence[Alert],
    now: datetime,
) -> tuple[list[Incident], list[Alert]]:  # fmt: skip
    """Bring the incidents up to date with the alerts of a run.

    An alert joins an open incident of its version that began when it began (see
    `Incident.covers`), or opens one. What a run no longer finds is over.

    Args:
        known: All incidents recorded before.
        sent_before: Alerts that were sent before there were incidents.
        raised: All alerts of this run.
        now: The moment of the run.

    Returns:
        All incidents, by number; and the alerts of this run as they are recorded, in the order of
        `raised`: `found` is the hour in which an alert was found first, and `new` says whether it
        was not sent before.
    """
    members = [alert for incident in known for alert in incident.alerts]
    matched = _match([*members, *sent_before], raised)
    current = []
    for place, alert in enumerate(raised):
        before = matched.get(place)
        if isinstance(before, Alert):
            known_as = {"found": before.found, "incident": before.incident, "sent": before.sent}
        elif before is not None:
            known_as = {"found": before.found, "incident": None, "sent": True}
        else:
            known_as = {"incident": None, "sent": False}
        current.append(replace(alert, **known_as, new=not known_as["sent"]))  # type: ignore[arg-type]
    taken = {id(before) for before in matched.values()}
    gone = [
        replace(alert, resolved=now, reason=f"{alert.reason}; {GONE}") if alert.is_open else alert
        for alert in members
        if id(alert) not in taken
    ]
    by_number: dict[int, list[Alert]] = defaultdict(list)
    for alert in (*gone, *current):
        if alert.incident is not None:
            by_number[alert.incident].append(alert)
    incidents = {
        incident.number: _updated(incident, by_number[incident.number], now) for incident in known
    }
    for place in sorted(range(len(current)), key=lambda place: current[place].found):
        if current[place].incident is None:
            number = _place(current[place], incidents, now)
            current[place] = replace(current[place], incident=number)
            _add(current[place], incidents, now)
    return [incidents[number] for number in sorted(incidents)], current


def _match(
    recorded: Sequence[Alert | Recorded], raised: Sequence[Alert]
) -> dict[int, Alert | Recorded]:
    """Find the alerts of a run, by their place, among those recorded.

    One is the same if that one was found while this one lasted (late labels and wines move the
    hour in which it is found) or, failing that, if both go on at some time.
    """
    by_key: dict[tuple[str, str, Alarm], list[Alert | Recorded]] = defaultdict(list)
    # of several that have become one, that which goes on
    for one in sorted(recorded, key=lambda one: (not _goes_on(one), one.found)):
        by_key[one.key].append(one)
    matched: dict[int, Alert | Recorded] = {}
    for place, alert in enumerate(raised):
        end = alert.resolved or _FOREVER
        within = (one for one in by_key[alert.key] if alert.since_earliest <= one.found <= end)
        found = next(within, None)
        if found is not None:
            matched[place] = found
            by_key[alert.key].remove(found)
    for place, alert in enumerate(raised):
        if place in matched:
            continue
        for one in by_key[alert.key]:
            if _goes_on(one) and one.found <= (alert.resolved or _FOREVER):
                matched[place] = one
                by_key[alert.key].remove(one)
                break
    return matched


def _goes_on(one: Alert | Recorded) -> bool:
    return isinstance(one, Alert) and one.is_open


def _place(alert: Alert, incidents: dict[int, Incident], now: datetime) -> int:
    """The incident that an alert joins, or the number of a new one."""
    for incident in incidents.values():
        is_current = incident.is_open or incident.opened_at == now
        if is_current and incident.covers(alert):
            return incident.number
    return max(incidents, default=0) + 1


def _add(alert: Alert, incidents: dict[int, Incident], now: datetime) -> None:
    number = alert.incident or 0
    incident = incidents.get(number) or Incident(number, alert.model_version, "", now, None, ())
    incident = _updated(incident, [*incident.alerts, alert], now)
    if incident.opened_at == now:
        incident = replace(incident, title=_title(incident.alerts[0]))
    incidents[number] = incident


def _updated(incident: Incident, alerts: Sequence[Alert], now: datetime) -> Incident:
    """Give an incident its alerts; it is open while one of them is."""
    closed_at = None
    if not any(alert.is_open for alert in alerts):
        closed_at = incident.closed_at or now
    return replace(incident, alerts=by_cause(alerts), closed_at=closed_at)


def by_cause(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    """Put the likely first cause first.

    What goes on comes before what is over, causes before consequences, earlier before later.
    """

    def order(alert: Alert) -> tuple[bool, int, datetime, datetime, str]:
        subject = alert.subject
        rank = CONSEQUENCES.index(subject) + 1 if subject in CONSEQUENCES else 0
        return not alert.is_open, rank, alert.since, alert.found, subject

    return tuple(sorted(alerts, key=order))


def _title(alert: Alert) -> str:
    return f"{alert.subject}: {alert.verdict}".replace("_", " ")


def next_event(
    incident: Incident,
    last: Last | None,
    lowest_severity: Severity,
    settings: AlertSettings,
    now: datetime,
) -> Event | None:
    """Say what of an incident a channel has to be sent next, if anything.

    Args:
        incident: As it is now.
        last: What was last decided for the channel.
        lowest_severity: That the channel takes.
        settings: When to send again.
        now: The moment of the run.
    """
    handling = incident.handled(now)
    if handling and handling.action == "muted":
        return None
    if last is None:
        return _first_event(incident, lowest_severity, now)
    if not incident.is_open:
        return None if last.event == "resolved" else "resolved"
    if last.event == "resolved":
        return "reopened"
    if not last.is_sent:
        # what waits says how things are when it is sent
        return None
    if SEVERITIES.index(incident.severity) > SEVERITIES.index(last.severity):
        return "worsened"
    is_due = now - last.decided_at >= PUNCTUAL * timedelta(hours=settings.remind_after_hours)
    return "ongoing" if is_due and not handling else None


def _first_event(incident: Incident, lowest: Severity, now: datetime) -> Event | None:
    if SEVERITIES.index(incident.severity) < SEVERITIES.index(lowest):
        return None
    was_sent = any(alert.sent for alert in incident.alerts)
    if incident.is_open:
        # one that others were sent: the channel is new, or it has worsened
        return "ongoing" if was_sent else "opened"
    return None if was_sent or incident.opened_at != now else "resolved"
