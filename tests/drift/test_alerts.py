import json
import logging
import time
from types import SimpleNamespace

import pandas as pd
import pytest
from pydantic import ValidationError

from wine_quality import retrying
from wine_quality.drift.alerts import (
    MOST_LOGGED,
    AlertSettings,
    describe,
    failing,
    new_elsewhere,
    raise_alerts,
    tell,
)
from wine_quality.drift.told_alerts import ToldAlerts


def judged(*windows, subject="column", version="1"):
    """Verdicts of consecutive days; each window maps its columns (or segments) to verdicts."""
    rows = [
        {
            "window_start": pd.Timestamp(2026, 1, number, tz="UTC"),
            "window_end": pd.Timestamp(2026, 1, number + 1, tz="UTC"),
            "model_version": version,
            subject: name,
            "verdict": verdict,
            "value": 5.0,
            "threshold": 4.0,
            "n": 200,
            "reason": f"{name}: because",
        }
        for number, window in enumerate(windows, 1)
        for name, verdict in window.items()
    ]
    columns = ["window_start", "window_end", "model_version", subject, "verdict"]
    return pd.DataFrame(rows, columns=[*columns, "value", "threshold", "n", "reason"])


NO_MODEL = judged(subject="segment")


def raised(*windows, **settings):
    alerts = raise_alerts(judged(*windows), NO_MODEL, AlertSettings(**settings))
    return [(alert["window_start"][8:10], alert["subject"], alert["verdict"]) for alert in alerts]


def test_every_alarm_is_an_alert_by_default_and_quiet_verdicts_are_none():
    windows = {"pH": "drift", "alcohol": "ok"}, {"pH": "ok", "alcohol": "data_quality"}
    assert raised(*windows) == [("01", "pH", "drift"), ("02", "alcohol", "data_quality")]


def test_nothing_judged_raises_nothing():
    assert raise_alerts(judged(), NO_MODEL, AlertSettings()) == []


def test_an_alert_waits_for_k_of_n_windows_of_its_own_subject():
    windows = (
        {"pH": "drift", "alcohol": "ok"},
        {"pH": "ok", "alcohol": "drift"},
        {"pH": "drift", "alcohol": "ok"},
        {"pH": "ok", "alcohol": "ok"},
        {"pH": "ok", "alcohol": "drift"},
    )
    assert raised(*windows, after=2, of=3) == [("03", "pH", "drift")]


def test_windows_that_were_not_judged_are_passed_over():
    windows = {"pH": "drift"}, {"pH": "insufficient_data"}, {"pH": "drift"}
    assert raised(*windows, after=2, of=2) == [("03", "pH", "drift")]


def test_versions_do_not_count_for_each_other():
    both = pd.concat(
        [judged({"pH": "drift"}), judged({"pH": "ok"}, {"pH": "drift"}, version="2")],
        ignore_index=True,
    )
    assert raise_alerts(both, NO_MODEL, AlertSettings(after=2, of=2)) == []


def test_the_model_is_a_subject_and_an_alert_is_plain_json():
    model = judged({"all": "no_labels"}, {"all": "decayed", "red": "ok"}, subject="segment")
    alerts = raise_alerts(judged({"pH": "ok"}, {"pH": "ok"}), model, AlertSettings())
    assert json.loads(json.dumps(alerts)) == [
        {
            "window_start": "2026-01-02T00:00:00+00:00",
            "window_end": "2026-01-03T00:00:00+00:00",
            "model_version": "1",
            "subject": "model (all)",
            "verdict": "decayed",
            "value": 5.0,
            "threshold": 4.0,
            "n": 200,
            "reason": "all: because",
            "newest": True,
            "new": False,
            "told": False,
        }
    ]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"after": 3, "of": 2}, "after"),
        ({"webhook": "ftp://somewhere"}, "webhook"),
        ({"webhook": "http://127.0.0.1:abc/"}, "port that is no number"),
        ({"webhook": "http://a b/"}, "no host"),
        ({"webhook": "http://[::1/"}, "no host"),
        ({"fail_on": ["storm"]}, "fail_on"),
        ({"fial_on": []}, "fial_on"),
    ],
)
def test_wrong_settings_are_named(settings, problem):
    with pytest.raises(ValidationError, match=problem):
        AlertSettings(**settings)


def test_only_chosen_verdicts_of_the_newest_window_fail_a_run():
    windows = {"pH": "drift"}, {"pH": "drift", "alcohol": "data_quality"}
    alerts = raise_alerts(judged(*windows), NO_MODEL, AlertSettings())
    chosen = failing(alerts, AlertSettings(fail_on=("drift",)))
    assert [(a["window_start"][8:10], a["subject"]) for a in chosen] == [("02", "pH")]
    assert failing(alerts, AlertSettings()) == []


