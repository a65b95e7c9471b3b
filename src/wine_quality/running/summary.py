"""What a run came to, in words for the person who started it."""

from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from itertools import groupby
from operator import itemgetter
from typing import Any

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from wine_quality.drift.accepted import AcceptedPeriod
from wine_quality.drift.alerts import Alert, by_subject
from wine_quality.drift.sources import timeline_of, timelines
from wine_quality.drift.vocabulary import count_of
from wine_quality.drift.windows import OF_VERSIONS, newest_window
from wine_quality.running.logs import step_in_words

VERDICT_STYLES = {
    "ok": "green",
    "drift": "bold red",
    "decayed": "bold red",
    "data_quality": "bold yellow",
    "no_traffic": "bold red",
}
STAGES = ("processing", "tuning", "training", "serving_simulation", "monitoring", "retraining")
"""In the order of the data; some steps of a later one run before an earlier one is done."""
MOST_ALERTS = 10
"""Alerts that are printed, the latest."""
LONGEST_NOTE = 7_500
"""Characters of a note; MLflow keeps tags of up to 8,000."""
Outputs = Mapping[str, Any]


def print_summary(
    outputs: Outputs,
    places: Mapping[str, str],
    console: Console,
    seconds: Mapping[str, float] | None = None,
) -> None:
    """Print a section for each part of the work that the outputs tell of.

    Args:
        outputs: Loaded datasets by name; a section is printed where all it needs is there.
        places: Where to look further: what a person sees there, by command or path.
        console: Where to print.
        seconds: How long each node took, by name; none: nothing is said of it.
    """
    sections: list[tuple[str, RenderableType]] = [
        (title, render(outputs))
        for title, (needed, render) in SECTIONS.items()
        if needed <= outputs.keys()
    ]
    if seconds:
        sections.append(("Seconds", _stages(seconds)))
    console.rule("[bold]wine_quality", style="dim")
    for title, body in sections:
        console.print(Text(title, style="bold"))
        console.print(Padding(body, (0, 0, 0, 2)))
    if places:
        console.print(Text("Look further", style="bold"))
    wide = max(map(len, places), default=0)
    for name, place in places.items():
        # not folded at the console's width: a path or a command is there to be copied
        console.print(Text(f"  {name:<{wide}}  {place}"), soft_wrap=True)


def write_note(outputs: Outputs, seconds: Mapping[str, float]) -> str:
    """Write the summary as Markdown, cut after a line where it would be too long for a tag."""
    console = Console(file=StringIO(), width=100, color_system=None, record=True)
    print_summary(outputs, {}, console, seconds)
    lines = [line.rstrip() for line in console.export_text().splitlines()[1:]]
    while sum(map(len, lines)) + len(lines) > LONGEST_NOTE:
        lines.pop()
    return "\n".join(["```text", *lines, "```"])


def outcome(outputs: Outputs) -> str:
    """Say in a few words what a run came to; empty where nothing tells."""
    if "retraining" in outputs and not outputs["retraining"]["version"]:
        return str(outputs["retraining"]["action"])
    decided = outputs.get("retraining", outputs.get("promotion"))
    if decided:
        became = "is champion" if decided["promoted"] else "is challenger"
        return f"version {decided['version']} {became}"
    if "tuning_results" in outputs:
        return f"{count_of(len(outputs['tuning_results']), 'candidate')} tuned"
    if "traffic_summary" in outputs:
        return f"{outputs['traffic_summary']['acknowledged']:,} wines answered"
    if "label_delivery" in outputs:
        return f"{outputs['label_delivery']['submitted']:,} labels handed in"
    return ""


