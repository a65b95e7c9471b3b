"""What a person should be alerted of; `incidents` puts alerts of one cause together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self

import pandas as pd
from pydantic import Field, field_validator

from wine_quality.drift.sources import timeline_of
from wine_quality.drift.verdicts import COPIES
from wine_quality.drift.vocabulary import SELECTED_LABELS, UNFINISHED, Alarm
from wine_quality.drift.watching import MODEL, SETTLED_AFTER_S, Finding
from wine_quality.drift.window_names import in_words
from wine_quality.drift.windows import OF_VERSIONS
from wine_quality.errors import WineQualityError
from wine_quality.parameters import Parameters

Severity = Literal["warning", "error", "critical"]
SEVERITIES: tuple[Severity, ...] = ("warning", "error", "critical")
"""From the lowest to the highest."""
SEVERITY_OF: Mapping[Alarm, Severity] = {
    "drift": "warning",
    "data_quality": "error",
    "decayed": "critical",
    "no_traffic": "critical",
}
LOG_CHANNEL = "log"
"""The channel that is always there: the log of the run."""
UNJUDGED = frozenset({"insufficient_data", "no_labels", SELECTED_LABELS, UNFINISHED})


@dataclass(frozen=True)
class Alert:
    """Something that a person should look at. Moments are UTC.

    Attributes:
        verdict: What kind of thing it is.
        model_version: Whose traffic.
        subject: The column, `joint`, `copies`, `model`, `traffic` or `event_time`.
        segment: In which wines it shows most.
        found: Start of the hour, or of the window, in which it was found.
        since: When it most likely began.
        since_earliest: Earliest moment that is to be expected.
        since_latest: Latest moment that is to be expected.
        resolved: When it was over; None while it is open.
        n: Wines that it rests on.
        reason: In words.
        certain: Whether it was seen directly, not found by evidence over time.
        incident: Number of the incident that it is part of; None before it is recorded.
        new: Whether nobody had been sent its incident before this run, or it joined in this run.
        sent: Whether somebody has been sent its incident, in this run or before.
    """

    verdict: Alarm
    model_version: str
    subject: str
    segment: str
    found: datetime
    since: datetime
    since_earliest: datetime
    since_latest: datetime
    resolved: datetime | None
    n: int
    reason: str
    certain: bool = False
    incident: int | None = None
    new: bool = False
    sent: bool = False

    @property
    def severity(self) -> Severity:
        """How bad a thing of this kind is."""
        return SEVERITY_OF[self.verdict]

    @property
    def key(self) -> tuple[str, str, Alarm]:
        """What it is about: version, subject and verdict."""
        return self.model_version, self.subject, self.verdict

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.resolved is None

    def is_part_of(self, other: "Alert") -> bool:
        """Whether another alert on the same subject covers its beginning."""
        return (
            self.key == other.key
            and other.since_earliest <= self.since_latest
            and (other.resolved is None or self.since <= other.resolved)
        )

    def describe(self) -> str:
        """Say what it is about, since when, and why it was raised."""
        since = f"since {in_words(self.since)} UTC"
        if self.resolved is not None:
            since = f"from {in_words(self.since)} to {in_words(self.resolved)} UTC"
        return f"{self.subject.replace('_', ' ')}, {since}: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON knows it; `from_dict` reads it back."""
        plain = asdict(self)
        return {
            key: value.isoformat() if isinstance(value, datetime) else value
            for key, value in plain.items()
        } | {"open": self.is_open}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Read back what `to_dict` wrote."""
        moments = {"found", "since", "since_earliest", "since_latest", "resolved"}
        known = {field.name for field in fields(cls)} & plain.keys()
        values: dict[str, Any] = {
            name: datetime.fromisoformat(plain[name])
            if name in moments and plain[name]
            else plain[name]
            for name in known
        }
        return cls(**values)


class ChannelSettings(Parameters):
    """Where messages about incidents are sent."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$", description="What the channel is called")
    url: str = Field(
        min_length=1,
        description="Address, as apprise knows it, or http(s) of a webhook that takes JSON; $NAME "
        "stands for an environment variable, $$ for a dollar sign",
    )
    lowest_severity: Severity = Field(
        "warning", description="Incidents below it are not sent: drift is a warning, data_quality "
        "an error, decayed and no_traffic are critical",
    )  # fmt: skip
    secret: str | None = Field(
        None, description="Key that signs what a webhook is sent, as $NAME of the environment"
    )

    @field_validator("url")
    @classmethod
    def _has_scheme(cls, url: str) -> str:
        if "://" not in url and "$" not in url:
            raise ValueError("a channel's url is like slack://…, mailto://…, https://… or $NAME")
        return url


