"""The week of `conf/week`, sent and monitored: which verdicts come when, against the truth."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from wine_quality.wines import INPUTS

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
WEEK = pd.Timedelta(days=7)
# the whole run before has filled the first period
START = pd.Timestamp("2026-01-08", tz="UTC")
ALARMS = ("drift", "data_quality", "decayed")


@pytest.fixture(scope="module")
def root(whole_run, tmp_path_factory):
    assert whole_run.outcome.status == 0
    return shutil.copytree(whole_run.root, tmp_path_factory.mktemp("week") / "root")


@pytest.fixture(scope="module")
def made(root, whole_run, kedro_here, load, tmp_path_factory):
    conf = tmp_path_factory.mktemp("conf") / "conf"
    shutil.copytree(PROJECT / "conf", conf)
    for name in ("serving_simulation", "monitoring"):
        file = f"parameters_{name}.yml"
        shutil.copy(conf / "week" / file, conf / "test" / file)
    outcome = kedro_here(
        *("--conf-source", str(conf), "--env", "test"),
        *("--pipelines", "serving_simulation,monitoring"),
        # what Evidently draws is looked at elsewhere
        *("--params", "monitoring.drift.reported_windows=0"),
        root=root,
    )
    assert outcome.status == 0, outcome.errors
    names = ["delivery", "label_delivery", "injected_drift", "verdicts", "model_verdicts"]
    return load(root, [*names, "inference_log_connection", "receipts"])


@pytest.fixture(scope="module")
def alarms(made):
    """Alarming verdicts of the week on the columns and, as the subject `model`, on its errors."""
    model = made["model_verdicts"].query("segment == 'all'").assign(column="model")
    both = pd.concat([made["verdicts"], model])
    return both[both["verdict"].isin(ALARMS) & (both["window_start"] >= START)]


def test_every_wine_is_in_the_log_once(made):
    assert made["delivery"]["sent"] == made["delivery"]["acknowledged"] == 14_280
    ids = pd.concat(made["receipts"])["prediction_id"]
    week = made["inference_log_connection"].read(since=START)
    assert sorted(week["prediction_id"]) == sorted(ids)
    assert week["event_time"].max() < START + WEEK
    labelled = week["quality"].notna()
    assert labelled.mean() == pytest.approx(0.9, abs=0.01)
    assert made["label_delivery"]["submitted"] > made["label_delivery"]["new"] == labelled.sum()


def test_hours_are_fuller_by_day_than_by_night(made):
    traffic = pd.concat(made["receipts"])["event_time"]
    hours = traffic.dt.hour.value_counts() / 7
    assert hours.min() > 60
    assert hours[[13, 14, 15]].mean() > hours[[1, 2, 3]].mean() + 10


def test_every_drift_is_told_of_within_a_day(made, alarms):
    truth = made["injected_drift"]
    assert {row["name"] for row in truth} == {"weaker", "stuck_sensor", "stricter"}
    for row in truth:
        onset, full, until = (pd.Timestamp(row[key]) for key in ("onset", "full", "until"))
        of_drift = alarms[(alarms["column"] == row["subject"]) & (alarms["window_end"] > onset)]
        assert of_drift["window_end"].min() <= onset + pd.Timedelta(hours=24), row
        in_full = of_drift[(of_drift["window_start"] >= full) & (of_drift["window_end"] <= until)]
        assert row["verdict"] in set(in_full["verdict"])
        assert len(in_full) > 0.4 * ((until - full) / pd.Timedelta(hours=1)), row


def test_columns_that_did_not_drift_stay_quiet(made, alarms):
    false = alarms[alarms["column"].isin(INPUTS)]
    for row in made["injected_drift"]:
        during = (false["window_end"] > row["onset"]) & (false["window_start"] < row["until"])
        false = false[~(during & (false["column"] == row["subject"]))]
    # 168 windows at one percent for drift and one for data quality: ten or more come once in 400
    assert false["window_start"].nunique() < 10, false["reason"].tolist()
