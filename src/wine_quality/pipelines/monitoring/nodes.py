"""Nodes of the monitoring pipeline: the inference log in, verdicts, reports and alerts out."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

import pandas as pd

from wine_quality.drift import alerts, evidently_reports
from wine_quality.drift.alerts import Alert, AlertSettings
from wine_quality.drift.log_reader import LogReader
from wine_quality.drift.performance import judge_performance
from wine_quality.drift.profile_store import ProfileStore, load_newest, update_profiles
from wine_quality.drift.profiles import WINDOW_KEYS, Profile, Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.summary_page import MOST_CHANGES, render_page
from wine_quality.drift.told_alerts import ToldAlerts
from wine_quality.drift.verdict_store import VerdictStore, subject_verdicts
from wine_quality.drift.verdicts import TRAFFIC, decide
from wine_quality.drift.window_names import folder_name, in_words, read_folder_name
from wine_quality.drift.windows import (
    chosen_windows,
    judge_traffic,
    keep_newest,
    merge_small_windows,
    windows_needed,
)
from wine_quality.errors import WineQualityError
from wine_quality.wines import INPUTS, PREDICTION, QUALITY

Json = dict[str, Any]
REPORTS = ("drift", "summary", "regression")
REPORTED_COLUMNS = (*INPUTS, PREDICTION, QUALITY)


def describe_references(
    inference_log: LogReader, references: Callable[[str], pd.DataFrame]
) -> Json:
    """Profile the reference of every model version in the log.

    Returns:
        Plain values that `Reference.from_dict` reads, by version.
    """
    return {
        version: Reference.from_wines(references(version)).to_dict()
        for version in inference_log.versions()
    }


def count_windows(
    inference_log: LogReader,
    profile_store: ProfileStore,
    reference_profiles: Json,
    settings: DriftSettings,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count the log by window, model version, column and bin of that version's reference.

    Windows that are new or have changed are counted, where the log lies; the others are in the
    store since the runs before.

    Returns:
        Counts and error sums of the newest windows, and of those before that the judgement of
        these depends on: the two tables of a `Profile`.
    """
    references = _references(reference_profiles)
    states = inference_log.states(settings.window, tuple(references))
    update_profiles(profile_store, inference_log, references, states, settings.window)
    needed = windows_needed(settings)
    profile = load_newest(profile_store, references, settings.window, needed)
    return profile.counts, profile.errors


def decide_columns(
    profile_counts: pd.DataFrame,
    profile_errors: pd.DataFrame,
    reference_profiles: Json,
    settings: DriftSettings,
) -> pd.DataFrame:
    """Judge every column of every window, and how many wines came."""
    columns = _judge(decide, profile_counts, profile_errors, reference_profiles, settings)
    # whether a window is over is a question of the clock
    traffic = judge_traffic(profile_counts, settings, datetime.now(UTC))
    first = columns["window_start"].min()
    both: pd.DataFrame = pd.concat([columns, traffic.loc[traffic["window_start"] >= first]])
    return both.sort_values("window_start", kind="stable", ignore_index=True)


def decide_model(
    profile_counts: pd.DataFrame,
    profile_errors: pd.DataFrame,
    reference_profiles: Json,
    settings: DriftSettings,
) -> pd.DataFrame:
    """Judge the model in every window, by its labelled wines."""
    return _judge(judge_performance, profile_counts, profile_errors, reference_profiles, settings)


def _judge(
    judge: Callable[[Profile, Reference, DriftSettings], pd.DataFrame],
    counts: pd.DataFrame,
    errors: pd.DataFrame,
    reference_profiles: Json,
    settings: DriftSettings,
) -> pd.DataFrame:
    """Judge each version's windows against its own reference, in the order of event time."""
    windows, ends = merge_small_windows(Profile(counts, errors), settings)
    windows = keep_newest(windows, settings.newest_windows)
    verdicts = pd.concat(
        [
            judge(windows.of_version(version), reference, settings)
            for version, reference in _references(reference_profiles).items()
        ]
    )
    keys = pd.MultiIndex.from_frame(verdicts[list(WINDOW_KEYS)])
    ended = verdicts.assign(window_end=ends.reindex(keys).array)
    return ended.sort_values("window_start", kind="stable", ignore_index=True)


