import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from wine_quality.drift.alerts import Alert
from wine_quality.drift.performance import judge_performance
from wine_quality.drift.profiles import count
from wine_quality.drift.reference import Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.summary_page import MOST_RESOLVED, MOST_WINDOWS, render_page
from wine_quality.drift.verdict_store import CHANGES_DTYPES, Changes
from wine_quality.drift.verdicts import JUDGED_COLUMNS, decide
from wine_quality.drift.windows import make_windows
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import PREDICTION, QUALITY

SETTINGS = DriftSettings(resamples=1000, seed=1)
NO_CHANGES = Changes(pd.DataFrame(columns=list(CHANGES_DTYPES)).astype(CHANGES_DTYPES), 0)
SUBJECTS = len(JUDGED_COLUMNS) + 3
"""Beside the columns how they go together, copies, and the model."""
SECOND = datetime(2026, 1, 2, tzinfo=UTC)
ALERT = Alert(
    "drift", "1", "residual_sugar", "all", SECOND, SECOND, SECOND, SECOND, None, 100, "it rose"
)
LINKS = {"Evidently's <drift> report": "evidently/drift.html"}


class Page(HTMLParser):
    """Collects what a reader sees, the grid's cells by their class, and all addresses."""

    def __init__(self, html):
        super().__init__()
        self.text, self.cells, self.addresses, self.rows = "", [], [], 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if "cell" in (attributes.get("class") or "").split():
            self.cells.append(attributes["class"].removeprefix("cell").strip())
        self.addresses += [attributes[k] for k in ("href", "src") if k in attributes]
        self.rows += tag == "tr"

    def handle_data(self, data):
        self.text += data