def _wines(outputs: Outputs) -> RenderableType:
    audit = outputs["wine_audit"]
    types = " and ".join(f"{n:,} {wine_type}" for wine_type, n in audit["by_type"].items())
    lines = [
        f"{audit['read']:,} read, {audit['accepted']:,} accepted ({types}), "
        f"{audit['rejected']:,} rejected",
        f"{audit['exact_duplicates']:,} exact duplicates, "
        f"{sum(audit['missing'].values()):,} missing values",
    ]
    for reason, n in audit["rejected_by_reason"].items():
        lines.append(f"rejected: {n:,} because {reason}")
    split = outputs.get("split_audit")
    if split:
        lines.append(
            f"{split['training_rows']:,} for training, {split['held_out_rows']:,} held out, "
            f"{split['held_out_rows_in_training']:,} of them also among the training wines"
        )
        if split["held_out_rows_in_training"]:
            lines.append(
                f"LEAKAGE: {split['distinct_complete_rows_in_training']:,} of "
                f"{split['distinct_complete_rows']:,} distinct complete held-out wines stand in "
                "the training wines; scores on the held-out wines, and the errors that monitoring "
                "compares with theirs, are those of wines already seen"
            )
    return Text("\n".join(lines))


def _tuning(outputs: Outputs) -> RenderableType:
    results: pd.DataFrame = outputs["tuning_results"]
    table = _table("candidate", "trials", "as configured", "best", "settings")
    for row in results.to_dict(orient="records"):
        _add_row(
            table,
            row["candidate"].replace("_", " "),
            f"{row['finished']} ({row['pruned']} pruned)",
            f"{row['metric'].upper()} {row['configured']:.4f}",
            f"{row['best']:.4f}",
            row["settings"],
        )
    return table


def _candidates(outputs: Outputs) -> RenderableType:
    comparison: pd.DataFrame = outputs["comparison"]
    metric = next(str(c).removesuffix("_std") for c in comparison if str(c).endswith("_std"))
    name = metric.upper()
    # what fits into eighty characters; the dataset has every metric, and each by type
    table = _table("", "candidate", f"{name} ± sd", "behind (95 %)", "MAE", "≤ 0.5")
    for row in comparison.to_dict(orient="records"):
        reach = row["behind_high"] - row["behind"]
        _add_row(
            table,
            str(row["rank"]),
            row["candidate"].replace("_", " "),
            f"{row[metric]:.3f} ± {row[f'{metric}_std']:.3f}",
            f"{row['behind']:+.3f} ± {reach:.3f}" if row["rank"] > 1 else "",
            f"{row['mae']:.3f}",
            f"{row['accuracy_within_0.5']:.1%}",
        )
    return table


def _published(outputs: Outputs) -> RenderableType:
    table = _table("candidate", "RMSE printed", "ours", "unseen", "R² printed", "ours", "unseen")
    figures = [f"{m}_{on}" for m in ("rmse", "r2") for on in ("published", "held_out", "folds")]
    for row in outputs["published_comparison"].to_dict(orient="records"):
        name = row["candidate"].replace("_", " ")
        _add_row(table, name, *(f"{row[figure]:.3f}" for figure in figures))
    seen = outputs["split_audit"]["held_out_rows_in_training"]
    rows = outputs["split_audit"]["held_out_rows"]
    return Group(
        table,
        Text(
            f"printed, ours: on the held-out wines, {seen:,} of {rows:,} of which were trained on; "
            "unseen: over folds that keep equal wines together"
        ),
    )


def _champion(outputs: Outputs) -> RenderableType:
    decision, scores = outputs["promotion"], outputs["held_out_metrics"]["all"]
    bounds = outputs["held_out_intervals"]["all"]
    became = "is champion" if decision["promoted"] else "is challenger"
    stays = f"version {decision['champion']} stays" if decision["champion"] else "there is no"
    kept = "" if decision["promoted"] else f"; {stays} champion"

    def told(metric: str, form: str = ".3f") -> str:
        low, high = (format(bounds[metric][bound], form) for bound in ("low", "high"))
        return f"{scores[metric]:{form}} ({low} to {high})"

    return Text(
        f"{decision['model']} version {decision['version']} {became}{kept}: {decision['reason']}\n"
        f"on the held-out wines (95 %): RMSE {told('rmse')}, MAE {told('mae')}, "
        f"R² {told('r2')}, within 0.5 {told('accuracy_within_0.5', '.1%')}"
    )