class AlertSettings(Parameters):
    """How many false alerts are bearable, and who is sent what about incidents."""

    false_alerts_per_month: float = Field(
        1.0,
        gt=0,
        le=100,
        description="Alerts of drift, decay and faulty values to expect in 30 days without a "
        "change, over everything that is monitored together",
    )
    fail_on: tuple[Alarm, ...] = Field(
        (), description="Verdicts whose alerts, open and new, end the run with status 1"
    )
    channels: tuple[ChannelSettings, ...] = Field(
        (), description="Where messages are sent, beside the log of the run"
    )
    remind_after_hours: float = Field(
        24, gt=0, description="Hours after which an incident that goes on is sent again"
    )
    page: str | None = Field(
        None, description="Address of the monitoring page, which messages name"
    )
    attempts: int = Field(3, ge=1, le=10, description="Tries of each message in one run")
    timeout: float = Field(10, gt=0, description="Seconds without an answer before a try fails")
    patience: float = Field(
        60, ge=0, description="Seconds that a channel may ask to wait for within one run"
    )

    @field_validator("channels")
    @classmethod
    def _have_names(cls, channels: tuple[ChannelSettings, ...]) -> tuple[ChannelSettings, ...]:
        names = [LOG_CHANNEL, *(channel.name for channel in channels)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each channel needs a name of its own; taken is {', '.join(twice)}")
        return channels


def raise_alerts(findings: Sequence[Finding], verdicts: pd.DataFrame) -> list[Alert]:
    """List the alerts, in the order in which they were found.

    What evidence over time has found, and what needs none: windows without traffic or with an
    unusual number of wines, wines that come several times, a column that is absent, empty or stuck
    in a whole window, event times in the future, a version without a reference.

    Args:
        findings: What `watching.find_changes` found.
        verdicts: Rows of `verdicts.decide`, `windows.judge_traffic` and `windows.whole_versions`.
    """
    alerts = [
        Alert(
            verdict=finding.verdict,
            model_version=finding.model_version,
            subject=finding.subject,
            segment=finding.segment,
            found=_moment(finding.found),
            since=_moment(finding.since),
            since_earliest=_moment(finding.earliest),
            since_latest=_moment(finding.latest),
            resolved=None if finding.resolved is None else _moment(finding.resolved),
            n=finding.n,
            reason=finding.reason,
        )
        for finding in findings
    ]
    certain = [alert for alert in _of_windows(verdicts) if not any(map(alert.is_part_of, alerts))]
    listed = sorted([*alerts, *certain], key=lambda alert: alert.found)
    return _without_replaced(listed, verdicts)


def _without_replaced(alerts: Sequence[Alert], verdicts: pd.DataFrame) -> list[Alert]:
    """End the alerts of versions that others have replaced: no wine will ever show that it is over.

    A version is replaced if the newest wines of its timeline are not its, by as long as a subject
    takes to settle.
    """
    seen = verdicts[~verdicts["column"].isin(OF_VERSIONS) & (verdicts["n"] > 0)]
    if seen.empty:
        return list(alerts)
    ends = seen.groupby("model_version")["window_end"].max()
    newest = ends.groupby(timeline_of).max() - pd.Timedelta(seconds=SETTLED_AFTER_S)

    def ended(alert: Alert) -> Alert:
        end = ends.get(alert.model_version, seen["window_start"].min())
        replaced_before = newest.get(timeline_of(alert.model_version), newest.max())
        lasts = not alert.is_open or alert.subject in OF_VERSIONS or end > replaced_before
        if lasts:
            return alert
        reason = f"{alert.reason}; version {alert.model_version} has got no wines since"
        return replace(alert, resolved=max(end.to_pydatetime(), alert.found), reason=reason)

    return [ended(alert) for alert in alerts]


def _moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def _of_windows(verdicts: pd.DataFrame) -> list[Alert]:
    """Alerts of verdicts that chance does not bring about; windows in a row are one."""
    judged = verdicts[~verdicts["verdict"].isin(UNJUDGED)]
    alerts = []
    for (version, subject), rows in judged.groupby(["model_version", "column"], sort=False):
        current: Alert | None = None
        for row in rows.sort_values("window_start", kind="stable").to_dict(orient="records"):
            start, end = (row[key].to_pydatetime() for key in ("window_start", "window_end"))
            if not _is_certain(row):
                if current is not None:
                    alerts.append(replace(current, resolved=start))
                current = None
            elif current is None or current.verdict != row["verdict"]:
                if current is not None:
                    alerts.append(replace(current, resolved=start))
                current = Alert(
                    row["verdict"], str(version), str(subject), row["segment"], start, start,
                    start, end, None, int(row["n"]), row["reason"], certain=True,
                )  # fmt: skip
        if current is not None:
            alerts.append(current)
    return alerts


def _is_certain(row: Mapping[Any, Any]) -> bool:
    if row["verdict"] not in ("data_quality", "no_traffic"):
        return False
    # the share of faulty values; 1 is a column that is absent, empty or stuck
    return row["column"] in (*OF_VERSIONS, COPIES) or row["value"] == 1


def by_subject(verdicts: pd.DataFrame, model_verdicts: pd.DataFrame) -> pd.DataFrame:
    """Put the verdicts on columns and those on the model into one table.

    Args:
        verdicts: Rows of `verdicts.decide`; the subject is the column.
        model_verdicts: Rows of `performance.judge_performance`; the subject is `model (segment)`.

    Returns:
        The rows of both with all their columns, and `subject`.
    """
    tables = (
        verdicts.assign(subject=verdicts["column"]),
        model_verdicts.assign(subject=model_verdicts["segment"].map(model_subject).astype("str")),
    )
    return pd.concat(tables, ignore_index=True)


def model_subject(segment: str) -> str:
    """What the model's verdict on a segment is filed under."""
    return f"{MODEL} ({segment})"


class FailingAlertsError(WineQualityError):
    """An alert is open and new that must not pass unseen; all else of the run was done."""


def failing(alerts: Iterable[Alert], settings: AlertSettings) -> list[Alert]:
    """Select the alerts that a scheduler has to know of by the exit status: open and new."""
    return [a for a in alerts if a.is_open and a.new and a.verdict in settings.fail_on]
