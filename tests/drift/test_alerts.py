import json

import pandas as pd
import pytest
from pydantic import ValidationError

from tests.drift.alerting import FIRST, HOUR, alert
from wine_quality.drift.alerts import (
    Alert,
    AlertSettings,
    by_subject,
    failing,
    raise_alerts,
)
from wine_quality.drift.watching import Finding

FIRST_S = int(FIRST.timestamp())


def finding(subject="pH", verdict="drift", hour=0, resolved=None) -> Finding:
    moment = FIRST_S + 3600 * hour
    ends = None if resolved is None else FIRST_S + 3600 * resolved
    return Finding(verdict, "1", subject, "red", moment + 3600, moment, moment - 3600,
                   moment + 3600, ends, 200, "because")  # fmt: skip


def judged(*windows, subject="column", version="1", value=0.5):
    """Verdicts of consecutive days; each window maps its columns (or segments) to verdicts."""
    rows = [
        {
            "window_start": pd.Timestamp(2026, 1, number, tz="UTC"),
            "window_end": pd.Timestamp(2026, 1, number + 1, tz="UTC"),
            "model_version": version,
            subject: name,
            "verdict": verdict,
            "value": value,
            "threshold": 0.1,
            "n": 200,
            "reason": "because",
        }
        for number, window in enumerate(windows, 1)
        for name, verdict in window.items()
    ]
    columns = ["window_start", "window_end", "model_version", subject, "verdict"]
    table = pd.DataFrame(rows, columns=[*columns, "value", "threshold", "n", "reason"])
    return table if subject == "segment" else table.assign(segment="all")


def raised(*windows, findings=(), value=0.5):
    """Day of the beginning, subject, verdict and day of the end of each alert."""
    alerts = raise_alerts(findings, judged(*windows, value=value))
    return [(a.since.day, a.subject, a.verdict, a.resolved and a.resolved.day) for a in alerts]


def test_what_evidence_has_found_is_an_alert():
    (found,) = raise_alerts([finding(resolved=30)], judged())
    assert found == Alert(
        "drift", "1", "pH", "red", FIRST + HOUR, FIRST, FIRST - HOUR, FIRST + HOUR,
        FIRST + 30 * HOUR, 200, "because",
    )  # fmt: skip
    assert not found.is_open
    assert raise_alerts([finding()], judged())[0].is_open


def test_a_windows_verdict_alone_alerts_nobody_where_chance_may_have_made_it():
    assert raised({"pH": "drift", "alcohol": "data_quality", "joint": "drift"}) == []


def test_what_needs_no_evidence_over_time_alerts_at_once():
    windows = {"traffic": "ok", "copies": "ok"}, {"traffic": "no_traffic", "copies": "data_quality"}
    assert raised(*windows) == [
        (2, "traffic", "no_traffic", None),
        (2, "copies", "data_quality", None),
    ]
    # absent, empty or stuck: all of the column's values
    assert raised({"pH": "data_quality"}, value=1.0) == [(1, "pH", "data_quality", None)]


def test_windows_in_a_row_are_one_alert_which_ends_with_them():
    bad, good = {"copies": "data_quality"}, {"copies": "ok"}
    assert raised(bad, bad, good, bad) == [
        (1, "copies", "data_quality", 3),
        (4, "copies", "data_quality", None),
    ]
    changed = {"traffic": "data_quality"}, {"traffic": "no_traffic"}, {"traffic": "ok"}
    assert raised(*changed) == [
        (1, "traffic", "data_quality", 2),
        (2, "traffic", "no_traffic", 3),
    ]


def test_windows_that_were_not_judged_end_nothing():
    bad = {"copies": "data_quality"}
    for unjudged in ("insufficient_data", "unfinished"):
        assert raised(bad, {"copies": unjudged}, bad) == [(1, "copies", "data_quality", None)]


def test_versions_have_alerts_of_their_own():
    both = pd.concat(
        [judged({"copies": "data_quality"}), judged({"copies": "ok"}, version="2")],
        ignore_index=True,
    )
    assert [a.model_version for a in raise_alerts([], both)] == ["1"]


