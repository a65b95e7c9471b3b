"""One page that says how the windows were judged: self-contained, readable on a phone."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from math import ceil

import pandas as pd

from wine_quality.drift.alerts import Alert, model_subject
from wine_quality.drift.reference import ALL
from wine_quality.drift.verdict_store import Changes
from wine_quality.drift.window_names import in_words
from wine_quality.drift.windows import OF_VERSIONS, newest_window

MOST_WINDOWS = 200
"""Windows in the grid, more than a week by the hour; older ones are in the verdicts' table."""
GRID_REM, WIDEST_REM, NARROWEST_REM = 48.0, 1.1, 0.25
"""Width of the grid, and of a cell at most and at least; a wider grid scrolls."""
DATE_REM = 2.6
"""Width of a date below the grid; days that have no room for theirs go without one."""
MOST_RESOLVED = 20
"""Resolved alerts on the page, the latest; all are in alerts.json."""
MOST_CHANGES = 12
"""Changed verdicts on the page, the latest; all are in the history."""
MODEL = model_subject(ALL)
"""The model on wines of every type, as alerts call it."""
WORDS = {
    "ok": "ok",
    "drift": "drift",
    "decayed": "decayed",
    "data_quality": "data quality",
    "no_traffic": "no traffic",
    "insufficient_data": "too few wines",
    "no_labels": "no ground truth",
    "unfinished": "goes on",
}
STYLE = """
:root { color-scheme: light dark; --ok: #2e7d4f; --alarm: #c0392b; --quality: #d08a17;
  --none: #8e5bb0;
  --unjudged: #9aa0a6; --line: #8884; }
* { box-sizing: border-box }
body { font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem }
h1 { font-size: 1.35rem; margin: 0 0 .25rem }
h2 { font-size: 1.1rem; margin: 1.75rem 0 .5rem }
p { margin: .25rem 0 }
/* begins at its right end, where the newest window is */
.scroll { overflow-x: auto; direction: rtl }
.scroll table { direction: ltr; margin-left: 0; margin-right: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top }
.grid { width: auto }
.grid td { padding: 1px .5px; border: 0; min-width: var(--wide) }
.grid th { font-weight: 400; border: 0; padding: 0 .6rem 0 0; white-space: nowrap;
  position: sticky; left: 0; background: Canvas }
.grid .days td { border-left: 1px solid var(--line); padding: .1rem 0 0 .2rem;
  font-size: .75rem; white-space: nowrap }
.cell { display: block; height: 1.35rem; border-radius: 2px }
.ok { --c: var(--ok) } .drift, .decayed { --c: var(--alarm) }
.no_traffic { --c: var(--none) } .data_quality { --c: var(--quality) }
.insufficient_data, .no_labels, .unfinished { --c: var(--unjudged) }
.cell { background: var(--c, transparent) }
.word { color: var(--c); font-weight: 600; white-space: nowrap }
ul { padding-left: 1.2rem; margin: .25rem 0 }
@media (max-width: 40rem) {
  .stack thead { display: none }
  .stack tr { display: block; border-bottom: 1px solid var(--line); padding: .5rem 0 }
  .stack td { display: block; border: 0; padding: .05rem 0 }
  .stack td:nth-child(-n+2) { display: inline-block; padding-right: .6rem }
}
"""


