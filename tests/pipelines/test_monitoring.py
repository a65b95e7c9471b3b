import json

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from pydantic import ValidationError

from wine_quality.drift import evidently_reports
from wine_quality.drift.alerts import AlertSettings
from wine_quality.drift.evidently_reports import ReportPage, WindowReports
from wine_quality.drift.profiles import Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.errors import WineQualityError
from wine_quality.pipelines.monitoring import create_pipeline, nodes
from wine_quality.pipelines.monitoring.figures import (
    VERDICT_COLOURS,
    plot_drift_heat_map,
    plot_error_over_time,
)
from wine_quality.pipelines.monitoring.parameters import MonitoringParameters
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import INPUTS, PREDICTION, QUALITY

SETTINGS = DriftSettings(resamples=1000, seed=2009)
COLUMNS = {*INPUTS, PREDICTION}


def predicted(wines, seed):
    """Wines with predictions that err by a normal of 0.6 points."""
    error = np.random.default_rng(seed).normal(0, 0.6, len(wines))
    return wines.assign(**{PREDICTION: wines[QUALITY] + error})


def stronger(wines):
    return wines.assign(alcohol=wines["alcohol"] + 2)


# the second version was trained in a warmer year
REFERENCES = {
    "1": predicted(draw_wines(500, 1), 1),
    "2": predicted(stronger(draw_wines(500, 2)), 2),
}


def day(number, version, wines, **changes):
    """What was logged on a day of January: the wines, and what became of their columns."""
    start = pd.Timestamp(2026, 1, number, tz="UTC")
    return wines.assign(
        event_time=start + pd.to_timedelta(np.arange(len(wines)), unit="min"),
        model_version=version,
        **changes,
    )


def week():
    """A day for each thing that can happen, the newest first."""
    wines = {n: predicted(draw_wines(120, 10 + n), n) for n in range(2, 6)}
    return pd.concat(
        [
            day(5, "2", stronger(wines[5]), pH=np.nan),
            day(4, "1", wines[4], quality=wines[4][QUALITY] + 1.0),
            day(3, "1", stronger(wines[3]), quality=np.nan),
            day(2, "1", wines[2]),
            day(1, "2", predicted(draw_wines(30, 9), 9)),
        ],
        ignore_index=True,
    )


LOG = week()


@pytest.fixture(scope="module")
def made(run_pipeline):
    """All that the pipeline makes of the week."""
    given = {
        "inference_log": LOG,
        "references": REFERENCES.__getitem__,
        "previous_alerts": [],
        "params:monitoring.drift": SETTINGS,
        "params:monitoring.alerts": AlertSettings(),
    }
    return run_pipeline(create_pipeline(), given)


def of_day(table, number):
    return table[table["window_start"] == pd.Timestamp(2026, 1, number, tz="UTC")]


# The pipeline


def test_every_day_and_column_has_a_verdict(made):
    verdicts = made["verdicts"]
    assert verdicts["window_start"].is_monotonic_increasing
    for number in range(1, 6):
        rows = of_day(verdicts, number)
        assert sorted(rows["column"]) == sorted(COLUMNS)
        assert (rows["window_end"] - rows["window_start"] == pd.Timedelta("1D")).all()
        assert set(rows["model_version"]) == {"2" if number in (1, 5) else "1"}


@pytest.mark.parametrize(
    ("number", "others", "special"),
    [
        (1, "insufficient_data", {}),
        (2, "ok", {}),
        (3, "ok", {"alcohol": "drift"}),
        (4, "ok", {}),
        # held against the reference of its own version, the strong wines are no drift
        (5, "ok", {"pH": "data_quality"}),
    ],
    ids=["too few", "as ever", "drift", "decay", "a column fails"],
)
def test_a_days_verdicts(made, number, others, special):
    found = of_day(made["verdicts"], number).set_index("column")["verdict"].to_dict()
    assert found == dict.fromkeys(COLUMNS, others) | special


def test_the_models_verdicts(made):
    table = made["model_verdicts"]
    found = {number: of_day(table, number).set_index("segment") for number in range(1, 6)}
    assert [found[n].loc["all", "verdict"] for n in found] == [
        "insufficient_data",
        "ok",
        "no_labels",
        "decayed",
        "ok",
    ]
    assert all(set(rows.index) == {"all", "red", "white"} for rows in found.values())
    held_out = REFERENCES["1"]
    expected = (held_out[PREDICTION] - held_out[QUALITY]).abs().mean()
    assert found[4].loc["all", "reference_mae"] == pytest.approx(expected)
    day_four = LOG[LOG["event_time"].dt.day == 4]
    expected = (day_four[PREDICTION] - day_four[QUALITY]).abs().mean()
    assert found[4].loc["all", "mae"] == pytest.approx(expected)
    assert found[4].loc["all", "value"] > found[4].loc["all", "threshold"]


