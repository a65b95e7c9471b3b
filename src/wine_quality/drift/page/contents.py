"""What the monitoring page shows, from verdicts, incidents and counts; no row of a log is read."""

import gzip
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pandas as pd

from wine_quality.drift.accepted import AcceptedPeriod
from wine_quality.drift.alerts import SEVERITIES, Alert, AlertSettings
from wine_quality.drift.incidents import Incident
from wine_quality.drift.messages import ADVICE, certainty_in_words, error_since, onset_in_words
from wine_quality.drift.page.charts import Chart
from wine_quality.drift.page.choices import choices_in_words
from wine_quality.drift.page.curves import model_charts, traffic_charts
from wine_quality.drift.page.shown_windows import ShownWindows
from wine_quality.drift.page.subjects import Subject, SubjectMaker
from wine_quality.drift.page.words import VERDICTS, change_in_words, label_of
from wine_quality.drift.profiles import Profile
from wine_quality.drift.reference import ALL, Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdict_store import Changes
from wine_quality.drift.vocabulary import ALARMS, SELECTED_LABELS, count_of
from wine_quality.drift.window_names import in_words, span_in_words
from wine_quality.drift.windows import OF_VERSIONS
from wine_quality.wines import QUALITY_UNIT

MOST_NAMED = 3
"""Incidents and subjects that a sentence names."""
ONE_WINDOW, UNJUDGED = "No incident is open, one window is unusual", "Too few wines to judge"
"""Titles where no incident is open."""
MOST_RESOLVED = 20
"""Resolved incidents on the page, the latest; `kedro alerts list --all` lists all."""


@dataclass(frozen=True)
class PageInputs:
    """What the page is made of.

    Attributes:
        verdicts: Rows of `verdicts.decide`, `windows.judge_traffic` and `windows.whole_versions`.
        model_verdicts: Rows of `performance.judge_performance` of the same windows.
        incidents: All of them.
        raised: The alerts of this run, as `notify` gave them.
        changes: As `VerdictStore.changes` gave them.
        hours: By model version, the counts of its hours.
        references: By model version, the one that it was registered with.
        accepted: By model version, the accepted periods that are references since then.
        settings: What windows are, and which choices there are beside.
        alert_settings: What alerts promise.
        links: Further pages: addresses, relative to this one, by what they are called.
        now: When the page is written, with a time zone.
    """

    verdicts: pd.DataFrame
    model_verdicts: pd.DataFrame
    incidents: Sequence[Incident]
    raised: Sequence[Alert]
    changes: Changes
    hours: Mapping[str, Profile]
    references: Mapping[str, Reference]
    accepted: Mapping[str, Sequence[AcceptedPeriod]]
    settings: DriftSettings
    alert_settings: AlertSettings
    links: Mapping[str, str]
    now: datetime


@dataclass(frozen=True)
class Headline:
    """How things are, for somebody in a hurry.

    Attributes:
        state: `well`, `unknown` or `trouble`.
        title: In a few words.
        sentence: In one sentence.
    """

    state: str
    title: str
    sentence: str


@dataclass(frozen=True)
class Figure:
    """A number that one wants to know, and what it is."""

    value: str
    label: str


@dataclass(frozen=True)
class Card:
    """An incident as people read it.

    Attributes:
        number: What `kedro alerts` calls it by.
        title: What it is.
        version: Whose traffic.
        severity: That of its worst alert.
        verdict: That of its likely first cause.
        state: `open`, `acknowledged`, `muted` or `resolved`; with who did it and why.
        facts: What is known of it, by what it answers.
        others: Its further alerts, as subject and reason.
        is_open: Whether it goes on.
        is_new: Whether it, or an alert of it, was sent to nobody before this run.
        window: Number of the window in which it began; None where that is not on the page.
    """

    number: int
    title: str
    version: str
    severity: str
    verdict: str
    state: str
    facts: Mapping[str, str]
    others: Sequence[tuple[str, str]]
    is_open: bool
    is_new: bool
    window: int | None


@dataclass(frozen=True)
class Change:
    """A verdict that was replaced by another one."""

    window: str
    subject: str
    verdict: str
    words: str
    reason: str


