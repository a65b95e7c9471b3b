"""Evidently is slow to import and to draw: each report is drawn once and asked many questions."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from wine_quality.drift import evidently_reports
from wine_quality.drift.evidently_reports import report_window, windows_to_keep
from wine_quality.drift.judging import judge_log
from wine_quality.drift.settings import DriftSettings
from wine_quality.errors import WineQualityError
from wine_quality.wines import INPUTS, PREDICTION

REPORTED_COLUMNS = (*INPUTS, PREDICTION)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:::evidently"),
]


@pytest.fixture(scope="module")
def draw_up(held_out, reference, as_log):
    """Judge wines as one day's window, and draw up its reports."""

    def draw_up(wines, per_day=None):
        log = as_log(wines, per_day)
        decided, _ = judge_log(log, reference, DriftSettings())
        verdicts = decided[decided["column"].isin(REPORTED_COLUMNS)]
        return verdicts.set_index("column"), report_window(log, held_out, verdicts)

    return draw_up


@pytest.fixture(scope="module")
def ordinary(draw_wines, draw_up):
    wines = draw_wines(300, 91)
    return draw_up(wines.assign(alcohol=wines["alcohol"] + 1, sulphates=wines["sulphates"] * 2))


@pytest.fixture(scope="module")
def nasty(draw_wines, draw_up):
    """Everything at once: absent, empty, constant, text, infinite, nullable; and no labels."""
    wines = draw_wines(300, 92)
    return draw_up(
        wines.drop(columns="citric_acid").assign(
            residual_sugar=np.nan,
            chlorides=0.05,
            pH="3.2",
            sulphates=wines["sulphates"].where(wines.index > 60, np.inf),
            alcohol=wines["alcohol"].where(wines.index > 3).astype("Float64") + 2,
            type=wines["type"].where(wines.index > 30, "rosé").astype("category"),
            quality=pd.array([None] * 300, dtype="Int64"),
        )
    )


def drifted(page) -> set[str]:
    from evidently.core.report import Snapshot

    tests = Snapshot.loads(page.json).tests_results
    failed = [test.name for test in tests if test.status.value == "FAIL"]
    prefix = "Value Drift for column "
    return {name.removeprefix(prefix) for name in failed if name.startswith(prefix)}


def test_the_report_and_our_verdicts_agree(ordinary):
    verdicts, reports = ordinary
    ours = set(verdicts.index[verdicts["verdict"] == "drift"])
    assert ours == {"alcohol", "sulphates"}
    assert drifted(reports.drift) == ours


def test_the_report_shows_our_scores_and_thresholds(ordinary):
    from evidently.core.report import Snapshot

    verdicts, reports = ordinary
    shown = {}
    for result in Snapshot.loads(reports.drift.json).dict()["metrics"]:
        config = result["config"]
        if config["type"].endswith("ValueDrift"):
            shown[config["column"]] = (result["value"], config["threshold"])
    assert shown.keys() == set(verdicts.index)
    for column, (score, threshold) in shown.items():
        assert score == pytest.approx(verdicts.loc[column, "value"])
        assert threshold == pytest.approx(verdicts.loc[column, "threshold"])


def test_one_drifted_column_is_a_drifted_window(ordinary, draw_wines, draw_up):
    from evidently.core.report import Snapshot

    wines = draw_wines(300, 93)
    _, quiet = draw_up(wines)
    _, one = draw_up(wines.assign(alcohol=wines["alcohol"] + 1))
    share = [
        next(t for t in Snapshot.loads(r.drift.json).tests_results if "Share" in t.name)
        for r in (quiet, one)
    ]
    assert [t.status.value for t in share] == ["SUCCESS", "FAIL"]
    assert drifted(quiet.drift) == set()


def test_pages_are_titled_with_window_and_version(ordinary):
    _, reports = ordinary
    window = "2026-03-01 00:00 to 2026-03-02 00:00 UTC, model version 3"
    pages = {"Drift": reports.drift, "Summary": reports.summary, "Regression": reports.regression}
    for kind, page in pages.items():
        assert page.title == f"{kind}: {window}"
        assert f"<title>{page.title}</title>" in page.html
        assert f"{page.title}</h1>" in page.html
        assert json.loads(page.json)["name"] == page.title
        assert json.loads(page.json)["timestamp"].startswith("2026-03-01T00:00:00")


def test_a_window_with_labels_has_a_regression_report(ordinary):
    _, reports = ordinary
    assert reports.remarks == ()
    assert "MAE" in reports.regression.json


