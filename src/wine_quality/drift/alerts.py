"""Which verdicts a person should be told of, and telling them once."""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from http.client import HTTPException
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pandas as pd
from pydantic import Field, model_validator

from wine_quality.drift.verdicts import TRAFFIC
from wine_quality.parameters import Parameters
from wine_quality.retrying import doubling, retry

if TYPE_CHECKING:
    from wine_quality.drift.told_alerts import ToldAlerts

logger = logging.getLogger(__name__)

MOST_LOGGED = 10
"""New alerts that have lines of their own in the log; more are counted there."""

Alarm = Literal["drift", "data_quality", "no_traffic", "decayed"]
ALARMS: tuple[Alarm, ...] = ("drift", "data_quality", "no_traffic", "decayed")
UNJUDGED = frozenset({"insufficient_data", "no_labels"})
IDENTITY = ("window_start", "model_version", "subject", "verdict")
"""What makes two alerts the same one."""
_identity = itemgetter(*IDENTITY)
Alert = dict[str, Any]
"""Plain values: `IDENTITY`, `window_end`, `value`, `threshold`, `n`, `reason`, and whether it is of
the `newest` window, `new` (nobody was told of it before this run) and `told`."""


class AlertSettings(Parameters):
    """Which alarming verdicts become alerts, and who is told."""

    after: int = Field(1, ge=1, description="An alert needs this many alarming windows …")
    of: int = Field(1, ge=1, description="… among this many latest judged windows of its subject")
    fail_on: tuple[Alarm, ...] = Field(
        (), description="Verdicts whose alerts in the newest window end the run with status 1"
    )
    webhook: str | None = Field(
        None, description="Address that new alerts are posted to as JSON; nobody without one"
    )
    attempts: int = Field(3, ge=1, le=10, description="Tries of each post")
    timeout: float = Field(10, gt=0, description="Seconds without an answer before a try fails")

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.after > self.of:
            raise ValueError(f"after ({self.after}) cannot exceed of ({self.of})")
        if self.webhook and not self.webhook.startswith(("http://", "https://")):
            raise ValueError("webhook is neither an http nor an https address")
        if self.webhook and not _has_host(self.webhook):
            raise ValueError("webhook has no host, or a port that is no number")
        return self


def raise_alerts(
    verdicts: pd.DataFrame, model_verdicts: pd.DataFrame, settings: AlertSettings
) -> list[Alert]:
    """Find the alerts of all windows, in the order of event time.

    An alarming verdict becomes an alert if at least `after` of the subject's `of` latest judged
    windows, itself included, were alarming. Windows that could not be judged are passed over.

    Args:
        verdicts: Rows of `verdicts.decide`; the subject is the column.
        model_verdicts: Rows of `performance.judge_performance`; the subject is `model (segment)`.
        settings: The rule.

    Returns:
        Alerts, not yet told to anybody; `newest` marks those of the newest window.
    """
    judged = by_subject(verdicts, model_verdicts)
    if judged.empty:
        return []
    judged = judged.assign(newest=is_newest(judged["window_start"], judged["subject"]))
    judged = judged[~judged["verdict"].isin(UNJUDGED)].sort_values("window_start", kind="stable")
    alarming = judged["verdict"].isin(ALARMS)
    recent = (
        alarming.astype(int)
        .groupby([judged["model_version"], judged["subject"]])
        .transform(lambda alarms: alarms.rolling(settings.of, min_periods=1).sum())
    )
    fields = ["window_start", "window_end", "model_version", "subject", "verdict"]
    fields += ["value", "threshold", "n", "reason", "newest"]
    table = judged.loc[alarming & (recent >= settings.after), fields]
    alerts = []
    for row in table.to_dict(orient="records"):
        plain = {str(key): value for key, value in row.items()}
        plain["newest"] = bool(plain["newest"])
        plain |= {"new": False, "told": False}
        plain |= {key: plain[key].isoformat() for key in ("window_start", "window_end")}
        alerts.append(plain)
    return alerts


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
        model_verdicts.assign(subject="model (" + model_verdicts["segment"] + ")"),
    )
    return pd.concat(tables, ignore_index=True)


def is_newest(window_start: pd.Series, subject: pd.Series) -> pd.Series:
    """Mark the rows of the newest window.

    The traffic has windows of its own: where small ones are merged, or where nothing came of late,
    its newest window begins after that of the columns and of the model.

    Args:
        window_start: Of each verdict.
        subject: What it is on.

    Returns:
        True where no other verdict of its kind is on a later window.
    """
    return window_start == window_start.groupby(subject == TRAFFIC).transform("max")


def tell(alerts: Sequence[Alert], told: "ToldAlerts", settings: AlertSettings) -> list[Alert]:
    """Log each alert that is new, and post the new ones to the webhook where there is one.

    What could not be posted stays untold, so that the next run tries again; the run itself goes on.

    Args:
        alerts: All alerts of this run.
        told: Those that somebody was told of; the new ones are added.
        settings: Where to post, and how often to try.

    Returns:
        All alerts, with `told` true where somebody was told, now or before, and `new` where nobody
        was before.

    Raises:
        WineQualityError: Another run tells alerts for too long, or the database of those that were
            told cannot be used.
    """
    if not alerts:
        return []
    with told.turn():
        new = told.untold(alerts)
        _log(new)
        delivered = not settings.webhook or not new or _post(settings.webhook, new, settings)
        if delivered:
            told.add(new, datetime.now(UTC))
    of_new = {_identity(alert) for alert in new}
    return [
        alert | {"new": is_new, "told": delivered or not is_new}
        for alert in alerts
        for is_new in [_identity(alert) in of_new]
    ]


def new_elsewhere(alerts: Iterable[Alert]) -> list[Alert]:
    """Select the new alerts of windows that are not the newest.

    Labels and wines come late, and simulated wines bear days of their own: what is new need not be
    in the newest window.
    """
    return [alert for alert in alerts if alert["new"] and not alert["newest"]]


def failing(alerts: Iterable[Alert], settings: AlertSettings) -> list[Alert]:
    """Select the newest window's alerts that a scheduler has to know of by the exit status."""
    return [alert for alert in alerts if alert["newest"] and alert["verdict"] in settings.fail_on]


def describe(alert: Alert) -> str:
    """Say what an alert is about and why it was raised; a reason begins with a name of its own."""
    return f"{alert['subject'].replace('_', ' ')}: {alert['reason'].partition(': ')[2]}"


def _log(alerts: Sequence[Alert]) -> None:
    """Log each alert or, where there are many, how many of each verdict there are."""
    if len(alerts) <= MOST_LOGGED:
        for alert in alerts:
            logger.warning(
                "%s since %s: %s", alert["verdict"], alert["window_start"], describe(alert)
            )
        return
    counts = Counter(alert["verdict"] for alert in alerts)
    logger.warning(
        "%d new alerts, the first since %s, the last since %s (%s): see the monitoring page",
        len(alerts),
        min(alert["window_start"] for alert in alerts),
        max(alert["window_start"] for alert in alerts),
        ", ".join(f"{verdict} {n:,}" for verdict, n in counts.most_common()),
    )


def _post(address: str, alerts: Sequence[Alert], settings: AlertSettings) -> bool:
    """Post alerts, trying again after 1, 2, 4, … seconds; a 4xx answer is final."""
    request = Request(  # noqa: S310 - the settings allow http and https only
        address,
        data=json.dumps({"alerts": list(alerts)}).encode(),
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