def _retraining(outputs: Outputs) -> RenderableType:
    decision, traffic = outputs["retraining"], outputs["traffic_audit"]
    lines = [
        f"{traffic['accepted']:,} of {traffic['labelled']:,} labelled predictions usable"
        if traffic["used"]
        else "labelled traffic is not used (retraining.use_traffic)"
    ]
    lines += [f"left out by the rule {rule}: {n:,}" for rule, n in traffic["left_out"].items() if n]
    lines.append(f"{decision['action']}: {decision['reason']}")
    if decision["version"]:
        became = "is champion" if decision["promoted"] else "is challenger"
        lines.append(f"version {decision['version']} {became}: {decision['outcome']}")
    return Text("\n".join(lines))


def _stages(seconds: Mapping[str, float]) -> RenderableType:
    """Tabulate the time of each pipeline, and of the step in it that took longest."""
    table = _table("stage", "seconds", "longest step")
    for stage in sorted({name.partition(".")[0] for name in seconds}, key=_place_among_stages):
        of_stage = {n: s for n, s in seconds.items() if n.partition(".")[0] == stage}
        longest = max(of_stage, key=lambda name: of_stage[name])
        step = step_in_words(longest.partition(".")[2])
        _add_row(
            table,
            stage.replace("_", " "),
            f"{sum(of_stage.values()):.1f}",
            f"{step}, {of_stage[longest]:.1f}",
        )
    return table


def _place_among_stages(stage: str) -> tuple[int, str]:
    return (STAGES.index(stage) if stage in STAGES else len(STAGES)), stage


def _traffic(outputs: Outputs) -> RenderableType:
    summary = outputs["traffic_summary"]
    failed = summary["refused"] + summary["undelivered"]
    table = _table("sent", "acknowledged", "failed", "retried", "wines/s", "p50", "p95", "p99")
    _add_row(
        table,
        *(f"{n:,}" for n in (summary["sent"], summary["acknowledged"], failed, summary["retried"])),
        f"{summary['rows_per_second']:,.0f}",
        *(_milliseconds(summary[f"latency_{name}_ms"]) for name in ("p50", "p95", "p99")),
    )
    lines = [
        f"answered by version {', '.join(summary['model_versions'])}; "
        f"event time {summary['first_event']} to {summary['last_event']}",
    ]
    lines += [
        f"injected drift: {row['name']} ({row['kind']} in {row['subject']}) "
        f"from {pd.Timestamp(row['onset']):%Y-%m-%d %H:%M} "
        f"to {pd.Timestamp(row['until']):%Y-%m-%d %H:%M} UTC"
        for row in sorted(summary["drift"], key=lambda row: (row["onset"], row["name"]))
    ]
    if failed:
        kept = summary["undelivered"]
        lines.append(f"failed: {summary['error']}")
        lines += [f"{kept:,} wines are kept, and sent first by the next run"] if kept else []
    return Group(table, Text("\n".join(lines)))


def _ground_truth(outputs: Outputs) -> RenderableType:
    labels = outputs["label_delivery"]
    if not labels["due"] and not labels["held_back"] and "traffic_summary" not in outputs:
        return Text(
            "no label was held back, so there is none to hand in: traffic holds labels back with "
            "--params serving_simulation.ground_truth.hold_back=true"
        )
    waiting = labels["due"] - labels["submitted"]
    parts = [f"{labels['submitted']:,} labels handed in, {labels['new']:,} of them new"]
    parts += [f"{labels['held_back']:,} are not due yet"] if labels["held_back"] else []
    parts += [f"{waiting:,} could not be handed in, and wait for the next run"] if waiting else []
    return Text("; ".join(parts))


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f} ms"