@dataclass(frozen=True)
class Contents:
    """All that stands on the page.

    Attributes:
        headline: How things are.
        figures: The numbers beside it.
        open: Incidents that go on, the worst first.
        resolved: Those that are over, the latest first.
        more_resolved: How many of them are left out.
        shown: The windows.
        compared_with: For each window, which of a subject's references it is compared with.
        choices: What people have chosen about the monitoring, by what it is about.
        columns: What is judged of the wines.
        model: What is judged of the model.
        model_charts: Its error over time.
        traffic_charts: The wines over time.
        whole_versions: What is wrong with a model version as a whole.
        since: By subject, since when there is an open alert of it.
        changes: Verdicts that were replaced, the latest first.
        more_changes: How many of them are left out.
        links: Further pages.
        written: When.
    """

    headline: Headline
    figures: tuple[Figure, ...]
    open: tuple[Card, ...]
    resolved: tuple[Card, ...]
    more_resolved: int
    shown: ShownWindows
    compared_with: tuple[str, ...]
    choices: Mapping[str, str]
    columns: tuple[Subject, ...]
    model: tuple[Subject, ...]
    model_charts: tuple[Chart, ...]
    traffic_charts: tuple[Chart, ...]
    whole_versions: tuple[str, ...]
    since: Mapping[str, str]
    changes: tuple[Change, ...]
    more_changes: int
    links: Mapping[str, str]
    written: str

    @property
    def opened(self) -> int:
        """The subject that is shown at large: one with an alert, or that alarms, or any number."""

        def rank(number: int) -> tuple[bool, bool, bool]:
            subject = self.subjects[number]
            alarms = subject.panels[self.shown.newest].verdict in ALARMS
            return subject.key not in self.since, not alarms, bool(subject.axis.categories)

        return min(range(len(self.subjects)), key=rank)

    @property
    def length(self) -> str:
        """How many windows there are."""
        return count_of(len(self.shown.windows), "window")

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """All that is judged window by window."""
        return (*self.columns, *self.model)

    def packed(self) -> str:
        """What the page's script needs to show any window: JSON, compressed, in Base64."""
        plain = {
            "verdicts": VERDICTS,
            "windows": [
                {"key": window.key, "name": window.name, "reference": reference}
                for window, reference in zip(self.shown.windows, self.compared_with, strict=True)
            ],
            "at": [self.middle(k) for k in range(len(self.shown.windows))],
            "subjects": [
                {
                    # tuples, so lists to the script
                    "panels": subject.panels,
                    "references": subject.references,
                }
                for subject in self.subjects
            ],
        }
        text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
        return b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()

    def middle(self, window: int) -> float:
        """Where a window stands in charts, per cent from the left."""
        return round(100 * (self.shown.windows[window].place + 0.5) / self.shown.width, 3)


def make_contents(of: PageInputs) -> Contents:
    """Compute all that stands on the page."""
    judged = of.verdicts[~of.verdicts["column"].isin(OF_VERSIONS)]
    shown = ShownWindows.of(judged, of.model_verdicts, of.hours)
    make = SubjectMaker(shown, of.references, of.accepted)
    columns = make.columns(judged) if shown.windows else ()
    model = make.model(of.model_verdicts) if shown.windows else ()
    opened = [incident for incident in of.incidents if incident.is_open]
    opened.sort(key=lambda incident: (-SEVERITIES.index(incident.severity), incident.since))
    closed = sorted(
        (incident for incident in of.incidents if not incident.is_open),
        key=lambda incident: (incident.resolved, incident.number),
        reverse=True,
    )
    whole = of.verdicts[of.verdicts["column"].isin(OF_VERSIONS[1:])]
    return Contents(
        headline=_headline(opened, shown, columns, model),
        figures=_figures(of.model_verdicts, shown, len(opened)),
        open=tuple(_card(incident, of, shown) for incident in opened),
        resolved=tuple(_card(incident, of, shown) for incident in closed[:MOST_RESOLVED]),
        more_resolved=max(len(closed) - MOST_RESOLVED, 0),
        shown=shown,
        compared_with=make.compared_with,
        choices=choices_in_words(of.settings, of.alert_settings, of.references, of.accepted),
        columns=columns,
        model=model,
        model_charts=model_charts(of.model_verdicts, shown) if shown.windows else (),
        traffic_charts=traffic_charts(of.verdicts, of.hours, shown),
        whole_versions=tuple(
            f"Version {version}: {reason}"
            for version, reason in whole[["model_version", "reason"]].itertuples(
                index=False, name=None
            )
        ),
        since=_since(opened),
        changes=_changes(of.changes),
        more_changes=of.changes.in_all - len(of.changes.newest),
        links=of.links,
        written=f"{in_words(of.now.replace(second=0))} UTC",
    )


def _headline(
    opened: Sequence[Incident],
    shown: ShownWindows,
    columns: Sequence[Subject],
    model: Sequence[Subject],
) -> Headline:
    if opened:
        count = count_of(len(opened), "incident")
        title = f"{count} {'is' if len(opened) == 1 else 'are'} open"
        said = [_incident_in_words(incident) for incident in opened[:MOST_NAMED]]
        if left := len(opened) - len(said):
            said.append(f"and {left} more")
        return Headline("trouble", title, f"{_capitalised('; '.join(said))}.")
    if not shown.windows:
        return Headline(
            "unknown", "Nothing could be judged", "No window has wines that could be judged."
        )
    found = [_state_of(k, shown, columns, model) for k in shown.newest_of_each]
    # the last one is of the real timeline; what somebody should look at comes before it
    first = min(reversed(found), key=lambda one: (one.title != ONE_WINDOW, one.state == "unknown"))
    others = [one.sentence for one in found if one is not first]
    return replace(first, sentence=" ".join([first.sentence, *others]))


