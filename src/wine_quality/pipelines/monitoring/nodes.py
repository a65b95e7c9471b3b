"""Nodes of the monitoring pipeline: the inference log in, verdicts, reports and alerts out."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import numpy as np
import pandas as pd

from wine_quality.drift import alerts, evidently_reports
from wine_quality.drift.acceptance_store import AcceptanceStore
from wine_quality.drift.accepted import AcceptedPeriod, in_force
from wine_quality.drift.alerts import Alert, AlertSettings, FailingAlertsError
from wine_quality.drift.evidently_workspace import ReportWorkspace
from wine_quality.drift.incident_store import IncidentStore
from wine_quality.drift.judging import judge_hours
from wine_quality.drift.log_reader import NOTHING_LOGGED, LogReader
from wine_quality.drift.messages import error_since
from wine_quality.drift.notifying import notify
from wine_quality.drift.page import render_page
from wine_quality.drift.page.contents import PageInputs
from wine_quality.drift.performance import PERFORMANCE_DTYPES
from wine_quality.drift.profile_store import ProfileStore, update_profiles
from wine_quality.drift.reference import Reference
from wine_quality.drift.selection import selected_hours
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.sources import name_traffic, timeline_of, version_of
from wine_quality.drift.verdict_store import VerdictStore, subject_verdicts
from wine_quality.drift.verdicts import VERDICTS_DTYPES
from wine_quality.drift.vocabulary import count_of
from wine_quality.drift.watching import Finding, find_changes
from wine_quality.drift.window_names import folder_name, in_words, read_folder_name
from wine_quality.drift.windows import (
    OF_VERSIONS,
    chosen_windows,
    judge_traffic,
    mark_unfinished,
    newest_starts,
    split_future,
    whole_versions,
    window_of,
)
from wine_quality.errors import WineQualityError
from wine_quality.modelling.shadow_comparison import compare_shadows
from wine_quality.pages import render
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.wines import INPUTS, PREDICTION, QUALITY

logger = logging.getLogger(__name__)

Json = dict[str, Any]
LABELLED_SHADOWS = 20_000
"""Labelled shadow answers that a run compares, the newest."""
MOST_CHANGES = 12
"""Changed verdicts on the page, the latest; all are in the history."""
REPORTED_COLUMNS = (*INPUTS, PREDICTION, QUALITY)


class VersionReferences(Protocol):
    """What model versions were registered with."""

    def key(self, version: str) -> str:
        """Identify a version for good: numbers begin again where a model is deleted."""

    def profile(self, version: str) -> Json | None:
        """The registered reference as `Reference.from_dict` reads it; None where there is none."""

    def wines(self, version: str) -> pd.DataFrame:
        """The held-out wines with the version's predictions.

        Raises:
            WineQualityError: The version is unknown, or has none.
        """


def describe_references(
    inference_log: LogReader,
    references: VersionReferences,
    profile_store: ProfileStore,
    settings: DriftSettings,
) -> Json:
    """Find the reference of every model version in the log: it is registered with the version.

    Returns:
        Plain values that `Reference.from_dict` reads, by version and timeline (see
        `drift.sources`); a text that says why there is none where a version has none.
    """
    found: Json = {}
    for traffic in inference_log.divided(settings.sources).versions():
        try:
            reference = _reference(version_of(traffic), references, profile_store)
            found[traffic] = reference.to_dict()
        except WineQualityError as error:
            logger.warning("Version %s cannot be judged: %s", traffic, error)
            found[traffic] = str(error)
    return found


def _reference(version: str, references: VersionReferences, store: ProfileStore) -> Reference:
    """A version's reference: kept from an earlier run, registered, or made from its wines."""
    key = references.key(version)
    kept = store.reference(key)
    if kept is not None:
        return kept
    registered = references.profile(version)
    reference = (
        Reference.from_dict(registered)
        if registered is not None
        else Reference.from_wines(references.wines(version))
    )
    store.keep_reference(key, reference)
    return reference


def list_accepted_periods(
    acceptance_store: AcceptanceStore, reference_profiles: Json
) -> list[Json]:
    """List the accepted periods that are in force: their wines are the reference since then.

    Returns:
        Plain values that `AcceptedPeriod.from_dict` reads. A period of a version that was deleted,
        and whose number another one has got, is none of them.
    """
    references = _references(reference_profiles)
    periods = acceptance_store.periods()
    return [
        period.to_dict()
        for version, reference in references.items()
        for period in in_force(periods, version)
        if period.registered == reference.fingerprint
    ]


