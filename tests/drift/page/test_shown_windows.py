from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from tests.drift.page.making import START, log_of, quiet, sources_of
from wine_quality.drift.alerts import by_subject
from wine_quality.drift.page import shown_windows as module
from wine_quality.drift.page.shown_windows import ShownWindows, time_ticks
from wine_quality.drift.vocabulary import UNFINISHED
from wine_quality.drift.windows import OF_VERSIONS


def windows_of(sources, verdicts=None):
    judged = by_subject(sources.verdicts if verdicts is None else verdicts, sources.model_verdicts)
    judged = judged[~judged["subject"].isin(OF_VERSIONS)]
    return ShownWindows.of(judged, sources.model_verdicts, sources.hours)


def two_versions():
    """Both on the second of three days, the second one with fewer wines on it."""
    first, second = log_of(2), log_of(2, "2", 60)
    later = second.assign(event_time=second["event_time"] + pd.Timedelta("1D"))
    return sources_of(pd.concat([first, later], ignore_index=True))


def test_windows_of_versions_at_one_time_share_a_place():
    shown = windows_of(two_versions())
    assert [(w.version, w.place, w.wines) for w in shown.windows] == [
        ("1", 0, 100), ("1", 1, 100), ("2", 1, 60), ("2", 2, 60),
    ]  # fmt: skip
    assert (shown.width, shown.versions) == (3, ("1", "2"))
    # the wines of all versions are counted, those with ground truth too
    assert [w.labelled for w in shown.windows] == [100, 100, 60, 60]


def test_the_newest_window_is_over_and_of_several_versions_that_with_most_wines():
    sources = two_versions()
    assert windows_of(sources).newest == 3
    last = sources.verdicts["window_start"] == START + pd.Timedelta("2D")
    verdicts = sources.verdicts.assign(verdict=sources.verdicts["verdict"].mask(last, UNFINISHED))
    goes_on = windows_of(sources, verdicts)
    assert goes_on.newest == 1
    assert goes_on.windows[0].option == "2026-01-01, version 1 ✓ ok"
    assert goes_on.windows[3].option == "2026-01-03, version 2 – goes on"


def test_only_the_newest_windows_are_shown(monkeypatch):
    monkeypatch.setattr(module, "MOST_WINDOWS", 2)
    shown = windows_of(quiet())
    assert [w.start for w in shown.windows] == [START + pd.Timedelta(days=d) for d in (1, 2)]
    assert [w.wines for w in shown.windows] == [100, 100]


def test_a_line_is_interrupted_where_windows_are_missing():
    log = log_of(3)
    shown = windows_of(sources_of(log[log["event_time"].dt.day != 2]))
    (line, points) = shown.lines("score", shown.places * 10.0)
    assert line.d == "M0.5 0h0M1.5 10h0"
    assert points.kind == "score points"


def test_a_moment_is_in_its_window_or_in_the_first_after_it():
    shown = windows_of(quiet())
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    assert shown.at(noon, "1") == 1
    assert shown.at(noon - timedelta(days=9), "1") == 0
    assert shown.at(noon + timedelta(days=9), "1") is None
    assert shown.at(noon, "2") is None


@pytest.mark.parametrize(
    ("hours", "count", "labels"),
    [
        (24, 3, ["01-01", "01-02", "01-03"]),
        (24, 14, ["01-01", "01-04", "01-07", "01-10", "01-13"]),
        (1, 60, ["01-01", "01-02", "01-03"]),
        (1, 4, ["00:00", "01:00", "02:00", "03:00"]),
        (24, 1, ["01-01"]),
        (1, 0, []),
    ],
)
def test_days_are_named_below_a_chart_and_hours_of_one_day(hours, count, labels):
    starts = [START + pd.Timedelta(hours=hours * k) for k in range(count)]
    ticks = time_ticks(starts)
    assert [tick.label for tick in ticks] == labels
    assert [tick.at for tick in ticks] == sorted(tick.at for tick in ticks)
