"""What a run came to, in words for the person who started it."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

VERDICT_STYLES = {
    "ok": "green",
    "drift": "bold red",
    "decayed": "bold red",
    "data_quality": "bold yellow",
}
Outputs = Mapping[str, Any]


def print_summary(outputs: Outputs, places: Mapping[str, str], console: Console) -> None:
    """Print a section for each part of the work that the outputs tell of.

    Args:
        outputs: Loaded datasets by name; a section is printed where all it needs is there.
        places: Where to look further: what a person sees there, by command or path.
        console: Where to print.
    """
    sections: list[tuple[str, RenderableType]] = [
        (title, render(outputs))
        for title, (needed, render) in SECTIONS.items()
        if needed <= outputs.keys()
    ]
    if places:
        sections.append(("Look further", _pairs(places)))
    console.rule("[bold]wine_quality", style="dim")
    for title, body in sections:
        console.print(Text(title, style="bold"))
        console.print(Padding(body, (0, 0, 0, 2)))


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
                "the training wines; the scores below are those of wines already seen"
            )
    return Text("\n".join(lines))


def _candidates(outputs: Outputs) -> RenderableType:
    comparison: pd.DataFrame = outputs["comparison"]
    metric = next(str(c).removesuffix("_std") for c in comparison if str(c).endswith("_std"))
    table = _table("", "candidate", f"{metric.upper()} ± fold sd", "MAE", "R²", "within 0.5")
    for row in comparison.to_dict(orient="records"):
        _add_row(
            table,
            str(row["rank"]),
            row["candidate"].replace("_", " "),
            f"{row[metric]:.3f} ± {row[f'{metric}_std']:.3f}",
            f"{row['mae']:.3f}",
            f"{row['r2']:.3f}",
            f"{row['accuracy_within_0.5']:.1%}",
        )
    return table


def _champion(outputs: Outputs) -> RenderableType:
    decision, scores = outputs["promotion"], outputs["held_out_metrics"]["all"]
    became = "is champion" if decision["promoted"] else "is challenger"
    kept = "" if decision["promoted"] else f"; version {decision['champion']} stays champion"
    return Text(
        f"{decision['model']} version {decision['version']} {became}{kept}: {decision['reason']}\n"
        f"on the held-out wines: RMSE {scores['rmse']:.3f}, MAE {scores['mae']:.3f}, "
        f"R² {scores['r2']:.3f}, {scores['accuracy_within_0.5']:.1%} within 0.5"
    )


def _traffic(outputs: Outputs) -> RenderableType:
    summary = outputs["traffic_summary"]
    lines = [
        f"{summary['sent']:,} wines sent to version {', '.join(summary['model_versions'])}, "
        f"{summary['acknowledged']:,} acknowledged, {summary['failed']:,} failed; "
        f"ground truth for {summary['labelled']:,}",
        f"event time {summary['first_event']} to {summary['last_event']}, "
        f"{summary['rows_per_second']:,.0f} wines a second",
    ]
    if summary["drift"]:
        lines.append(f"injected drift: {summary['drift']}")
    return Text("\n".join(lines))


def _verdicts(outputs: Outputs) -> RenderableType:
    verdicts, model = outputs["verdicts"], outputs["model_verdicts"]
    start = max(verdicts["window_start"])
    verdicts = verdicts[verdicts["window_start"] == start]
    model = model[(model["window_start"] == start) & (model["segment"] == "all")]
    windows = len(outputs["verdicts"][["window_start", "model_version"]].drop_duplicates())
    table = _table("subject", "verdict", "reason")
    for column, rows in (("column", verdicts), (None, model)):
        for row in rows.to_dict(orient="records"):
            subject = row[column] if column else f"model v{row['model_version']}"
            # the reason begins with what it is about, which stands in the first column here
            reason = row["reason"].partition(": ")[2]
            style = VERDICT_STYLES.get(row["verdict"], "dim")
            verdict = Text(row["verdict"], style=style)
            _add_row(table, subject.replace("_", " "), verdict, reason)
    title = f"Newest of {windows} windows, from {pd.Timestamp(start):%Y-%m-%d %H:%M} UTC"
    return Group(Text(title), table)


SECTIONS: dict[str, tuple[frozenset[str], Callable[[Outputs], RenderableType]]] = {
    "Wines": (frozenset({"wine_audit"}), _wines),
    "Candidates": (frozenset({"comparison"}), _candidates),
    "Champion": (frozenset({"promotion", "held_out_metrics"}), _champion),
    "Traffic": (frozenset({"traffic_summary"}), _traffic),
    "Monitoring": (frozenset({"verdicts", "model_verdicts"}), _verdicts),
}
SUMMARISED: frozenset[str] = frozenset().union(
    *(needed for needed, _ in SECTIONS.values()), {"split_audit"}
)
"""The datasets that a summary tells of."""


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _pairs(pairs: Mapping[str, str]) -> Table:
    table = _table("", "")
    table.show_header = False
    for name, value in pairs.items():
        _add_row(table, name, value)
    return table


def _add_row(table: Table, *cells: str | Text) -> None:
    """Add a row as it stands: a path may hold brackets, which rich would take for markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