def count_windows(
    inference_log: LogReader,
    profile_store: ProfileStore,
    reference_profiles: Json,
    settings: DriftSettings,
) -> Json:
    """Count the log by hour, model version, segment, column and bin of that version's reference.

    Hours that are new or have changed are counted, where the log lies; the others are in the
    store since the runs before.

    Returns:
        How many hours were `counted`, and how many wines each version without a reference has.
    """
    references = _references(reference_profiles)
    grain = settings.calendar.grain
    log = inference_log.divided(settings.sources)
    states = log.states(f"{grain}s", tuple(reference_profiles))
    known = states[states["model_version"].isin(list(references))]
    counted = update_profiles(profile_store, log, references, known, grain)
    return {"counted": counted, "hours": len(known)}


def judge_windows(
    profile_store: ProfileStore,
    reference_profiles: Json,
    accepted_periods: list[Json],
    counted: Json,
    settings: DriftSettings,
    alert_settings: AlertSettings,
) -> tuple[pd.DataFrame, pd.DataFrame, list[Json], pd.DataFrame, Json]:
    """Judge every column of every window, the model, the traffic; and what changed over time.

    Judged are the newest windows, and for the history those before whose hours have changed since.

    Args:
        profile_store: Counts of all hours.
        reference_profiles: What they are compared with.
        accepted_periods: What they are compared with instead, from the start of each on.
        counted: What `count_windows` has counted before.
        settings: Windows, false-alarm rate, sizes and floors.
        alert_settings: How many false alerts are bearable.

    Returns:
        Verdicts on columns and on the model of the newest windows, the findings of `find_changes`,
        rows of `subject_verdicts` of older windows that have changed, and by version the hours
        whose windows were judged because they have changed, see `ProfileStore.recounted`.
    """
    now = datetime.now(UTC)
    grain = settings.calendar.grain
    references = _references(reference_profiles)
    accepted = _accepted(accepted_periods)
    past, future, recounted = {}, {}, {}
    for version, reference in references.items():
        # before the counts: what changes meanwhile is judged by the next run
        recounted[version] = profile_store.recounted(version, reference, grain)
        past[version] = profile_store.load(version, reference, grain)
        if not timeline_of(version):
            past[version], future[version] = split_future(past[version], now)
    past = {version: profile for version, profile in past.items() if len(profile)}
    tables, model_tables = [], []
    late: list[pd.DataFrame] = []
    for timeline in sorted(set(map(timeline_of, past))):
        own = {version: past[version] for version in past if timeline_of(version) == timeline}
        starts = [window_of(hours.starts, settings) for hours in own.values()]
        since = newest_starts(starts, settings.newest_windows) or 0
        # a timeline apart does not end at the present
        traffic = judge_traffic(own, settings, None if timeline else now)
        for version, hours in own.items():
            judged = (
                hours, references[version], version, settings, since, accepted.get(version, ())
            )  # fmt: skip
            columns, model = judge_hours(*judged)
            tables.append(columns)
            model_tables.append(model)
            if not recounted[version]:
                continue
            changed = np.array(list(recounted[version]), dtype=np.int64)
            columns, model = judge_hours(*judged, changed)
            of_windows = traffic["window_start"].isin(columns["window_start"])
            of_windows &= traffic["model_version"] == version
            columns = pd.concat([columns, traffic[of_windows]], ignore_index=True)
            late.append(subject_verdicts(columns, model, settings.window))
        tables.append(traffic[traffic["window_start"] >= pd.Timestamp(since, unit="s", tz="UTC")])
    tables += whole_versions(reference_profiles, future, settings, now)
    if not tables:
        raise WineQualityError(NOTHING_LOGGED)
    verdicts, model_verdicts = (
        mark_unfinished(
            pd.concat([*parts, empty], ignore_index=True).astype(dtypes), now
        ).sort_values("window_start", kind="stable", ignore_index=True)
        for parts, dtypes in ((tables, VERDICTS_DTYPES), (model_tables, PERFORMANCE_DTYPES))
        for empty in [pd.DataFrame(columns=list(dtypes)).astype(dtypes)]
    )
    findings = find_changes(
        past,
        references,
        alert_settings.false_alerts_per_month,
        settings.columns_left_out,
        accepted,
        {
            version: selected_hours(hours, references[version], settings)
            for version, hours in past.items()
        },
    )
    nothing = subject_verdicts(verdicts.iloc[:0], model_verdicts.iloc[:0], settings.window)
    late_verdicts = pd.concat([nothing, *late], ignore_index=True).astype(nothing.dtypes)
    again = late_verdicts[["window_start", "model_version"]].drop_duplicates()
    if len(again):
        logger.info(
            "Judged %s again that had changed, the oldest from %s UTC",
            count_of(len(again), "window"),
            in_words(again["window_start"].min()),
        )
    judged_hours = {
        version: {
            str(start): state
            for start, state in hours.items()
            # what lies in the future is judged when its time has come
            if timeline_of(version) or start <= now.timestamp()
        }
        for version, hours in recounted.items()
    }
    return verdicts, model_verdicts, [asdict(f) for f in findings], late_verdicts, judged_hours