def judged(days, spoil):
    wines = draw_wines(400 + 100 * days, 3)
    wines[PREDICTION] = wines[QUALITY] + np.random.default_rng(3).normal(0, 0.6, len(wines))
    reference, log = Reference.from_wines(wines[:400]), wines[400:].reset_index(drop=True)
    start = pd.Timestamp("2026-01-01", tz="UTC")
    log["event_time"] = start + pd.to_timedelta(log.index // 100, unit="D")
    windows = *make_windows(count(spoil(log), reference), SETTINGS), reference, "1", SETTINGS
    return decide(*windows), judge_performance(*windows)


def sweeter_on_the_second_day(log):
    second = log["event_time"].dt.day == 2
    return log.assign(alcohol=log["alcohol"] + 3 * second)


def test_open_alerts_lead_the_page():
    judgements = judged(2, sweeter_on_the_second_day)
    page = Page(render_page(*judgements, [replace(ALERT, new=True)], NO_CHANGES, LINKS))
    assert "Monitoring: 1 open alert, 1 new" in page.text
    assert "Newest of 2 windows: 2026-01-02 00:00 to 2026-01-03 00:00 UTC" in page.text
    assert "drift residual sugar, since 2026-01-02 00:00 UTC: it rose new" in page.text
    assert "Nothing that a person" not in page.text
    assert "Resolved" not in page.text
    # alcohol, and perhaps how it goes together with the others
    assert 1 <= page.cells.count("drift") <= 2
    assert len(page.cells) == 2 * SUBJECTS


def test_the_headline_counts_incidents_and_each_alert_names_its_own():
    verdicts, model = judged(2, lambda log: log)
    alerts = [replace(ALERT, incident=number) for number in (7, 7, 9)]
    page = Page(render_page(verdicts, model, alerts, NO_CHANGES, LINKS))
    assert "Monitoring: 3 open alerts in 2 incidents" in page.text
    assert "it rose (incident 9)" in page.text


def test_resolved_alerts_are_shown_apart_the_latest_first():
    verdicts, model = judged(2, lambda log: log)
    many = [
        replace(ALERT, resolved=SECOND + timedelta(hours=k), reason=f"number {k}.")
        for k in range(1, MOST_RESOLVED + 3)
    ]
    page = Page(render_page(verdicts, model, many, NO_CHANGES, LINKS))
    assert "Monitoring: 0 open alerts" in page.text
    assert "Nothing that a person has to look at." in page.text
    assert page.text.index(f"number {MOST_RESOLVED + 2}.") < page.text.index("number 3.")
    assert "number 2." not in page.text
    assert "and 2 more, in alerts.json" in page.text
    assert "from 2026-01-02 00:00 to 2026-01-02 03:00 UTC: number 3." in page.text


def test_a_quiet_page_says_so_and_no_labels_are_said_too():
    html = render_page(*judged(2, lambda log: log.assign(quality=np.nan)), [], NO_CHANGES, LINKS)
    page = Page(html)
    assert "0 open alerts" in page.text
    assert "Nothing that a person has to look at." in page.text
    assert page.cells.count("no_labels") == 2
    assert "no ground truth" in page.text


def test_the_page_stands_alone_and_escapes_what_it_shows():
    html = render_page(*judged(1, lambda log: log), [], NO_CHANGES, LINKS)
    page = Page(html)
    assert page.addresses == ["evidently/drift.html"]
    assert "Newest of 1 window: " in page.text
    assert "<script" not in html
    assert "http" not in html
    assert "Evidently's <drift> report" in page.text
    assert 'name="viewport"' in html


@pytest.mark.parametrize("days", [MOST_WINDOWS + 3])
def test_the_grid_keeps_to_the_newest_windows(days):
    verdicts, model = judged(1, lambda log: log)
    shifted = [
        [
            table.assign(window_start=table["window_start"] + pd.Timedelta(days=n))
            for n in range(days)
        ]
        for table in (verdicts, model)
    ]
    page = Page(render_page(pd.concat(shifted[0]), pd.concat(shifted[1]), [], NO_CHANGES, {}))
    assert len(page.cells) == MOST_WINDOWS * SUBJECTS
    assert f"Newest of {days} windows" in page.text


@pytest.mark.parametrize(
    ("hours", "windows", "dates"),
    [
        (1, 60, ["01-01", "01-02", "01-03"]),
        # the last day has no room for its date
        (1, 49, ["01-01", "01-02", ""]),
        # nor have most days of many
        (24, 8, ["01-01", "01-04", ""]),
        (1, 1, [""]),
    ],
)
def test_the_dates_of_the_windows_stand_below_them(hours, windows, dates):
    verdicts, model = judged(1, lambda log: log)
    shifts = [pd.Timedelta(hours=hours * n) for n in range(windows)]
    shifted = [
        pd.concat([table.assign(window_start=table["window_start"] + shift) for shift in shifts])
        for table in (verdicts, model)
    ]
    html = render_page(*shifted, [], NO_CHANGES, {})
    (row,) = re.findall(r'<tr class="days">(.*?)</tr>', html)
    cells = re.findall(r'<td colspan="(\d+)">(.*?)</td>', row)
    assert [date for _, date in cells] == dates
    assert sum(int(span) for span, _ in cells) == windows


def test_changed_verdicts_are_told_and_the_older_ones_counted():
    moment = pd.Timestamp("2026-01-05", tz="UTC")
    change = {
        **dict.fromkeys(CHANGES_DTYPES, 0),
        **dict.fromkeys(("window_start", "window_end", "decided_at"), moment),
        "subject": "model (all)",
        "verdict": "decayed",
        "before": "no_labels",
        "reason": "worse",
    }
    newest = pd.DataFrame([change]).astype(CHANGES_DTYPES)
    judgements = judged(1, lambda log: log)
    page = Page(render_page(*judgements, [], Changes(newest, 1), {}))
    assert "was no ground truth until 2026-01-05 00:00 UTC; worse" in page.text
    assert "Earlier changes" not in page.text
    assert (
        "Earlier changes, in the history: 7."
        in Page(render_page(*judgements, [], Changes(newest, 8), {})).text
    )
    assert "Verdicts that changed" not in Page(render_page(*judgements, [], NO_CHANGES, {})).text