def test_bad_columns_are_left_out_and_named(nasty):
    verdicts, reports = nasty
    expected = {"alcohol": "drift"} | dict.fromkeys(
        ["citric_acid", "residual_sugar", "chlorides", "pH", "sulphates", "type"], "data_quality"
    )
    assert verdicts["verdict"].to_dict() == {c: expected.get(c, "ok") for c in verdicts.index}
    assert drifted(reports.drift) == {"alcohol"}
    remarks = " ".join(reports.remarks)
    for column in ("citric_acid", "residual_sugar", "chlorides", "pH", "sulphates", "type"):
        assert f"Left out of the drift report: {column}: " in remarks
    assert "Without any value, and left out: citric_acid, residual_sugar, pH." in remarks
    assert "Left out of the drift report: pH: " in reports.drift.html
    assert reports.summary is not None


def test_without_ground_truth_there_is_no_regression_report_and_it_says_so(nasty):
    _, reports = nasty
    assert reports.regression is None
    assert "No ground truth for this window yet: there is no regression report." in reports.remarks


def test_a_window_without_any_judgement_or_value_has_no_pages(draw_wines, draw_up):
    empty = draw_wines(60, 94).map(lambda _: None)
    _, reports = draw_up(empty)
    assert (reports.drift, reports.summary, reports.regression) == (None, None, None)
    assert len(reports.remarks) == 15


def test_few_labels_and_a_small_window(draw_wines, draw_up):
    wines = draw_wines(30, 95)
    _, reports = draw_up(wines.assign(quality=wines["quality"].where(wines.index < 3)))
    assert reports.drift is None
    assert reports.summary is not None
    assert "Only 3 labelled wines: there is no regression report." in reports.remarks


def test_large_windows_are_drawn_from_under_a_seed(draw_wines, held_out, monkeypatch):
    monkeypatch.setattr(evidently_reports, "MOST_ROWS", 100)
    wines = draw_wines(1000, 96)
    drawn = evidently_reports._prepare(wines, 5)
    assert len(drawn) == 100
    pd.testing.assert_frame_equal(drawn, evidently_reports._prepare(wines, 5))
    assert not drawn.equals(evidently_reports._prepare(wines, 6))


def test_verdicts_of_several_windows_are_refused(draw_wines, draw_up):
    with pytest.raises(WineQualityError, match="one window of one model version, not for 2"):
        draw_up(draw_wines(120, 97), 60)


def test_evidently_is_silenced_and_imported_only_for_reports(ordinary):
    assert os.environ["DO_NOT_TRACK"]
    from evidently.telemetry import event_logger

    assert event_logger.enabled is False or event_logger.enabled() is False
    code = (
        "import sys; from wine_quality.drift import calibration, evidently_reports, performance, "
        "verdicts; sys.exit(any(m in sys.modules for m in ('evidently', 'scipy.stats', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def windows_of(days, alarming, versions="1"):
    start = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(list(days), unit="D")
    return pd.DataFrame(
        {
            "window_start": start,
            "window_end": start + pd.Timedelta("1D"),
            "model_version": list(versions) * (len(start) // len(versions)),
            "alarming": [day in alarming for day in days],
        }
    )


def days_kept(windows, most, alarming_days):
    kept = windows_to_keep(windows, most, alarming_days)
    assert kept.index.isin(windows.index).all()
    return ((kept["window_start"] - pd.Timestamp("2026-01-01", tz="UTC")).dt.days).tolist()


def test_reports_of_new_and_of_alarming_windows_stay():
    # weeks since 1970 begin on the days 0, 7, 14, ... of 2026
    windows = windows_of(range(100), {3, 5, 20, 21, 70, 98})
    # half for the newest; alarms of the last thirty days; then one of each week; then the newest
    assert days_kept(windows, 12, 30) == [99, 98, 97, 96, 95, 94, 70, 21, 20, 5, 93, 92]
    assert days_kept(windows, 12, 95) == [99, 98, 97, 96, 95, 94, 70, 21, 20, 5, 93, 92]
    assert days_kept(windows, 12, 97) == [99, 98, 97, 96, 95, 94, 70, 21, 20, 5, 3, 93]
    assert days_kept(windows, 7, 30) == [99, 98, 97, 70, 21, 20, 5]
    assert sorted(days_kept(windows, 200, 30)) == list(range(100))
    assert days_kept(windows.head(0), 5, 30) == []
    # order of the rows decides nothing
    mixed = windows.sample(frac=1, random_state=3)
    assert days_kept(mixed, 12, 30) == days_kept(windows, 12, 30)


def test_another_versions_alarm_of_the_same_week_stays_too():
    windows = windows_of([3, 3, 50, 50], {3}, versions="12")
    assert days_kept(windows, 4, 10)[2:] == [3, 3]