def _references(reference_profiles: Json) -> dict[str, Reference]:
    """The references that there are, by version."""
    return {
        version: Reference.from_dict(plain)
        for version, plain in reference_profiles.items()
        if not isinstance(plain, str)
    }


def _accepted(accepted_periods: list[Json]) -> dict[str, tuple[AcceptedPeriod, ...]]:
    """The accepted periods that there are, by version."""
    periods = [AcceptedPeriod.from_dict(plain) for plain in accepted_periods]
    return {
        version: in_force(periods, version) for version in {one.model_version for one in periods}
    }


def record_verdicts(
    verdicts: pd.DataFrame,
    model_verdicts: pd.DataFrame,
    late_verdicts: pd.DataFrame,
    settings: DriftSettings,
) -> pd.DataFrame:
    """Put all verdicts into one table for the history."""
    newest = subject_verdicts(verdicts, model_verdicts, settings.window)
    return pd.concat([late_verdicts, newest], ignore_index=True)


def settle_hours(
    profile_store: ProfileStore,
    reference_profiles: Json,
    judged_hours: Json,
    settings: DriftSettings,
    _: object,
) -> Json:
    """Note which changed hours were judged, once their verdicts are in the history.

    Returns:
        How many hours were settled, by version.
    """
    references, grain = _references(reference_profiles), settings.calendar.grain
    for version, hours in judged_hours.items():
        states = {int(start): state for start, state in hours.items()}
        profile_store.mark_judged(version, references[version], grain, states)
    return {version: len(hours) for version, hours in judged_hours.items()}


def compare_challengers(
    inference_log_connection: InferenceLog, _: LogReader, settings: DriftSettings
) -> list[Json]:
    """Compare each challenger in shadow with the version that answered, on labelled wines.

    The service's log alone has shadow answers; where it is not used there are none.

    Args:
        inference_log_connection: The service's log.
        _: The log that is monitored: it has been written by now.
        settings: Which sources are apart or left out, and the seed.

    Returns:
        The `ShadowComparison` of each pair of versions as plain values; what answered has the name
        of its traffic, see `drift.sources`.
    """
    sources = settings.sources
    shadowed = inference_log_connection.newest_labelled_shadows(LABELLED_SHADOWS)
    shadowed = shadowed[~shadowed["source"].isin(sources.left_out)]
    traffic = [
        name_traffic(version, source if source in sources.apart else "")
        for version, source in zip(shadowed["model_version"], shadowed["source"], strict=True)
    ]
    found = compare_shadows(shadowed.assign(model_version=traffic), settings.seed)
    return [asdict(comparison) for comparison in found]


def raise_alerts(
    findings: list[Json],
    verdicts: pd.DataFrame,
    model_verdicts: pd.DataFrame,
    incident_store: IncidentStore,
    settings: AlertSettings,
) -> list[Json]:
    """List what a person should look at, and send what has become of it."""
    found = [Finding(**finding) for finding in findings]
    raised = alerts.raise_alerts(found, verdicts)
    sent = notify(raised, incident_store, error_since(model_verdicts), settings)
    return [alert.to_dict() for alert in sent]


def check_alerts(raised: list[Json], settings: AlertSettings, *_reports: object) -> list[Json]:
    """End the run with status 1 where an alert is open and new that must not pass unseen.

    Args:
        raised: All alerts.
        settings: Names the verdicts.
        _reports: What has to be there before the run may end.

    Raises:
        FailingAlertsError: There is such an alert; the message gives the reasons.
    """
    failing = alerts.failing([Alert.from_dict(alert) for alert in raised], settings)
    if failing:
        reasons = "; ".join(alert.describe() for alert in failing)
        raise FailingAlertsError(
            f"{len(failing)} alert{'s are' if len(failing) > 1 else ' is'} open and new of the "
            f"kinds in monitoring.alerts.fail_on ({', '.join(settings.fail_on)}): {reasons}"
        )
    return []


