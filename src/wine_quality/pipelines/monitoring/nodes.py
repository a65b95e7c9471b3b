"""Nodes of the monitoring pipeline: the inference log in, verdicts, reports and alerts out."""

from collections.abc import Callable
from html import escape
from typing import Any

import pandas as pd

from wine_quality.drift import evidently_reports
from wine_quality.drift.performance import judge_performance
from wine_quality.drift.profiles import Profile, Reference, profile_windows, window_starts
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import decide

Json = dict[str, Any]
REPORTS = ("drift", "summary", "regression")
ALARMS = frozenset({"drift", "data_quality", "decayed"})


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


def collect_alerts(verdicts: pd.DataFrame, model_verdicts: pd.DataFrame) -> list[Json]:
    """List what a person should look at, for machines: one entry an alarming verdict."""
    alarms = [
        table[table["verdict"].isin(ALARMS)].rename(columns={subject: "subject"})
        for table, subject in ((verdicts, "column"), (model_verdicts, "segment"))
    ]
    fields = ["window_start", "window_end", "model_version", "subject", "verdict", "value"]
    fields += ["threshold", "n", "reason"]
    table = pd.concat([alarm[fields] for alarm in alarms], ignore_index=True)
    moments = {name: table[name].map(pd.Timestamp.isoformat) for name in fields[:2]}
    records = table.assign(**moments).to_dict(orient="records")
    return [{str(key): value for key, value in record.items()} for record in records]


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
