"""Pages to test with: what the pipeline would give them, of synthetic wines."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from html.parser import HTMLParser
from types import MappingProxyType

import numpy as np
import pandas as pd

from wine_quality.drift.accepted import AcceptedPeriod
from wine_quality.drift.alerts import AlertSettings
from wine_quality.drift.incidents import Incident
from wine_quality.drift.judging import judge_hours
from wine_quality.drift.page.contents import PageInputs
from wine_quality.drift.profiles import count
from wine_quality.drift.reference import Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdict_store import CHANGES_DTYPES, Changes
from wine_quality.drift.windows import judge_traffic
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import PREDICTION, QUALITY

START = pd.Timestamp("2026-01-01", tz="UTC")
NOW = datetime(2026, 2, 1, tzinfo=UTC)
SETTINGS = DriftSettings(resamples=1000, seed=1)
NO_CHANGES = Changes(pd.DataFrame(columns=list(CHANGES_DTYPES)).astype(CHANGES_DTYPES), 0)
A_DAY = 100
"""Wines."""


def predicted(rows: int, seed: int) -> pd.DataFrame:
    wines = draw_wines(rows, seed)
    error = np.random.default_rng(seed).normal(0, 0.6, rows)
    return wines.assign(**{PREDICTION: wines[QUALITY] + error})


@cache
def reference() -> Reference:
    return Reference.from_wines(predicted(1500, 3))


def log_of(days: int, version: str = "1", a_day: int = A_DAY) -> pd.DataFrame:
    """So many wines on each day, in its first two hours."""
    log = predicted(days * a_day, 4)
    day = pd.to_timedelta(log.index // a_day, unit="D")
    hour = pd.to_timedelta(log.index % 2, unit="h")
    return log.assign(event_time=START + day + hour, model_version=version)


def sources_of(
    log: pd.DataFrame,
    incidents: Sequence[Incident] = (),
    settings: DriftSettings = SETTINGS,
    accepted: Mapping[str, Sequence[AcceptedPeriod]] = MappingProxyType({}),
) -> PageInputs:
    """What the pipeline would make of a log."""
    grain = settings.calendar.grain
    hours = {
        str(version): count(rows.reset_index(drop=True), reference(), grain)
        for version, rows in log.groupby("model_version")
    }
    judged = [
        judge_hours(own, reference(), name, settings, accepted=accepted.get(name, ()))
        for name, own in hours.items()
    ]
    verdicts, model = (pd.concat(tables, ignore_index=True) for tables in zip(*judged, strict=True))
    verdicts = pd.concat([verdicts, judge_traffic(hours, settings, NOW)], ignore_index=True)
    return PageInputs(
        verdicts=verdicts,
        model_verdicts=model,
        incidents=incidents,
        raised=[alert for incident in incidents for alert in incident.alerts],
        changes=NO_CHANGES,
        hours=hours,
        references=dict.fromkeys(hours, reference()),
        accepted=accepted,
        settings=settings,
        alert_settings=AlertSettings(),
        links={"Evidently's <drift> report": "evidently/drift.html"},
        now=NOW,
    )


@cache
def quiet() -> PageInputs:
    """Three days without any change."""
    return sources_of(log_of(3))


@cache
def stronger() -> PageInputs:
    """Wines have more alcohol on the second day of three, and no label on the last."""
    log = log_of(3)
    day = log["event_time"].dt.day
    changed = log.assign(
        alcohol=log["alcohol"] + 2 * (day == 2), quality=log[QUALITY].where(day < 3)
    )
    return sources_of(changed)


def with_incidents(sources: PageInputs, *incidents: Incident) -> PageInputs:
    raised = [alert for incident in incidents for alert in incident.alerts]
    return replace(sources, incidents=incidents, raised=raised)


class Page(HTMLParser):
    """What a reader sees, all addresses, and the headings."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.addresses, self.headings = "", [], []
        self._unseen = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.addresses += [attributes[k] for k in ("href", "src") if k in attributes]
        self.headings += [tag] if tag in ("h1", "h2", "h3") else []
        self._unseen += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._unseen -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._unseen:
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())
