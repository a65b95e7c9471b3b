from dataclasses import replace
from datetime import timedelta

import pytest

from tests.drift.alerting import FIRST, HOUR, NOON, alert
from wine_quality.drift.alerts import AlertSettings
from wine_quality.drift.incidents import (
    GONE,
    ONSET_SLACK,
    Handling,
    Last,
    Recorded,
    follow,
    next_event,
)

DAY = timedelta(days=1)


def numbers(*alerts, known=(), now=NOON):
    return [found.incident for found in follow(known, [], alerts, now)[1]]


def one(*alerts, now=NOON):
    """The only incident of some alerts."""
    (incident,), _ = follow([], [], alerts, now)
    return incident


# Grouping


def test_alerts_that_began_together_are_one_incident_with_the_cause_first():
    error = alert("model", "decayed", FIRST - HOUR)
    shift = alert("prediction", since=FIRST - HOUR)
    pair = alert("joint", since=FIRST - HOUR)
    faults = alert("density", "data_quality", FIRST + HOUR)
    incident = one(error, shift, pair, alert("alcohol"), faults)
    subjects = [found.subject for found in incident.alerts]
    assert subjects == ["alcohol", "density", "joint", "prediction", "model"]
    assert incident.title == "alcohol: drift"
    assert incident.severity == "critical"
    assert incident.since == FIRST - HOUR


def test_what_goes_on_stands_above_what_is_over():
    incident = one(alert(resolved=FIRST + DAY), alert("model", "decayed"))
    assert [found.subject for found in incident.alerts] == ["model", "pH"]


def test_an_onset_that_lies_apart_or_another_version_is_another_incident():
    apart = 2 * HOUR + ONSET_SLACK
    assert numbers(alert(), alert("alcohol", since=FIRST + apart)) == [1, 1]
    assert numbers(alert(), alert("alcohol", since=FIRST + apart + HOUR)) == [1, 2]
    assert numbers(alert(), alert("alcohol", since=FIRST - apart - HOUR)) == [2, 1]
    assert numbers(alert(), alert("alcohol", model_version="2")) == [1, 2]


def test_a_chain_of_onsets_is_compared_with_the_first():
    steps = [alert(str(k), since=FIRST + k * 4 * HOUR) for k in range(4)]
    assert numbers(*steps) == [1, 1, 2, 2]


def test_what_is_found_later_joins_an_open_incident_and_no_closed_one():
    model = alert("model", "decayed")
    assert numbers(alert(), model, known=[one(alert())], now=NOON + DAY) == [1, 1]
    over = alert(resolved=FIRST + DAY)
    known, _ = follow([one(alert())], [], [over], NOON + DAY)
    assert numbers(over, model, known=known, now=NOON + 2 * DAY) == [1, 2]


# Finding alerts again


def test_an_alert_is_found_again_though_late_wines_have_moved_it():
    (incident,), (again,) = follow(
        [one(alert())], [], [alert(since=FIRST - HOUR, found=FIRST, reason="more")], NOON + DAY
    )
    # the hour in which it was found first
    assert again.found == alert().found
    assert (again.incident, incident.alerts[0].reason) == (1, "more")
    assert (incident.opened_at, incident.closed_at) == (NOON, None)


def test_one_that_goes_on_is_found_again_though_its_beginning_left_the_windows():
    late = alert(since=FIRST + 99 * DAY)
    assert numbers(late, known=[one(alert())]) == [1]
    # but not one that was over before
    known, _ = follow([], [], [alert(resolved=FIRST + DAY)], NOON)
    assert numbers(alert(resolved=FIRST + DAY), late, known=known) == [1, 2]


def test_it_is_over_when_all_of_its_alerts_are_and_open_again_with_one():
    both = [alert(), alert("alcohol")]
    incident = one(*both)
    half = [alert(resolved=FIRST + 5 * HOUR), both[1]]
    (incident,), _ = follow([incident], [], half, NOON + HOUR)
    assert incident.is_open
    over = [half[0], alert("alcohol", resolved=FIRST + 9 * HOUR)]
    (incident,), _ = follow([incident], [], over, NOON + 2 * HOUR)
    assert (incident.closed_at, incident.resolved) == (NOON + 2 * HOUR, FIRST + 9 * HOUR)
    (incident,), _ = follow([incident], [], over, NOON + 3 * HOUR)
    assert incident.closed_at == NOON + 2 * HOUR
    (incident,), _ = follow([incident], [], both, NOON + 4 * HOUR)
    assert incident.is_open


def test_what_a_run_no_longer_finds_is_over():
    (incident,), current = follow([one(alert())], [], [], NOON + DAY)
    assert current == []
    assert incident.resolved == NOON + DAY
    assert incident.alerts[0].reason == f"because; {GONE}"
    (again,), _ = follow([incident], [], [], NOON + 2 * DAY)
    assert again == incident