def test_an_alert_of_a_version_that_was_replaced_is_over():
    ok = {"pH": "ok"}
    old, new = judged(ok, ok), judged(*[ok] * 4, version="2")
    both = pd.concat([old, new], ignore_index=True)
    # two days after its last window, not before
    (still,) = raise_alerts([finding()], both[both["window_start"].dt.day < 4])
    assert still.is_open
    (over,) = raise_alerts([finding()], both)
    assert over.resolved == FIRST + 48 * HOUR
    assert over.reason == "because; version 1 has got no wines since"
    # that others have none is no replacement
    (alone,) = raise_alerts([finding()], old)
    assert alone.is_open
    # nor is what needs no wines
    silent = judged(*[{"traffic": "no_traffic"}] * 4)
    (traffic,) = raise_alerts([], pd.concat([silent, new], ignore_index=True))
    assert traffic.is_open


def test_what_evidence_has_found_too_is_alerted_once():
    windows = {"pH": "data_quality"}
    both = raised(windows, findings=[finding(verdict="data_quality")], value=1.0)
    assert both == [(1, "pH", "data_quality", None)]
    # a drift is another matter
    assert len(raised(windows, findings=[finding()], value=1.0)) == 2


def test_alerts_come_in_the_order_in_which_they_were_found():
    findings = [finding(hour=30), finding("alcohol", hour=2)]
    windows = {"copies": "ok"}, {"copies": "data_quality"}
    assert [subject for _, subject, *_ in raised(*windows, findings=findings)] == [
        "alcohol",
        "copies",
        "pH",
    ]


@pytest.mark.parametrize("resolved", [None, FIRST + HOUR])
def test_an_alert_survives_json(resolved):
    original = alert(resolved=resolved, new=True)
    plain = json.loads(json.dumps(original.to_dict()))
    assert Alert.from_dict(plain) == original
    assert plain["open"] == original.is_open
    assert plain["since"] == "2026-01-01T00:00:00+00:00"


def test_an_alert_is_described_by_its_subject_and_since_when():
    assert alert("residual_sugar").describe() == (
        "residual sugar, since 2026-01-01 00:00 UTC: because"
    )
    over = alert(resolved=FIRST + 5 * HOUR)
    assert over.describe() == "pH, from 2026-01-01 00:00 to 2026-01-01 05:00 UTC: because"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"false_alerts_per_month": 0}, "false_alerts_per_month"),
        ({"channels": [{"name": "team", "url": "somewhere"}]}, "a channel's url is like slack"),
        ({"channels": [{"name": "a team", "url": "json://x"}]}, "channels.0.name"),
        ({"channels": [{"name": "team", "url": "json://x", "lowest_severity": "low"}]}, "lowest"),
        ({"channels": [{"name": "log", "url": "json://x"}]}, "taken is log"),
        ({"channels": 2 * [{"name": "team", "url": "json://x"}]}, "taken is team"),
        ({"remind_after_hours": 0}, "remind_after_hours"),
        ({"fail_on": ["storm"]}, "fail_on"),
        ({"fial_on": []}, "fial_on"),
    ],
)
def test_wrong_settings_are_named(settings, problem):
    with pytest.raises(ValidationError, match=problem):
        AlertSettings(**settings)


def test_only_what_is_open_and_new_and_chosen_fails_a_run():
    alerts = [
        alert(new=True),
        alert("alcohol", new=True, resolved=FIRST + HOUR),
        alert("density"),
        alert("chlorides", "data_quality", new=True),
    ]
    assert failing(alerts, AlertSettings(fail_on=("drift",))) == alerts[:1]
    assert failing(alerts, AlertSettings()) == []


def test_verdicts_on_columns_and_on_the_model_are_filed_by_subject():
    table = by_subject(judged({"pH": "ok"}), judged({"red": "decayed"}, subject="segment"))
    assert table["subject"].tolist() == ["pH", "model (red)"]