def report_windows(
    inference_log: LogReader,
    references: VersionReferences,
    verdicts: pd.DataFrame,
    model_verdicts: pd.DataFrame,
    accepted_periods: list[Json],
    verdict_history: VerdictStore,
    workspace: ReportWorkspace,
    settings: DriftSettings,
) -> dict[str, str]:
    """Draw up Evidently's reports of the newest window, and of the newest alarming ones.

    What was drawn by an earlier run, and would come out the same, is not drawn again. The reports
    are added to Evidently's workspace, and those not worth their place any more are removed.

    Returns:
        HTML pages, by kind (see `KINDS`) for the newest window, and by window and kind for the
        others. Where there is nothing to report (no ground truth yet, say), the page says so.
    """
    # for the newest window there is always a page, if only to say that there is none
    remark = "No window could be judged."
    if not settings.reported_windows:
        remark = "monitoring.drift.reported_windows is 0: no reports are drawn."
    pages = {kind: _empty_page(kind, (remark,)) for kind in evidently_reports.KINDS}
    reportable = verdicts[~verdicts["column"].isin(OF_VERSIONS)]
    windows = chosen_windows(reportable, model_verdicts, settings.reported_windows)
    log, accepted = inference_log.divided(settings.sources), _accepted(accepted_periods)
    drawn_before = workspace.drawn_pages() if windows else {}
    for place, (start, end, version) in enumerate(windows):
        judged, model = (
            table[(table["window_start"] == start) & (table["model_version"] == version)]
            for table in (verdicts[verdicts["column"].isin(REPORTED_COLUMNS)], model_verdicts)
        )
        key, usual = references.key(version_of(version)), None
        for period in accepted.get(version, ()):
            if period.start <= start:
                key, usual = f"accepted period {period.number}", (period.start, period.end)
        state = evidently_reports.state_of(judged, model, key, settings.seed)
        paths = drawn_before.get(state, {})
        drawn = {kind: workspace.read_page(path) for kind, path in paths.items()}
        if not drawn.keys() >= set(evidently_reports.KINDS):
            read = partial(
                log.read,
                version=version,
                limit=evidently_reports.MOST_ROWS,
                seed=settings.seed,
                columns=REPORTED_COLUMNS,
            )
            before = read(*usual) if usual else references.wines(version_of(version))
            reports = evidently_reports.report_window(
                read(start, end), before, judged, settings.seed
            )
            made = {kind: getattr(reports, kind) for kind in evidently_reports.KINDS}
            workspace.add(page.json for page in made.values() if page)
            drawn = {
                kind: workspace.mark(page.html, state, page.title)
                if page
                else workspace.mark(_empty_page(kind, reports.remarks), state, None)
                for kind, page in made.items()
            }
        folder = "" if place == 0 else f"{folder_name(start, version)}/"
        pages |= {folder + kind: page for kind, page in drawn.items()}
    if windows:
        _thin_out(workspace, verdict_history.windows(), settings)
    return pages


def _thin_out(workspace: ReportWorkspace, windows: pd.DataFrame, settings: DriftSettings) -> None:
    """Remove the reports of windows that are not among those to be kept; others' reports stay."""
    kept = evidently_reports.windows_to_keep(
        windows, settings.reports_kept, settings.alarming_reports_days
    )
    gone = windows.drop(kept.index)[["window_start", "window_end", "model_version"]]
    removed = workspace.remove(
        title
        for window in gone.itertuples(index=False, name=None)
        for title in evidently_reports.report_titles(*window)
    )
    if removed:
        logger.info("Removed %s from Evidently's workspace", count_of(removed, "old report"))


def write_monitoring_page(
    verdicts: pd.DataFrame,
    model_verdicts: pd.DataFrame,
    raised: list[Json],
    incident_store: IncidentStore,
    verdict_history: VerdictStore,
    profile_store: ProfileStore,
    reference_profiles: Json,
    accepted_periods: list[Json],
    evidently_pages: Mapping[str, object],
    settings: DriftSettings,
    alert_settings: AlertSettings,
) -> str:
    """Write the page that says how things are, and links the picture and reports."""
    # the newest window's reports come first, then those of the others, from the newest on
    of_newest = sorted(name for name in evidently_pages if "/" not in name)
    of_others = sorted(evidently_pages.keys() - set(of_newest))
    of_others.sort(key=lambda name: name.rpartition("/")[0], reverse=True)
    links = {"All windows in one picture": "monitoring.png"} | {
        _report_title(name): f"evidently/{name}.html" for name in (*of_newest, *of_others)
    }
    references, grain = _references(reference_profiles), settings.calendar.grain
    since = int(verdicts["window_start"].min().timestamp())
    return render_page(
        PageInputs(
            verdicts=verdicts,
            model_verdicts=model_verdicts,
            incidents=incident_store.incidents(),
            raised=[Alert.from_dict(alert) for alert in raised],
            changes=verdict_history.changes(MOST_CHANGES),
            hours={
                version: profile_store.load(version, reference, grain, since)
                for version, reference in references.items()
            },
            references=references,
            accepted=_accepted(accepted_periods),
            settings=settings,
            alert_settings=alert_settings,
            links=links,
            now=datetime.now(UTC),
        )
    )


def _report_title(name: str) -> str:
    folder, _, kind = name.rpartition("/")
    if not folder:
        return f"Evidently's {kind} report of the newest window"
    start, version = read_folder_name(folder)
    return f"Evidently's {kind} report of {in_words(start)}, version {version}"


def _empty_page(kind: str, remarks: tuple[str, ...]) -> str:
    return render("pipelines/monitoring/no_report.html", kind=kind, remarks=remarks)