def test_what_is_new_may_be_in_a_window_that_is_not_the_newest(told):
    settings = AlertSettings()
    late = raise_alerts(judged({"pH": "drift"}, {"alcohol": "drift"}), NO_MODEL, settings)
    found = tell(late, told, settings)
    assert [alert["subject"] for alert in new_elsewhere(found)] == ["pH"]
    assert new_elsewhere(tell(late, told, settings)) == []


@pytest.fixture
def told(tmp_path):
    with ToldAlerts(f"sqlite:///{tmp_path}/told.db") as told:
        yield told


def test_a_run_without_alerts_takes_no_lock(told, tmp_path):
    assert tell([], told, AlertSettings()) == []
    assert list(tmp_path.iterdir()) == []


def test_an_alert_is_told_once(told, caplog):
    settings = AlertSettings()
    first = raise_alerts(judged({"pH": "drift"}), NO_MODEL, settings)
    assert [alert["told"] for alert in tell(first, told, settings)] == [True]
    both = raise_alerts(judged({"pH": "drift"}, {"alcohol": "drift"}), NO_MODEL, settings)
    assert [alert["subject"] for alert in told.untold(both)] == ["alcohol"]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        told_now = tell(both, told, settings)
    assert [(alert["new"], alert["told"]) for alert in told_now] == [(False, True), (True, True)]
    assert [record.getMessage() for record in caplog.records] == [
        "drift since 2026-01-02T00:00:00+00:00: alcohol: because"
    ]


def test_many_new_alerts_are_counted_in_the_log(told, caplog):
    settings = AlertSettings()
    windows = [{"pH": "drift"}] * MOST_LOGGED
    with caplog.at_level(logging.WARNING):
        tell(raise_alerts(judged(*windows), NO_MODEL, settings), told, settings)
        assert len(caplog.records) == MOST_LOGGED
        caplog.clear()
        decayed = judged(*[{"all": "decayed"}] * (MOST_LOGGED + 1), subject="segment")
        tell(raise_alerts(judged(*windows, {"pH": "drift"}), decayed, settings), told, settings)
    assert [record.getMessage() for record in caplog.records] == [
        "12 new alerts, the first since 2026-01-01T00:00:00+00:00, the last since "
        "2026-01-11T00:00:00+00:00 (decayed 11, drift 1): see the monitoring page"
    ]


def test_an_alert_is_described_by_its_subject():
    (alert,) = raise_alerts(
        judged(), judged({"all": "decayed"}, subject="segment"), AlertSettings()
    )
    assert describe(alert) == "model (all): because"
    (alert,) = raise_alerts(judged({"residual_sugar": "drift"}), NO_MODEL, AlertSettings())
    assert describe(alert) == "residual sugar: because"


@pytest.fixture
def webhook(monkeypatch, serve_webhook):
    """A server that answers with the statuses it is given, the last one for ever."""
    clock = SimpleNamespace(sleep=lambda _: None, monotonic=time.monotonic)
    monkeypatch.setattr(retrying, "time", clock)
    received, statuses = [], [200]

    def answer(body):
        received.append(json.loads(body)["alerts"])
        return statuses.pop(0) if len(statuses) > 1 else statuses[0]

    with serve_webhook(answer) as address:
        yield address, received, statuses


def acidity_alert():
    return raise_alerts(judged({"pH": "drift"}), NO_MODEL, AlertSettings())


def test_a_webhook_gets_the_new_alerts_and_a_stumble_is_forgiven(webhook, told):
    address, received, statuses = webhook
    statuses[:] = [503, 200]
    alerts = tell(acidity_alert(), told, AlertSettings(webhook=address))
    assert [alert["told"] for alert in alerts] == [True]
    assert [[alert["subject"] for alert in post] for post in received] == [["pH"], ["pH"]]
    tell(acidity_alert(), told, AlertSettings(webhook=address))
    assert len(received) == 2


@pytest.mark.parametrize(("status", "posts"), [(404, 1), (503, 3)])
def test_what_could_not_be_posted_is_told_by_the_next_run(webhook, told, caplog, status, posts):
    address, received, statuses = webhook
    statuses[:] = [status]
    untold_yet = tell(acidity_alert(), told, AlertSettings(webhook=address, attempts=3))
    assert [alert["told"] for alert in untold_yet] == [False]
    assert len(received) == posts
    assert "1 alerts could not be posted" in caplog.text
    statuses[:] = [200]
    assert tell(acidity_alert(), told, AlertSettings(webhook=address))[0]["told"]
    assert len(received) == posts + 1