def _verdicts(outputs: Outputs) -> RenderableType:
    parts: list[RenderableType] = []
    for timeline, verdicts in timelines(outputs["verdicts"]):
        newest, model = newest_window(verdicts), outputs["model_verdicts"]
        start = newest["window_start"].iloc[0]
        of_window = model["model_version"].isin(newest["model_version"])
        of_window &= (model["window_start"] == start) & (model["segment"] == "all")
        columns = verdicts[~verdicts["column"].isin(OF_VERSIONS)]
        windows = len(columns[["window_start", "model_version"]].drop_duplicates())
        table = _table("subject", "verdict", "reason")
        judged = by_subject(newest, model[of_window])[["verdict", "reason", "subject"]]
        rows = judged.itertuples(index=False, name=None)
        # a window with too few wines says the same of every subject
        for (verdict, reason), alike in groupby(rows, key=itemgetter(0, 1)):
            subject, *others = (subject for _, _, subject in alike)
            more = f" and {len(others)} more" if others else ""
            _add_row(table, *_judgement(f"{subject}{more}", verdict, reason))
        of_source = f" of the source {timeline}" if timeline else ""
        title = (
            f"Newest of {count_of(windows, 'window')}{of_source}, "
            f"from {pd.Timestamp(start):%Y-%m-%d %H:%M} UTC"
        )
        parts += [Text(title), table]
    alerts = [Alert.from_dict(alert) for alert in outputs.get("alerts", [])]
    periods = [AcceptedPeriod.from_dict(plain) for plain in outputs.get("accepted_periods", [])]
    parts += [Text(f"Reference is an accepted period: {period.describe()}") for period in periods]
    shadows = [Text(f"\n{_shadow(each)}") for each in outputs.get("shadow_comparisons", [])]
    return Group(*parts, *_alerts(alerts), *shadows)


def _shadow(found: Mapping[str, Any]) -> str:
    """One challenger in words; see `ShadowComparison`."""
    interval = (
        f" (95 %: {found['gain_low']:+.3f} to {found['gain_high']:+.3f})"
        if found["gain_low"] is not None
        else ""
    )
    return (
        f"Version {found['challenger']} in shadow of version {found['champion']}, on the same "
        f"{found['labels']:,} labelled wines: MAE {found['challenger_mae']:.3f} against "
        f"{found['champion_mae']:.3f}, better by {found['gain']:+.3f}{interval}"
    )


def _judgement(subject: str, verdict: str, reason: str) -> tuple[str, Text, str]:
    styled = Text(verdict, style=VERDICT_STYLES.get(verdict, "dim"))
    return subject.replace("_", " "), styled, reason


def _alerts(alerts: Sequence[Alert]) -> list[RenderableType]:
    """Show the alerts that are open or new, the latest first."""
    shown = [alert for alert in alerts if alert.is_open or alert.new]
    if not shown:
        return []
    table = _table("since (UTC)", "subject", "alert", "reason")
    for alert in [*reversed(shown)][:MOST_ALERTS]:
        state = "" if alert.is_open else f"; resolved {alert.resolved:%Y-%m-%d %H:%M}"
        source = timeline_of(alert.model_version)
        subject = f"{alert.subject} ({source})" if source else alert.subject
        found = _judgement(subject, alert.verdict, alert.reason + state)
        _add_row(table, f"{alert.since:%Y-%m-%d %H:%M}", *found)
    n_open, n_new = sum(alert.is_open for alert in shown), sum(alert.new for alert in shown)
    title = f"{count_of(n_open, 'open alert')}, {n_new:,} new in all"
    latest = f", the latest {MOST_ALERTS}" if len(shown) > MOST_ALERTS else ""
    return [Text(f"\n{title}{latest}"), table]


SECTIONS: dict[str, tuple[frozenset[str], Callable[[Outputs], RenderableType]]] = {
    "Wines": (frozenset({"wine_audit"}), _wines),
    "Tuning": (frozenset({"tuning_results"}), _tuning),
    "Candidates": (frozenset({"comparison"}), _candidates),
    "As published": (frozenset({"published_comparison", "split_audit"}), _published),
    "Champion": (frozenset({"promotion", "held_out_metrics", "held_out_intervals"}), _champion),
    "Traffic": (frozenset({"traffic_summary"}), _traffic),
    "Ground truth": (frozenset({"label_delivery"}), _ground_truth),
    "Monitoring": (frozenset({"verdicts", "model_verdicts"}), _verdicts),
    "Retraining": (frozenset({"retraining", "traffic_audit"}), _retraining),
}
SUMMARISED: frozenset[str] = frozenset().union(
    *(needed for needed, _ in SECTIONS.values()),
    {"split_audit", "accepted_periods", "alerts", "shadow_comparisons"},
)
"""The datasets that a summary tells of."""


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add_row(table: Table, *cells: str | Text) -> None:
    """Add a row as it stands: a path may hold brackets, which rich would take for markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