def _state_of(
    k: int, shown: ShownWindows, columns: Sequence[Subject], model: Sequence[Subject]
) -> Headline:
    """Say how things are in a window, while no incident is open."""
    window = shown.windows[k]
    named = f"In the newest window ({window.name})"
    panels = [(s.name, s.panels[k].verdict) for s in (*columns, *model)]
    alarms = [name for name, verdict in panels if verdict in ALARMS]
    if alarms:
        names = ", ".join(alarms[:MOST_NAMED])
        more = f" and {len(alarms) - MOST_NAMED} more" if len(alarms) > MOST_NAMED else ""
        return Headline(
            "unknown",
            ONE_WINDOW,
            f"{named} {names}{more} {'is' if len(alarms) == 1 else 'are'} beyond the threshold; "
            "one window alone is no incident until evidence adds up.",
        )
    if not any(verdict == "ok" for _, verdict in panels):
        why = "it goes on" if window.goes_on else f"it has {count_of(window.wines, 'wine')}"
        return Headline("unknown", UNJUDGED, f"{named} nothing could be judged yet: {why}.")
    if any(s.panels[k].verdict == "ok" for s in model[:1]):
        return Headline("well", "All is well", f"{named} wines, data and predictions are as usual.")
    return Headline(
        "well",
        "All is well, as far as can be seen",
        f"{named} wines and data are as usual. How far predictions are off is not known: "
        f"{_few_labels(window.labelled)}.",
    )


def _incident_in_words(incident: Incident) -> str:
    """Say what has changed since when, and what the model makes of it."""
    cause, *others = (alert for alert in incident.alerts if alert.is_open)
    words = f"{change_in_words(cause)}, since {_moment(incident.since)}"
    costs = [change_in_words(alert) for alert in others if alert.verdict == "decayed"]
    return ", and ".join([words, *costs[:1]])


def _few_labels(labelled: int) -> str:
    if not labelled:
        return "no wine of it has ground truth yet"
    return (
        f"only {count_of(labelled, 'wine')} of it {'has' if labelled == 1 else 'have'} ground truth"
    )


def _capitalised(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}"


def _moment(moment: datetime) -> str:
    """A moment with its day of the week, as people remember it."""
    return f"{moment:%a} {in_words(moment)} UTC"


def _figures(
    model_verdicts: pd.DataFrame, shown: ShownWindows, incidents: int
) -> tuple[Figure, ...]:
    """What stands beside the headline: of the newest window that is over."""
    figures = [Figure(f"{incidents:,}", f"open {'incident' if incidents == 1 else 'incidents'}")]
    if not shown.windows:
        return tuple(figures)
    window = shown.windows[shown.newest]
    figures += [
        Figure(
            f"{window.wines:,}",
            "wine in the newest window" if window.wines == 1 else "wines in the newest window",
        ),
        Figure(f"{window.labelled:,}", "of them with ground truth"),
    ]
    judged = shown.rows(model_verdicts[model_verdicts["segment"] == ALL])
    known = judged[judged["mae"].notna() & (judged["verdict"] != SELECTED_LABELS)]
    if len(known):
        last, (start, _) = known.iloc[-1], known.index[-1]
        off = f"{QUALITY_UNIT} off on average, {last['reference_mae']:.2f} is usual"
        if start != window.start:
            off += f" ({span_in_words(start, last['window_end'])})"
        figures.append(Figure(f"{last['mae']:.2f}", off))
    return tuple(figures)


def _card(incident: Incident, of: PageInputs, shown: ShownWindows) -> Card:
    cause = incident.alerts[0]
    facts = {
        "what": cause.reason,
        "since": onset_in_words(incident),
        "sure": certainty_in_words(cause, of.alert_settings),
        "error": error_since(of.model_verdicts)(incident),
    }
    if incident.is_open:
        facts["to do"] = ADVICE[cause.verdict]
    handling = incident.handled(of.now) if incident.is_open else None
    return Card(
        number=incident.number,
        title=_capitalised(change_in_words(cause)),
        version=incident.model_version,
        severity=incident.severity,
        verdict=cause.verdict,
        state=handling.describe() if handling else incident.state(of.now),
        facts=facts,
        others=[
            (f"{label_of(alert.subject)}: {VERDICTS[alert.verdict]}", alert.reason)
            for alert in incident.alerts[1:]
        ],
        is_open=incident.is_open,
        is_new=any(alert.new and alert.incident == incident.number for alert in of.raised),
        window=shown.at(cause.since, incident.model_version),
    )


def _since(opened: Sequence[Incident]) -> dict[str, str]:
    """Since when each subject has an open alert."""
    since: dict[str, datetime] = {}
    for alert in (alert for incident in opened for alert in incident.alerts if alert.is_open):
        since[alert.subject] = min(alert.since, since.get(alert.subject, alert.since))
    return {subject: _moment(moment) for subject, moment in since.items()}


def _changes(changes: Changes) -> tuple[Change, ...]:
    return tuple(
        Change(
            span_in_words(row["window_start"], row["window_end"]),
            str(row["subject"]).replace("_", " "),
            row["verdict"],
            f"was {VERDICTS[row['before']][2:]} until "
            f"{in_words(row['decided_at'].floor('min'))} UTC",
            row["reason"],
        )
        for row in changes.newest.to_dict(orient="records")
    )
