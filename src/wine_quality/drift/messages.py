"""What is said about incidents: in words for people, as JSON for machines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from wine_quality.drift.alerts import SEVERITIES, Alert, AlertSettings, Severity
from wine_quality.drift.incident_store import Notification
from wine_quality.drift.incidents import Event, Incident
from wine_quality.drift.reference import ALL
from wine_quality.drift.vocabulary import SELECTED_LABELS, Alarm, count_of
from wine_quality.drift.window_names import in_words
from wine_quality.wines import QUALITY_UNIT

FORMAT_VERSION = 2
"""Of the JSON that webhooks get; a change that a reader has to know of raises it. An edition
without one posted `{"alerts": [...]}`."""
MOST_MEMBERS = 20
"""Alerts of an incident in its JSON; `alerts_in_all` counts the others."""
LONGEST_REASON = 300
HEADLINES: dict[Event, str] = {
    "opened": "Opened",
    "worsened": "Worse",
    "ongoing": "Still open",
    "resolved": "Resolved",
    "reopened": "Open again",
}
ADVICE: dict[Alarm, str] = {
    "drift": "see whether the wines or the measuring have changed; if the wines have, label some "
    "of them and run 'kedro run --pipeline retraining'",
    "data_quality": "look at what sends these values; the windows stay out of training until it "
    "is corrected",
    "decayed": "take the champion back with 'kedro champion rollback' if an earlier one did "
    "better, or run 'kedro run --pipeline retraining'",
    "no_traffic": "see that the service runs and that its clients reach it",
}
Cost = Callable[[Incident], str]
"""Says what an incident costs, in words."""


@dataclass(frozen=True)
class Message:
    """What is said about one thing.

    Attributes:
        title: What it is about; the same for all messages about one incident, so that services
            that open and close incidents of their own know it again.
        summary: What happened, in one line.
        lines: Further lines, the most important first.
        heading: What stands above the details.
        details: Lines of which a channel is sent as many as it takes.
        severity: None for a test.
        is_over: Whether nothing is to be done any more.
        content: As JSON, beside what all messages have.
    """

    title: str
    summary: str
    lines: tuple[str, ...]
    heading: str
    details: tuple[str, ...]
    severity: Severity | None
    is_over: bool
    content: dict[str, Any]

    def text(self, longest: int) -> str:
        """Write the message, no longer than so many characters; what counts least is left out."""
        said = "\n".join((self.summary, *self.lines))
        room = longest - len(said) - len(self.heading) - 1
        shown: list[str] = []
        for left, line in zip(reversed(range(len(self.details))), self.details, strict=True):
            more = f"… and {left} more" if left else ""
            if sum(len(shown_line) + 1 for shown_line in (*shown, line)) + len(more) + 1 > room:
                break
            shown.append(line)
        if not shown:
            return _shortened(said, longest)
        left = len(self.details) - len(shown)
        return "\n".join((said, self.heading, *shown, *([f"… and {left} more"] if left else [])))


def message_of(notification: Notification, cost: Cost, settings: AlertSettings) -> Message:
    """Say what has become of an incident, since when, how sure that is, and what to do."""
    incident, event = notification.incident, notification.event
    cause = incident.alerts[0]
    summary = f"{HEADLINES[event]} ({incident.severity}): {_shortened(cause.describe(), 400)}"
    costs = cost(incident)
    lines = [f"Since: {onset_in_words(incident)}", f"Sure: {certainty_in_words(cause, settings)}"]
    lines.append(f"Error: {costs}")
    if event != "resolved":
        lines.append(f"To do: {ADVICE[cause.verdict]}")
    if settings.page:
        lines.append(f"Page: {settings.page}")
    others = incident.alerts[1:]
    names = _shortened(", ".join(alert.subject.replace("_", " ") for alert in others), 100)
    details = (
        f"- {alert.verdict.replace('_', ' ')}: {_shortened(alert.describe(), LONGEST_REASON)}"
        for alert in others
    )
    content = {
        "notification": notification.identifier,
        "event": event,
        "incident": _plain_incident(incident, costs, settings.page, summary),
    }
    title = f"Wine quality incident {incident.number}, version {incident.model_version}: "
    return Message(
        title + incident.title,
        summary,
        tuple(lines),
        f"With it, {count_of(len(others), 'more alert')} ({names}):",
        tuple(details),
        incident.severity,
        event == "resolved",
        content,
    )


def digest(messages: Sequence[Message], settings: AlertSettings) -> Message:
    """Put many messages into one, a line each."""
    worst = max((m.severity for m in messages if m.severity), key=SEVERITIES.index, default=None)
    page = (f"Page: {settings.page}",) if settings.page else ()
    return Message(
        f"Wine quality: {len(messages)} changes of incidents",
        f"{len(messages)} changes of incidents at once",
        page,
        "'kedro alerts list' shows what is open:",
        tuple(f"- {m.title.removeprefix('Wine quality ')}. {m.summary}" for m in messages),
        worst,
        all(message.is_over for message in messages),
        {},
    )


def trial_message(settings: AlertSettings) -> Message:
    """A message that asks nothing of anybody."""
    summary = "This is a test: alerts of the monitoring arrive here"
    return _alone("test", "test of this channel", summary, None, settings)


def rollback_message(reason: str, settings: AlertSettings) -> Message:
    """Say that a promotion was undone, and why."""
    return _alone("promotion_undone", "a promotion is undone", reason, "error", settings)


def _alone(
    event: str, title: str, summary: str, severity: Severity | None, settings: AlertSettings
) -> Message:
    """A message that belongs to no incident."""
    page = (f"Page: {settings.page}",) if settings.page else ()
    content = {"event": event, "summary": summary}
    return Message(f"Wine quality: {title}", summary, page, "", (), severity, True, content)


def error_since(model_verdicts: pd.DataFrame) -> Cost:
    """Make what says which error the windows of an incident had, beside the reference's.

    Args:
        model_verdicts: Rows of `performance.judge_performance`.
    """
    judged = model_verdicts[(model_verdicts["segment"] == ALL) & (model_verdicts["n"] > 0)]
    judged = judged[judged["verdict"] != SELECTED_LABELS]

    def cost(incident: Incident) -> str:
        own = judged[
            (judged["model_version"] == incident.model_version)
            & (judged["window_end"] > pd.Timestamp(incident.since))
        ]
        if incident.resolved is not None:
            own = own[own["window_start"] < pd.Timestamp(incident.resolved)]
        n = int(own["n"].sum())
        if not n:
            return "not known, no wine since then has its ground truth yet"
        mae = float((own["mae"] * own["n"]).sum()) / n
        usual = float((own["reference_mae"] * own["n"]).sum()) / n
        return (
            f"mean absolute error {mae:.3f} {QUALITY_UNIT}, against {usual:.3f} in the reference "
            f"({count_of(n, 'labelled wine')})"
        )

    return cost


def onset_in_words(incident: Incident) -> str:
    """Say when an incident began and how sure that is, and when it was over."""
    cause = incident.alerts[0]
    until = "" if incident.resolved is None else f" until {in_words(incident.resolved)}"
    if cause.certain:
        return f"{in_words(cause.since)}{until} UTC"
    return (
        f"{in_words(cause.since)}{until} UTC; the onset is between "
        f"{in_words(cause.since_earliest)} and {in_words(cause.since_latest)} with 90 %"
    )


def certainty_in_words(cause: Alert, settings: AlertSettings) -> str:
    """Say on what an alert rests."""
    wines = count_of(cause.n, "wine")
    if cause.certain:
        return f"seen directly in {wines}, nothing is estimated"
    return (
        f"{wines}; false alerts, of all that is watched together: at most "
        f"{settings.false_alerts_per_month:g} in 30 days"
    )


def _plain_incident(
    incident: Incident, costs: str, page: str | None, summary: str
) -> dict[str, Any]:
    handling = incident.handling
    return {
        "number": incident.number,
        "title": incident.title,
        "summary": summary,
        "model_version": incident.model_version,
        "severity": incident.severity,
        "open": incident.is_open,
        "since": incident.since.isoformat(),
        "resolved": _moment(incident.resolved),
        "opened_at": incident.opened_at.isoformat(),
        "closed_at": _moment(incident.closed_at),
        "error": costs,
        "to_do": ADVICE[incident.alerts[0].verdict] if incident.is_open else None,
        "page": page,
        "handling": handling and {
            "action": handling.action,
            "until": _moment(handling.until),
            "person": handling.person,
            "note": handling.note,
        },
        "alerts_in_all": len(incident.alerts),
        "alerts": [_plain_alert(alert) for alert in incident.alerts[:MOST_MEMBERS]],
    }  # fmt: skip


def _plain_alert(alert: Alert) -> dict[str, Any]:
    # what is new and sent changes with the message's own fate
    plain = {k: v for k, v in alert.to_dict().items() if k not in ("new", "sent", "incident")}
    return plain | {"reason": _shortened(alert.reason, LONGEST_REASON)}


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