def test_the_profile_counts_every_wine_once_in_every_column(made):
    counts = made["profile_counts"]
    sums = counts.groupby(["window_start", "model_version", "column"])["n"].sum()
    assert len(sums) == 5 * len(COLUMNS)
    assert sums.groupby("window_start").unique().map(list).tolist() == [[30], *[[120]] * 4]
    errors = made["profile_errors"].groupby("window_start")["labelled"].sum()
    assert errors.tolist() == [30, 120, 120, 120]


def test_the_alerts_are_the_alarming_verdicts(made):
    alerts = made["alerts"]
    found = {(a["window_start"], a["model_version"], a["subject"], a["verdict"]) for a in alerts}
    assert found >= {
        ("2026-01-03T00:00:00+00:00", "1", "alcohol", "drift"),
        ("2026-01-05T00:00:00+00:00", "2", "pH", "data_quality"),
        ("2026-01-04T00:00:00+00:00", "1", "model (all)", "decayed"),
    }
    verdicts = pd.concat([made["verdicts"], made["model_verdicts"]])["verdict"]
    assert len(alerts) == verdicts.isin(["drift", "data_quality", "decayed"]).sum()
    drift = next(a for a in alerts if a["subject"] == "alcohol")
    assert drift["value"] > drift["threshold"]
    assert (drift["n"], drift["window_end"]) == (120, "2026-01-04T00:00:00+00:00")
    assert drift["reason"].startswith("alcohol: score")
    # for machines: plain JSON, without NaN
    assert json.loads(json.dumps(alerts, allow_nan=False)) == alerts


def test_the_reports_are_of_the_newest_window(made):
    for kind in nodes.REPORTS:
        page = made[f"{kind}_report_html"]
        assert page.lower().lstrip().startswith("<!doctype html")
        assert "2026-01-05 00:00 to 2026-01-06 00:00 UTC, model version 2" in page
        assert json.loads(made[f"{kind}_report_json"])
    assert "alcohol" in made["drift_report_json"]


def test_the_figures_show_the_week(made):
    heat_map = made["drift_figure"].data[0]
    assert list(heat_map.x) == [f"2026-01-0{n} v{1 + (n in (1, 5))}" for n in range(1, 6)]
    assert len(heat_map.y) == len(COLUMNS)
    names = list(VERDICT_COLOURS)
    # each verdict has one plain colour, from half a code below it to half a code above
    low, high = heat_map.zmin, heat_map.zmax
    for code, colour in enumerate(VERDICT_COLOURS.values()):
        ends = [(code + side - low) / (high - low) for side in (-0.5, 0.5)]
        assert [end for end, of in heat_map.colorscale if of == colour] == pytest.approx(ends)
    by_column = dict(zip(heat_map.y, np.array(heat_map.z), strict=True))
    assert [names[int(code)] for code in by_column["alcohol"]] == [
        "insufficient_data",
        "ok",
        "drift",
        "ok",
        "ok",
    ]
    assert names[int(by_column["pH"][4])] == "data_quality"
    where = list(heat_map.y).index("alcohol")
    assert heat_map.customdata[where][2].startswith("alcohol: score")

    window, reference = made["error_figure"].data
    judged = made["model_verdicts"].query("segment == 'all'")
    assert np.array_equal(window.y, judged["mae"], equal_nan=True)
    assert np.isnan(window.y[2])
    assert list(reference.y) == judged["reference_mae"].tolist()
    colours = list(window.marker.color)
    assert colours[3] != colours[1] == colours[4]


# Nodes


def test_references_outlive_a_file(made):
    stored = json.loads(json.dumps(made["reference_profiles"]))
    assert stored.keys() == {"1", "2"}
    assert Reference.from_dict(stored["1"]) == Reference.from_wines(REFERENCES["1"])
    profile = [made["profile_counts"], made["profile_errors"], stored, SETTINGS]
    assert_frame_equal(nodes.decide_columns(*profile), made["verdicts"])
    assert_frame_equal(nodes.decide_model(*profile), made["model_verdicts"])