def test_two_alerts_that_have_become_one_are_followed_as_the_open_one():
    first, second = alert(resolved=FIRST + DAY), alert(since=FIRST + 2 * DAY)
    known, _ = follow([], [], [first, second], NOON)
    incidents, current = follow(known, [], [alert()], NOON + DAY)
    assert [found.incident for found in current] == [2]
    assert [incident.is_open for incident in incidents] == [False, True]


def test_what_was_sent_before_there_were_incidents_is_no_news():
    recorded = Recorded("1", "pH", "drift", FIRST + HOUR)
    (incident,), current = follow([], [recorded], [alert(), alert("alcohol")], NOON)
    assert [(found.new, found.sent) for found in current] == [(False, True), (True, False)]
    assert next_event(incident, None, "warning", AlertSettings(), NOON) == "ongoing"
    (over,), _ = follow([], [recorded], [alert(resolved=FIRST + DAY)], NOON)
    assert next_event(over, None, "warning", AlertSettings(), NOON) is None


# What is sent


def event(incident, last=None, now=NOON, lowest="warning", **settings):
    return next_event(incident, last, lowest, AlertSettings(**settings), now)


def last(event, at=NOON, severity="warning", is_sent=True):
    return Last(event, severity, at, is_sent)


def test_each_change_is_sent_once_and_what_goes_on_after_a_day():
    incident = one(alert())
    assert event(incident) == "opened"
    opened = last("opened")
    assert event(incident, opened, NOON + 23 * HOUR) is None
    # a daily run is no clock
    assert event(incident, opened, NOON + 23.9 * HOUR) == "ongoing"
    assert event(incident, opened, NOON + 24 * HOUR) == "ongoing"
    assert event(incident, opened, NOON + HOUR, remind_after_hours=1) == "ongoing"
    assert event(incident, last("ongoing", NOON + DAY), NOON + 2 * DAY) == "ongoing"
    over = replace(incident, closed_at=NOON + DAY)
    assert event(over, opened, NOON + DAY) == "resolved"
    assert event(over, last("resolved"), NOON + 9 * DAY) is None
    assert event(incident, last("resolved")) == "reopened"


def test_what_waits_is_not_doubled_but_its_end_takes_its_place():
    incident, waiting = one(alert()), last("opened", is_sent=False)
    assert event(incident, waiting, NOON + 3 * DAY) is None
    assert event(replace(incident, closed_at=NOON + DAY), waiting, NOON + DAY) == "resolved"


def test_what_was_over_when_it_was_found_is_sent_once():
    incident = one(alert(resolved=FIRST + DAY))
    assert event(incident) == "resolved"
    # a channel that is added later hears nothing of it
    assert event(incident, now=NOON + HOUR) is None


def test_a_channel_gets_what_is_severe_enough_and_hears_when_it_gets_worse():
    mild = one(alert())
    assert event(mild, lowest="error") is None
    (worse,), _ = follow([mild], [], [alert(), alert("model", "decayed")], NOON + HOUR)
    assert event(worse, last("opened"), NOON + HOUR) == "worsened"
    assert event(worse, last("worsened", severity="critical"), NOON + HOUR) is None
    # the pager, which knows nothing of it
    assert event(worse, lowest="critical", now=NOON + HOUR) == "opened"


@pytest.mark.parametrize(
    ("action", "remind", "end"), [("acknowledged", None, "resolved"), ("muted", None, None)]
)
def test_who_acknowledges_hears_of_the_end_and_who_mutes_hears_nothing(action, remind, end):
    until = NOON + 3 * DAY
    incident = replace(one(alert()), handling=Handling(action, until, "ann", "", NOON))
    opened = last("opened")
    assert event(incident, opened, NOON + 2 * DAY) == remind
    assert event(replace(incident, closed_at=NOON), opened, NOON + 2 * DAY) == end
    assert event(incident, opened, until) == "ongoing"
    assert [incident.state(NOON), incident.state(until)] == [action, "open"]


def test_an_acknowledged_incident_that_gets_worse_is_sent():
    worse = one(alert(), alert("model", "decayed"))
    handled = replace(worse, handling=Handling("acknowledged", None, "ann", "", NOON))
    assert event(handled, last("opened")) == "worsened"


def test_an_incident_is_described_in_a_line():
    incident = one(alert(), alert("alcohol", since=FIRST + HOUR))
    assert incident.describe(NOON) == (
        "1  pH: drift (warning), version 1, since 2026-01-01 00:00 UTC, 2 alerts, open"
    )
    handling = Handling("muted", NOON + DAY, "ann", "known", NOON)
    assert (
        replace(incident, handling=handling)
        .describe(NOON)
        .endswith("muted by ann until 2026-02-02 12:00 UTC: known")
    )
    over = one(alert(resolved=FIRST + DAY))
    assert "from 2026-01-01 00:00 to 2026-01-02 00:00 UTC, 1 alert, resolved" in over.describe(NOON)
