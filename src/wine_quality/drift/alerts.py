"""What a person should be alerted of, and sending each alert once."""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Self
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pandas as pd
from pydantic import Field, model_validator

from wine_quality.drift.verdicts import COPIES
from wine_quality.drift.vocabulary import UNFINISHED, Alarm
from wine_quality.drift.watching import MODEL, Finding
from wine_quality.drift.window_names import in_words
from wine_quality.drift.windows import OF_VERSIONS
from wine_quality.errors import WineQualityError
from wine_quality.parameters import Parameters
from wine_quality.system.retrying import doubling, retry

if TYPE_CHECKING:
    from wine_quality.drift.told_alerts import ToldAlerts

logger = logging.getLogger(__name__)

MOST_LOGGED = 10
"""New alerts that have lines of their own in the log; more are counted there."""
UNJUDGED = frozenset({"insufficient_data", "no_labels", UNFINISHED})


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
        new: Whether nobody had been sent it before this run.
        sent: Whether somebody has been sent it, in this run or before.
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
    new: bool = False
    sent: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.resolved is None

    def is_part_of(self, other: "Alert") -> bool:
        """Whether another alert on the same subject covers its beginning."""
        return (
            (self.model_version, self.subject, self.verdict)
            == (other.model_version, other.subject, other.verdict)
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
        values: dict[str, Any] = {
            field.name: datetime.fromisoformat(plain[field.name])
            if field.name in moments and plain[field.name]
            else plain[field.name]
            for field in fields(cls)
        }
        return cls(**values)


class AlertSettings(Parameters):
    """How many false alerts are bearable, and who is sent them."""

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
    webhook: str | None = Field(
        None, description="Address that new alerts are posted to as JSON; nobody without one"
    )
    attempts: int = Field(3, ge=1, le=10, description="Tries of each post")
    timeout: float = Field(10, gt=0, description="Seconds without an answer before a try fails")

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.webhook and not self.webhook.startswith(("http://", "https://")):
            raise ValueError("webhook is neither an http nor an https address")
        if self.webhook and not _has_host(self.webhook):
            raise ValueError("webhook has no host, or a port that is no number")
        return self


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
    return sorted([*alerts, *certain], key=lambda alert: alert.found)


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
                    start, end, None, int(row["n"]), row["reason"],
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


def send(
    alerts: Sequence[Alert], sent_before: "ToldAlerts", settings: AlertSettings
) -> list[Alert]:
    """Log each alert that is new, and post the new ones to the webhook where there is one.

    What could not be posted stays unsent, so that the next run tries again; the run itself goes on.

    Args:
        alerts: All alerts of this run.
        sent_before: Those that somebody was sent; the new ones are added.
        settings: Where to post, and how often to try.

    Returns:
        All alerts, with `sent` true where somebody was sent it, now or before, and `new` where
        nobody was before.

    Raises:
        WineQualityError: Another run sends alerts for too long, or the database of those that were
            sent cannot be used.
    """
    if not alerts:
        return []
    with sent_before.turn():
        new = [replace(alert, new=True) for alert in sent_before.untold(alerts)]
        _log(new)
        delivered = not settings.webhook or not new or _post(settings.webhook, new, settings)
        if delivered:
            sent_before.add(new, datetime.now(UTC))
    is_new = {replace(alert, new=False) for alert in new}
    return [
        replace(alert, new=alert in is_new, sent=delivered or alert not in is_new)
        for alert in alerts
    ]


class FailingAlertsError(WineQualityError):
    """An alert is open and new that must not pass unseen; all else of the run was done."""


def failing(alerts: Iterable[Alert], settings: AlertSettings) -> list[Alert]:
    """Select the alerts that a scheduler has to know of by the exit status: open and new."""
    return [a for a in alerts if a.is_open and a.new and a.verdict in settings.fail_on]


def _log(alerts: Sequence[Alert]) -> None:
    """Log each alert or, where there are many, how many of each verdict there are."""
    if len(alerts) <= MOST_LOGGED:
        for alert in alerts:
            logger.warning("%s: %s", alert.verdict, alert.describe())
        return
    counts = Counter(alert.verdict for alert in alerts)
    logger.warning(
        "%d new alerts, the first since %s, the last since %s (%s): see the monitoring page",
        len(alerts),
        in_words(min(alert.since for alert in alerts)),
        in_words(max(alert.since for alert in alerts)),
        ", ".join(f"{verdict} {n:,}" for verdict, n in counts.most_common()),
    )


def _post(address: str, alerts: Sequence[Alert], settings: AlertSettings) -> bool:
    """Post alerts, trying again after 1, 2, 4, … seconds; a 4xx answer is final."""
    request = Request(  # noqa: S310 - the settings allow http and https only
        address,
        data=json.dumps({"alerts": [alert.to_dict() for alert in alerts]}).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "wine-quality"},
    )

    def post() -> None:
        with urlopen(request, timeout=settings.timeout):  # noqa: S310
            pass

    try:
        retry(post, may_pass=_may_pass, pauses=doubling(settings.attempts))
    except (OSError, HTTPException) as error:
        logger.warning(
            "%d alerts could not be posted (%s); the next run tries again", len(alerts), error
        )
        return False
    return True


def _may_pass(error: Exception) -> bool:
    final = isinstance(error, HTTPError) and error.code < 500
    return isinstance(error, OSError | HTTPException) and not final


def _has_host(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", address)
    except ValueError:
        return False