def _references(reference_profiles: Json) -> dict[str, Reference]:
    return {version: Reference.from_dict(plain) for version, plain in reference_profiles.items()}


def record_verdicts(
    verdicts: pd.DataFrame, model_verdicts: pd.DataFrame, settings: DriftSettings
) -> pd.DataFrame:
    """Put all verdicts into one table for the history."""
    return subject_verdicts(verdicts, model_verdicts, settings.window)


def raise_alerts(
    verdicts: pd.DataFrame,
    model_verdicts: pd.DataFrame,
    told_alerts: ToldAlerts,
    settings: AlertSettings,
) -> list[Alert]:
    """List what a person should look at, and tell of what nobody was told yet."""
    found = alerts.raise_alerts(verdicts, model_verdicts, settings)
    return alerts.tell(found, told_alerts, settings)


def check_alerts(raised: list[Alert], settings: AlertSettings, *_reports: object) -> list[Alert]:
    """End the run with status 1 where the newest window has an alert that must not pass unseen.

    Args:
        raised: All alerts.
        settings: Names the verdicts.
        _reports: What has to be there before the run may end.

    Raises:
        WineQualityError: The newest window has such an alert; the message gives the reasons.
    """
    failing = alerts.failing(raised, settings)
    if failing:
        reasons = "; ".join(alert["reason"] for alert in failing)
        raise WineQualityError(
            f"The newest window has {len(failing)} alerts of the kinds in "
            f"monitoring.alerts.fail_on ({', '.join(settings.fail_on)}): {reasons}"
        )
    return failing


def report_windows(
    inference_log: LogReader,
    references: Callable[[str], pd.DataFrame],
    verdicts: pd.DataFrame,
    model_verdicts: pd.DataFrame,
    settings: DriftSettings,
) -> tuple[dict[str, str], dict[str, str]]:
    """Draw up Evidently's reports of the newest window, and of the newest alarming ones.

    Returns:
        HTML pages and JSON snapshots, by kind (see `REPORTS`) for the newest window, and by window
        and kind for the others. Where there is nothing to report (no ground truth yet, say), the
        page says so and there is no snapshot.
    """
    pages, snapshots = {}, {}
    windows = chosen_windows(verdicts, model_verdicts, settings.reported_windows)
    for place, (start, end, version) in enumerate(windows):
        rows = inference_log.read(
            start, end, version, evidently_reports.MOST_ROWS, settings.seed, REPORTED_COLUMNS
        )
        of_window = (verdicts["window_start"] == start) & (verdicts["model_version"] == version)
        judged = verdicts[of_window & (verdicts["column"] != TRAFFIC)]
        reports = evidently_reports.report_window(rows, references(version), judged, settings.seed)
        folder = "" if place == 0 else f"{folder_name(start, version)}/"
        for kind in REPORTS:
            page = getattr(reports, kind)
            pages[folder + kind] = page.html if page else _empty_page(kind, reports.remarks)
            if page:
                snapshots[folder + kind] = page.json
    return pages, snapshots


def write_monitoring_page(
    verdicts: pd.DataFrame,
    model_verdicts: pd.DataFrame,
    raised: list[Alert],
    verdict_history: VerdictStore,
    evidently_pages: Mapping[str, object],
) -> str:
    """Write the page that says how the windows were judged, and links the picture and reports."""
    # the newest window's reports come first, then those of the others, from the newest on
    of_newest = sorted(name for name in evidently_pages if "/" not in name)
    of_others = sorted(evidently_pages.keys() - set(of_newest))
    of_others.sort(key=lambda name: name.rpartition("/")[0], reverse=True)
    links = {"All windows in one picture": "monitoring.png"} | {
        _report_title(name): f"evidently/{name}.html" for name in (*of_newest, *of_others)
    }
    changes = verdict_history.changes(MOST_CHANGES)
    return render_page(verdicts, model_verdicts, raised, changes, links)


def _report_title(name: str) -> str:
    folder, _, kind = name.rpartition("/")
    if not folder:
        return f"Evidently's {kind} report of the newest window"
    start, version = read_folder_name(folder)
    return f"Evidently's {kind} report of {in_words(start)}, version {version}"


def _empty_page(kind: str, remarks: tuple[str, ...]) -> str:
    notes = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        f"<title>No {kind} report</title><h1>No {kind} report</h1><ul>{notes}</ul></html>"
    )