def test_only_versions_in_the_log_are_described():
    asked = []

    def references(version):
        asked.append(version)
        return REFERENCES[version]

    one = LOG[LOG["model_version"] == "2"]
    assert nodes.describe_references(one, references).keys() == {"2"}
    assert asked == ["2"]


def test_a_reference_that_cannot_be_used_is_an_error():
    with pytest.raises(WineQualityError, match="the reference lacks alcohol"):
        nodes.describe_references(LOG, lambda version: REFERENCES[version].drop(columns="alcohol"))


def test_a_log_without_event_times_is_an_error(made):
    with pytest.raises(WineQualityError, match="no event_time"):
        nodes.profile_log(LOG.assign(event_time=pd.NaT), made["reference_profiles"], SETTINGS)


def test_a_stored_reference_of_another_kind_is_an_error(made):
    spoilt = {"1": {"rows": 5}}
    with pytest.raises(WineQualityError, match="stored reference cannot be read"):
        nodes.decide_columns(made["profile_counts"], made["profile_errors"], spoilt, SETTINGS)
    with pytest.raises(WineQualityError, match="stored reference cannot be read"):
        nodes.decide_model(made["profile_counts"], made["profile_errors"], spoilt, SETTINGS)


def test_a_quiet_day_raises_no_alert(made):
    quiet = [of_day(made[name], 2) for name in ("verdicts", "model_verdicts")]
    assert nodes.raise_alerts(*quiet, [], AlertSettings()) == []


def test_an_alert_that_was_told_before_is_not_logged_again(made, caplog):
    nodes.raise_alerts(made["verdicts"], made["model_verdicts"], made["alerts"], AlertSettings())
    assert caplog.text == ""
    nodes.raise_alerts(made["verdicts"], made["model_verdicts"], [], AlertSettings())
    assert "alcohol: score" in caplog.text


def test_a_scheduler_learns_of_chosen_verdicts_by_the_exit_status(made):
    assert made["failing_alerts"] == []
    assert nodes.check_alerts(made["alerts"], AlertSettings(fail_on=("decayed",))) == []
    with pytest.raises(WineQualityError, match=r"newest window has \d+ alerts .* pH: "):
        nodes.check_alerts(made["alerts"], AlertSettings(fail_on=("data_quality",)))


@pytest.mark.parametrize("reported", [True, False], ids=["reported", "nothing to report"])
def test_where_there_is_no_report_the_page_says_why(made, monkeypatch, reported):
    asked = []
    page = ReportPage("title", "<html>page</html>", '{"a": 1}') if reported else None

    def report_window(rows, held_out, verdicts, seed):
        asked.append((rows, held_out, verdicts, seed))
        return WindowReports(page, page, page, ("no ground truth for <3 wines",))

    monkeypatch.setattr(evidently_reports, "report_window", report_window)
    contents = nodes.report_newest_window(LOG, REFERENCES.__getitem__, made["verdicts"], SETTINGS)
    ((rows, held_out, verdicts, seed),) = asked
    assert_frame_equal(rows, LOG[LOG["event_time"].dt.day == 5])
    assert held_out is REFERENCES["2"]
    assert_frame_equal(verdicts, of_day(made["verdicts"], 5))
    assert seed == 2009
    assert len(contents) == 2 * len(nodes.REPORTS)
    if reported:
        assert contents == (page.html, page.json) * 3
    else:
        assert contents[1::2] == ("{}",) * 3
        assert "<h1>No regression report</h1>" in contents[4]
        assert "<li>no ground truth for &lt;3 wines</li>" in contents[4]


# Figures


def test_windows_within_a_day_are_told_by_the_hour(made):
    hours = made["verdicts"].assign(
        window_start=made["verdicts"]["window_start"] + pd.Timedelta("6h"), model_version="1"
    )
    assert plot_drift_heat_map(hours).data[0].x[0] == "2026-01-01 06:00"


def test_days_of_one_version_are_told_by_the_date(made):
    assert plot_error_over_time(of_day(made["model_verdicts"], 2)).data[0].x[0] == "2026-01-02"


# Parameters


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"drift": {"window": "1M"}}, "window"),
        ({"drift": {"false_alarm_rate": 0}}, "false_alarm_rate"),
        ({"drift": {"threshold": 0.1}}, "threshold"),
        ({}, "drift"),
    ],
)
def test_wrong_parameters_are_named(wrong, named):
    with pytest.raises(ValidationError, match=named):
        MonitoringParameters.model_validate(wrong)