def render_page(
    verdicts: pd.DataFrame,
    model_verdicts: pd.DataFrame,
    alerts: Sequence[Alert],
    changes: Changes,
    links: Mapping[str, str],
) -> str:
    """Write the page.

    Args:
        verdicts: Rows of `verdicts.decide`, at least one.
        model_verdicts: Rows of `performance.judge_performance` of the same windows.
        alerts: As `notify` gave them.
        changes: As `VerdictStore.changes` gave them.
        links: Further pages: addresses, relative to this one, by what they are called.

    Returns:
        A whole HTML document without scripts, images or addresses outside of `links`.
    """
    newest = newest_window(verdicts)
    start, end = newest[["window_start", "window_end"]].iloc[0]
    windows = len(_windows(verdicts))
    raised = [alert for alert in alerts if alert.is_open]
    resolved = [alert for alert in alerts if not alert.is_open]
    new = sum(alert.new for alert in alerts)
    state = f"{len(raised)} open alert{'' if len(raised) == 1 else 's'}"
    incidents = len({alert.incident for alert in raised})
    if len(raised) > 1:
        state += f" in {incidents} incident{'' if incidents == 1 else 's'}"
    beside = f", {new} new" if new else ""
    body = [
        f"<h1>Monitoring: {state}{beside}</h1>",
        f"<p>Newest of {windows} window{'s' if windows > 1 else ''}: {in_words(start)} to "
        f"{in_words(end)} UTC</p>",
        _alert_list(raised),
        *_resolved(resolved),
        f"<h2>{'All' if windows <= MOST_WINDOWS else f'The newest {MOST_WINDOWS}'} windows</h2>",
        _grid(verdicts, model_verdicts),
        "<h2>Newest window</h2>",
        _table(newest, model_verdicts[model_verdicts["window_start"] == start]),
        _changes(changes),
        "<h2>Further</h2>",
        "<ul>",
        *(f'<li><a href="{escape(at)}">{escape(name)}</a></li>' for name, at in links.items()),
        "</ul>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Monitoring: {state}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _windows(verdicts: pd.DataFrame) -> pd.DataFrame:
    columns = verdicts[~verdicts["column"].isin(OF_VERSIONS)]
    return columns[["window_start", "model_version"]].drop_duplicates().sort_values("window_start")


def _resolved(alerts: Sequence[Alert]) -> list[str]:
    """Show the last of the resolved alerts, the latest first."""
    if not alerts:
        return []
    latest = [*reversed(alerts)][:MOST_RESOLVED]
    more = len(alerts) - len(latest)
    return [
        "<h2>Resolved</h2>",
        _alert_list(latest),
        *([f"<p>and {more:,} more, in alerts.json</p>"] if more else []),
    ]


def _alert_list(alerts: Sequence[Alert]) -> str:
    if not alerts:
        return "<p>Nothing that a person has to look at.</p>"
    items = "".join(
        f'<li class="{alert.verdict}"><span class="word">{WORDS[alert.verdict]}</span> '
        f"{escape(alert.describe())}{_incident(alert)}"
        f"{' <strong>new</strong>' if alert.new else ''}</li>"
        for alert in alerts
    )
    return f"<ul>{items}</ul>"


def _incident(alert: Alert) -> str:
    """Name the incident, by which `kedro alerts` knows it."""
    return "" if alert.incident is None else f" (incident {alert.incident})"


def _grid(verdicts: pd.DataFrame, model_verdicts: pd.DataFrame) -> str:
    """Draw a cell for each subject and window, the newest on the right."""
    shown = list(_windows(verdicts).itertuples(index=False, name=None))[-MOST_WINDOWS:]
    if not shown:
        return "<p>No window could be judged.</p>"
    model = model_verdicts[model_verdicts["segment"] == ALL].assign(column=MODEL)
    fields = ["window_start", "model_version", "column", "verdict", "reason"]
    cells = {
        (column, start, version): (verdict, reason)
        for start, version, column, verdict, reason in pd.concat(
            [verdicts[fields], model[fields]]
        ).itertuples(index=False, name=None)
    }
    rows = []
    for subject in [*verdicts["column"].unique(), MODEL]:
        line = []
        for start, version in shown:
            verdict, reason = cells.get((subject, start, version), ("", "not judged"))
            title = f"{in_words(start)}, version {version}: {reason}"
            line.append(f'<td><span class="cell {verdict}" title="{escape(title)}"></span></td>')
        rows.append(f"<tr><th>{escape(_words(subject))}</th>{''.join(line)}</tr>")
    wide = max(NARROWEST_REM, min(WIDEST_REM, GRID_REM / len(shown)))
    rows.append(_days([start for start, _ in shown], ceil(DATE_REM / wide)))
    legend = " · ".join(
        f'<span class="{verdict}"><span class="word">{word}</span></span>'
        for verdict, word in WORDS.items()
        if verdict in set(verdicts["verdict"]) | set(model["verdict"])
    )
    first, last = shown[0][0], shown[-1][0]
    return (
        f'<div class="scroll"><table class="grid" style="--wide: {wide:.2f}rem">'
        f"{''.join(rows)}</table></div>"
        f"<p>{in_words(first)} to {in_words(last)} UTC, left to right. {legend}</p>"
    )


def _days(starts: Sequence[pd.Timestamp], room: int) -> str:
    """Write dates below the grid, each where its day begins.

    Args:
        starts: Of the grid's windows.
        room: Cells that a date takes.
    """
    ticks: list[int] = []
    for k, start in enumerate(starts):
        if not ticks or (start.date() != starts[k - 1].date() and k - ticks[-1] >= room):
            ticks.append(k)
    spans = [end - k for k, end in pairwise([*ticks, len(starts)])]
    cells = [
        f'<td colspan="{span}">{f"{starts[k]:%m-%d}" if span >= room else ""}</td>'
        for k, span in zip(ticks, spans, strict=True)
    ]
    return f'<tr class="days"><th></th>{"".join(cells)}</tr>'


def _table(verdicts: pd.DataFrame, model_verdicts: pd.DataFrame) -> str:
    subjects = [*verdicts["column"], *map(model_subject, model_verdicts["segment"])]
    judged = [
        *zip(verdicts["verdict"], verdicts["reason"], strict=True),
        *zip(model_verdicts["verdict"], model_verdicts["reason"], strict=True),
    ]
    rows = [
        f'<tr class="{verdict}"><td>{escape(_words(subject))}</td>'
        f'<td class="word">{WORDS[verdict]}</td><td>{escape(reason)}</td></tr>'
        for subject, (verdict, reason) in zip(subjects, judged, strict=True)
    ]
    return (
        '<table class="stack"><thead><tr><th>subject</th><th>verdict</th><th>why</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _changes(changes: Changes) -> str:
    """Tell which windows have another verdict now than before, as late labels bring about."""
    if not changes.in_all:
        return ""
    rows = [
        f'<tr class="{row["verdict"]}"><td>{in_words(row["window_start"])}, '
        f"{escape(_words(row['subject']))}</td>"
        f'<td class="word">{WORDS[row["verdict"]]}</td>'
        f"<td>was {WORDS[row['before']]} until {row['decided_at']:%Y-%m-%d %H:%M} UTC; "
        f"{escape(row['reason'])}</td></tr>"
        for row in changes.newest.to_dict(orient="records")
    ]
    older = changes.in_all - len(rows)
    note = f"<p>Earlier changes, in the history: {older}.</p>" if older else ""
    return (
        "<h2>Verdicts that changed</h2>"
        '<table class="stack"><thead><tr><th>window, subject</th><th>verdict</th><th>before</th>'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table>{note}"
    )


def _words(subject: str) -> str:
    return str(subject).replace("_", " ")
