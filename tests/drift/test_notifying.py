"""What arrives on the channels, run after run."""

import logging
from datetime import timedelta

import pytest

from tests.drift.alerting import FIRST, HOUR, NOON, Service, alert
from wine_quality.drift.alerts import AlertSettings, ChannelSettings
from wine_quality.drift.incident_store import IncidentStore
from wine_quality.drift.notifying import notify

DAY = timedelta(days=1)


@pytest.fixture
def store(tmp_path):
    with IncidentStore(f"sqlite:///{tmp_path}/monitoring.db") as store:
        yield store


@pytest.fixture
def hook(serve_posts):
    """A webhook, and the settings with it as a channel."""
    service = Service()
    with serve_posts(service) as address:
        channel = ChannelSettings(name="team", url=address)
        yield service, AlertSettings(channels=(channel,), attempts=1)


def run(store, settings, *alerts, now=NOON):
    return notify(alerts, store, lambda _: "not known", settings, now)


def said(caplog):
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return lines


def test_without_a_channel_the_log_is_told_once_daily_and_at_the_end(store, caplog):
    settings = AlertSettings()
    assert [(a.new, a.sent) for a in run(store, settings, alert())] == [(True, True)]
    (line,) = said(caplog)
    assert "incident 1, version 1: pH: drift. Opened (warning): pH, since 2026-01-01" in line
    assert [(a.new, a.sent) for a in run(store, settings, alert())] == [(False, True)]
    assert said(caplog) == []
    run(store, settings, alert(), now=NOON + DAY)
    assert "Still open" in said(caplog)[0]
    run(store, settings, alert(resolved=FIRST + DAY), now=NOON + DAY + HOUR)
    assert "Resolved" in said(caplog)[0]
    run(store, settings, alert(resolved=FIRST + DAY), now=NOON + 9 * DAY)
    assert said(caplog) == []


def test_nothing_found_is_nothing_said(store, caplog):
    with caplog.at_level(logging.WARNING):
        assert run(store, AlertSettings()) == []
    assert said(caplog) == []


def test_many_incidents_at_once_are_one_line_in_the_log(store, caplog):
    year = [alert(str(k), since=FIRST + k * DAY, resolved=FIRST + k * DAY) for k in range(40)]
    run(store, AlertSettings(), *year)
    (line,) = said(caplog)
    assert "40 changes of incidents" in line
    assert len(line) < 200


def test_an_alert_of_a_known_incident_is_new_once_and_no_message(store, hook):
    service, settings = hook
    run(store, settings, alert())
    both = alert(), alert("alcohol")
    assert [a.new for a in run(store, settings, *both, now=NOON + HOUR)] == [False, True]
    assert [a.new for a in run(store, settings, *both, now=NOON + 2 * HOUR)] == [False, False]
    assert [post["event"] for post in service.received] == ["opened"]


def test_what_nobody_took_is_new_again_and_sent_by_the_next_run(store, hook, caplog):
    service, settings = hook
    service.trouble = [(503, {}, "busy")]
    assert [(a.new, a.sent) for a in run(store, settings, alert())] == [(True, False)]
    assert said(caplog)[-1] == (
        "Channel team did not take 1 message (503 busy); the next run tries again"
    )
    assert [(a.new, a.sent) for a in run(store, settings, alert())] == [(True, True)]
    assert [post["event"] for post in service.received] == ["opened"]
    assert [(a.new, a.sent) for a in run(store, settings, alert())] == [(False, True)]


def test_a_channel_that_refuses_is_left_alone_until_the_next_run(store, hook):
    service, settings = hook
    service.trouble = [(503, {}, "busy")]
    days = [alert(str(k), since=FIRST + k * DAY) for k in range(4)]
    run(store, settings, *days)
    assert len(service.bodies) == 1
    run(store, settings, *days)
    assert [post["incident"]["number"] for post in service.received] == [1, 2, 3, 4]


def test_what_the_log_alone_is_to_be_told_is_sent_by_it(store, hook):
    _, settings = hook
    high = settings.channels[0].model_copy(update={"lowest_severity": "critical"})
    settings = settings.model_copy(update={"channels": (high,)})
    assert [(a.new, a.sent) for a in run(store, settings, alert())] == [(True, True)]


def test_an_alert_that_joins_a_muted_incident_does_not_stay_new(store, hook):
    service, settings = hook
    run(store, settings, alert())
    store.act(1, "muted", "ann", "", NOON + 9 * DAY, NOON)
    both = alert(), alert("model", "decayed")
    assert [a.new for a in run(store, settings, *both, now=NOON + HOUR)] == [False, True]
    assert [a.new for a in run(store, settings, *both, now=NOON + 2 * DAY)] == [False, False]
    assert len(service.received) == 1
    run(store, settings, *both, now=NOON + 9 * DAY)
    assert service.received[-1]["event"] == "worsened"
