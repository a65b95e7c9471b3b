"""Nodes of the monitoring pipeline: the inference log in, verdicts, reports and alerts out."""

from collections.abc import Callable
from html import escape
from typing import Any

import pandas as pd

from wine_quality.drift import alerts, evidently_reports
from wine_quality.drift.alerts import Alert, AlertSettings
from wine_quality.drift.performance import judge_performance
from wine_quality.drift.profiles import Profile, Reference, profile_windows, window_starts
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.summary_page import render_page
from wine_quality.drift.verdicts import decide
from wine_quality.errors import WineQualityError

Json = dict[str, Any]
REPORTS = ("drift", "summary", "regression")
PAGE_LINKS = {f"Evidently's {kind} report": f"evidently/{kind}.html" for kind in REPORTS}
"""Where the reports lie, seen from the monitoring page; the catalog puts them there."""


def describe_references(
    inference_log: pd.DataFrame, references: Callable[[str], pd.DataFrame]
) -> Json:
    """Profile the reference of every model version in the log.

    Returns:
        Plain values that `Reference.from_dict` reads, by version.
    """
    versions = sorted(inference_log["model_version"].unique())
    return {version: Reference.from_wines(references(version)).to_dict() for version in versions}


def profile_log(
    inference_log: pd.DataFrame, reference_profiles: Json, settings: DriftSettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count the log by window, model version, column and bin of that version's reference.

    Returns:
        Counts and error sums, the two tables of a `Profile`.
    """
    profiles = [
        profile_windows(
            inference_log[inference_log["model_version"] == version],
            Reference.from_dict(reference),
            settings.window,
        )
        for version, reference in reference_profiles.items()
    ]
    return (
        pd.concat([profile.counts for profile in profiles], ignore_index=True),
        pd.concat([profile.errors for profile in profiles], ignore_index=True),
    )


def decide_columns(
    profile_counts: pd.DataFrame,
    profile_errors: pd.DataFrame,
    reference_profiles: Json,
    settings: DriftSettings,
) -> pd.DataFrame:
    """Judge every column of every window."""
    return _judge(decide, profile_counts, profile_errors, reference_profiles, settings)


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
    verdicts = [
        judge(
            Profile(
                counts[counts["model_version"] == version],
                errors[errors["model_version"] == version],
            ),
            Reference.from_dict(reference),
            settings,
        )
        for version, reference in reference_profiles.items()
    ]
    return pd.concat(verdicts).sort_values("window_start", kind="stable", ignore_index=True)


def raise_alerts(
    verdicts: pd.DataFrame,
    model_verdicts: pd.DataFrame,
    previous_alerts: list[Alert],
    settings: AlertSettings,
) -> list[Alert]:
    """List what a person should look at, and tell of what is new since the run before."""
    found = alerts.raise_alerts(verdicts, model_verdicts, settings)
    return alerts.tell(found, previous_alerts, settings)


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


def write_monitoring_page(
    verdicts: pd.DataFrame, model_verdicts: pd.DataFrame, raised: list[Alert]
) -> str:
    """Write the page that says how the windows were judged, and links Evidently's reports."""
    return render_page(verdicts, model_verdicts, raised, PAGE_LINKS)


def report_newest_window(
    inference_log: pd.DataFrame,
    references: Callable[[str], pd.DataFrame],
    verdicts: pd.DataFrame,
    settings: DriftSettings,
) -> tuple[str, ...]:
    """Draw up Evidently's reports of the newest window.

    Returns:
        HTML page and JSON snapshot of each of `REPORTS`; where there is nothing to report (no
        ground truth yet, say), the page says so and the snapshot is `{}`.
    """
    newest = verdicts.iloc[-1]
    start, version = newest["window_start"], newest["model_version"]
    of_window = (window_starts(inference_log["event_time"], settings.window) == start) & (
        inference_log["model_version"] == version
    )
    reports = evidently_reports.report_window(
        inference_log[of_window],
        references(version),
        verdicts[(verdicts["window_start"] == start) & (verdicts["model_version"] == version)],
        settings.seed,
    )
    contents = []
    for kind in REPORTS:
        page = getattr(reports, kind)
        contents += [page.html, page.json] if page else [_empty_page(kind, reports.remarks), "{}"]
    return tuple(contents)


def _empty_page(kind: str, remarks: tuple[str, ...]) -> str:
    notes = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        f"<title>No {kind} report</title><h1>No {kind} report</h1><ul>{notes}</ul></html>"
    )
