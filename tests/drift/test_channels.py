"""Channels against servers that behave as the services document."""

import hashlib
import hmac
import json
import logging
import time
from datetime import timedelta
from types import SimpleNamespace

import pandas as pd
import pytest

from tests.drift.alerting import FIRST, HOUR, NOON, PagerDuty, Service, Slack, Teams, alert
from wine_quality.drift.alerts import AlertSettings, ChannelSettings
from wine_quality.drift.channels import MOST_MESSAGES, ChannelError, open_channels
from wine_quality.drift.incident_store import Notification
from wine_quality.drift.incidents import follow
from wine_quality.drift.messages import MOST_MEMBERS, error_since, message_of
from wine_quality.drift.notifying import try_channels
from wine_quality.system import retrying

SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/"
TEAMS = "workflow://prod.azure.com/643e69f83c8944438d68119179a10a64/signature/"
PAGER = f"pagerduty://{32 * 'a'}@key/source/component"


def message(*alerts, event="opened", **settings):
    (incident,), _ = follow([], [], alerts or [alert()], NOON)
    owed = Notification(1, incident, "team", event, NOON, None, None)
    return message_of(owed, lambda _: "not known", AlertSettings(**settings))


@pytest.fixture
def pauses(monkeypatch):
    """Does not wait between tries; gives for how long it would have."""
    waited = []
    clock = SimpleNamespace(sleep=waited.append, monotonic=time.monotonic)
    monkeypatch.setattr(retrying, "time", clock)
    return waited


@pytest.fixture
def connect(serve_posts, reroute, pauses):
    """Opens the only channel of a url, whose requests come to a service of the tests."""
    with_server = []

    def open_one(service, url, **given):
        server = serve_posts(service)
        address = server.__enter__()
        with_server.append(server)
        reroute(address)
        settings = AlertSettings(channels=(ChannelSettings(name="team", url=url, **given),))
        return open_channels(settings)[1]

    yield open_one
    for server in with_server:
        server.__exit__(None, None, None)


def send(channel, *messages, **settings):
    channel.send(messages or [message()], AlertSettings(**settings))


def many(count):
    """An incident of so many alerts with long reasons."""
    return message(*(alert(f"column_{k:03}", reason="x" * 5_000) for k in range(count)))


# What services take


def test_slack_is_sent_what_it_takes(connect):
    service = Slack()
    channel = connect(service, SLACK)
    send(channel)
    send(channel, many(240))
    first, long = service.received
    (part,) = first["attachments"]
    assert part["title"] == "Wine quality incident 1, version 1: pH: drift"
    assert part["text"].startswith("Opened (warning): pH, since 2026-01-01 00:00 UTC: because")
    assert "more" in long["attachments"][-1]["text"]
    assert len(service.bodies[1]) < 10_000


def test_slacks_own_address_is_slack_and_no_json_webhook(connect):
    service = Slack()
    send(connect(service, "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXr"))
    assert service.received[0]["attachments"]


def test_teams_is_sent_a_card_of_the_size_that_it_takes(connect):
    service = Teams()
    channel = connect(service, TEAMS)
    send(channel, many(240))
    (post,) = service.received
    assert len(service.bodies[0]) < 5_000
    parts = post["attachments"][0]["content"]["body"]
    (body,) = (part for part in parts if part.get("id") == "body")
    assert body["text"].startswith("Opened")
    assert "Wine quality incident 1, version 1: column 000: drift" in json.dumps(parts)


def test_a_pager_is_sent_what_it_takes(connect):
    service = PagerDuty()
    channel = connect(service, PAGER)
    send(channel, message(alert("model", "decayed")))
    send(channel, many(240))
    severe, mild = (post["payload"] for post in service.received)
    assert (severe["severity"], mild["severity"]) == ("critical", "warning")
    assert severe["summary"].startswith("Wine quality incident 1, version 1: model: decayed")
    assert "Opened (warning): column 000" in mild["summary"]


def test_messages_about_an_incident_have_one_title(connect):
    """Services that open and close incidents of their own know it again by the title."""
    both = message(alert(), alert("alcohol", since=FIRST - HOUR), event="ongoing")
    over = message(alert(resolved=FIRST + HOUR), event="resolved")
    assert message().title == over.title == "Wine quality incident 1, version 1: pH: drift"
    assert over.is_over
    assert not both.is_over


def test_messages_at_once_are_one_beyond_a_few(connect):
    service = Slack()
    channel = connect(service, SLACK)
    assert channel.batches(MOST_MESSAGES) == [slice(k, k + 1) for k in range(MOST_MESSAGES)]
    assert channel.batches(MOST_MESSAGES + 1) == [slice(MOST_MESSAGES + 1)]
    send(channel, *[many(30) for _ in range(240)])
    (post,) = service.received
    text = json.dumps(post)
    assert "Wine quality: 240 changes of incidents" in text
    assert "incident 1, version 1: column 000: drift. Opened" in text
    assert len(text) < 10_000


# What they refuse


def test_a_refusal_is_passed_on_in_the_services_words(connect, pauses):
    service = Service(trouble=[(400, {}, "no_text")])
    with pytest.raises(ChannelError, match=r"^400 no_text$"):
        send(connect(service, SLACK))
    assert len(service.bodies) == 1
    page = f"<html><h1>Not here</h1> {300 * 'x'}</html>"
    service.trouble = [(404, {}, page)]
    with pytest.raises(ChannelError) as caught:
        send(connect(service, "https://alerts.example/wines"))
    assert str(caught.value).startswith("404 Not here xxx")
    assert len(str(caught.value)) <= 204
    assert pauses == []


@pytest.mark.parametrize("url", [SLACK, TEAMS, "https://alerts.example/wines"])
def test_who_asks_to_wait_is_waited_for(connect, pauses, url):
    service = Service(trouble=[(429, {"Retry-After": "7"}, "slow down")])
    service.judge = lambda _: (200, "ok")
    send(connect(service, url))
    assert pauses == [7.0]
    assert len(service.bodies) == 2


@pytest.mark.parametrize("url", [SLACK, "https://alerts.example/wines"])
def test_nobody_is_waited_for_beyond_patience(connect, pauses, url):
    service = Service(trouble=[(429, {"Retry-After": "3600"}, "slow down")])
    with pytest.raises(ChannelError, match=r"^429 slow down$"):
        send(connect(service, url), patience=60)
    assert pauses == []
    assert len(service.bodies) == 1


def test_a_server_that_stumbles_is_tried_again_and_given_up_in_the_end(connect, pauses):
    service = Service(trouble=[(503, {}, "busy")] * 4)
    channel = connect(service, "https://alerts.example/wines")
    with pytest.raises(ChannelError, match=r"^503 busy$"):
        send(channel, attempts=3)
    assert pauses == [1.0, 2.0]
    send(channel, attempts=3)
    assert len(service.received) == 1


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/s3cret", "json://127.0.0.1:9/s3cret", "http://a b/s3cret"]
)
def test_an_address_that_nobody_answers_at_is_not_shown(url, pauses, caplog):
    settings = AlertSettings(channels=(ChannelSettings(name="team", url=url),), attempts=2)
    with caplog.at_level(logging.DEBUG, "wine_quality"):
        ((name, why),) = try_channels(settings)
    assert name == "team"
    assert why.startswith(("nothing answers at its address", "its address cannot be used"))
    assert "s3cret" not in caplog.text + why


def test_a_mail_server_that_is_away_is_told_in_apprises_words(pauses):
    url = "mailto://wine:s3cret@127.0.0.1:9?from=a@example.org&to=b@example.org"
    settings = AlertSettings(channels=(ChannelSettings(name="mail", url=url),), attempts=2)
    ((_, why),) = try_channels(settings)
    assert why == 'Connection error while submitting email to "127.0.0.1"'
    assert pauses == [1.0]


# Settings


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("$NOT_SET_ANYWHERE", "the environment variable NOT_SET_ANYWHERE is not set"),
        ("https://x/$", "a dollar sign without a name"),
        ("ftp://somewhere", "its url with the scheme 'ftp' is none that apprise knows"),
        ("slack://T1/s3cret", "its url with the scheme 'slack' is none"),
    ],
)
def test_a_channel_with_a_mistake_says_so_and_the_others_work(url, why, serve_posts):
    service = Service()
    with serve_posts(service) as address:
        channels = (ChannelSettings(name="odd", url=url), ChannelSettings(name="ok", url=address))
        (odd, said), fine = try_channels(AlertSettings(channels=channels))
    assert odd == "odd"
    assert why in said
    assert "s3cret" not in said
    assert fine == ("ok", None)
    assert service.received[0]["event"] == "test"


def test_addresses_and_secrets_come_from_the_environment(monkeypatch, serve_posts):
    service = Service()
    with serve_posts(service) as address:
        monkeypatch.setenv("TEAM_HOOK", address)
        monkeypatch.setenv("TEAM_KEY", "a key")
        channel = ChannelSettings(name="team", url="$TEAM_HOOK", secret="$TEAM_KEY")
        send(open_channels(AlertSettings(channels=(channel,)))[1])
    expected = hmac.new(b"a key", service.bodies[0], hashlib.sha256).hexdigest()
    assert service.headers[0]["X-Wine-Quality-Signature-256"] == f"sha256={expected}"


# What is said


def test_a_webhook_gets_json_with_a_version(serve_posts):
    service = Service()
    with serve_posts(service) as address:
        channel = ChannelSettings(name="team", url=address)
        open_one = open_channels(AlertSettings(channels=(channel,)))[1]
        send(open_one, message(page="https://x/monitoring.html"), many(240))
        send(open_one, message(page="https://x/monitoring.html"))
    assert "X-Wine-Quality-Signature-256" not in service.headers[0]
    post = service.received[-1]
    assert (post["version"], post["notification"], post["event"]) == (2, 1, "opened")
    incident = post["incident"]
    assert incident["page"] == "https://x/monitoring.html"
    assert incident["error"] == "not known"
    assert (incident["open"], incident["severity"], incident["since"]) == (
        True, "warning", "2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    # a message is no place for what the message itself changes
    assert not {"new", "sent"} & incident["alerts"][0].keys()


def test_json_is_bounded(serve_posts):
    service = Service()
    with serve_posts(service) as address:
        channel = ChannelSettings(name="team", url=address)
        send(open_channels(AlertSettings(channels=(channel,)))[1], many(240))
    (post,) = service.received
    assert post["incident"]["alerts_in_all"] == 240
    assert len(post["incident"]["alerts"]) == MOST_MEMBERS
    assert len(service.bodies[0]) < 20_000


def test_a_message_says_what_since_when_how_sure_the_cost_and_what_to_do():
    text = message(alert(), alert("prediction"), page="https://x/page").text(9_999)
    assert text.splitlines() == [
        "Opened (warning): pH, since 2026-01-01 00:00 UTC: because",
        "Since: 2026-01-01 00:00 UTC; the onset is between 2025-12-31 23:00 and 2026-01-01 01:00 "
        "with 90 %",
        "Sure: 200 wines; false alerts, of all that is watched together: at most 1 in 30 days",
        "Error: not known",
        "To do: see whether the wines or the measuring have changed; if the wines have, label some "
        "of them and run 'kedro run --pipeline retraining'",
        "Page: https://x/page",
        "With it, 1 more alert (prediction):",
        "- drift: prediction, since 2026-01-01 00:00 UTC: because",
    ]
    over = message(alert(resolved=FIRST + HOUR), event="resolved").text(9_999)
    assert over.startswith("Resolved (warning): pH, from 2026-01-01 00:00 to 2026-01-01 01:00 UTC")
    assert "To do" not in over
    seen = message(alert("copies", "data_quality", certain=True)).text(9_999)
    assert "Sure: seen directly in 200 wines, nothing is estimated" in seen


@pytest.mark.parametrize("longest", [160, 1_000, 5_000, 35_000])
def test_a_message_is_no_longer_than_a_channel_takes(longest):
    text = many(240).text(longest)
    assert len(text) <= longest
    assert text.startswith("Opened (warning): column 000")
    if longest > 1_000:
        shown = text.count("- drift: ")
        assert text.endswith(f"… and {239 - shown} more")


def test_the_log_has_a_line_an_incident(caplog):
    log = open_channels(AlertSettings())[0]
    with caplog.at_level(logging.WARNING):
        send(log)
        send(log, many(240))
        send(log, message(), many(240))
    first, long, both = (record.getMessage() for record in caplog.records)
    assert first == (
        "Wine quality incident 1, version 1: pH: drift. Opened (warning): pH, since 2026-01-01 "
        "00:00 UTC: because"
    )
    assert "…; With it, 239 more alerts (column 001, column 002, " in long
    assert len(long) < 700
    assert both == (
        "Wine quality: 2 changes of incidents. 2 changes of incidents at once; 'kedro alerts list' "
        "shows what is open"
    )


def verdicts(*days, version="1", segment="all", verdict="ok"):
    """Days from `FIRST` on, each with its labelled wines and mean absolute error."""
    return pd.DataFrame(
        [
            {
                "window_start": pd.Timestamp(FIRST) + pd.Timedelta(days=k),
                "window_end": pd.Timestamp(FIRST) + pd.Timedelta(days=k + 1),
                "model_version": version,
                "segment": segment,
                "verdict": verdict,
                "n": n,
                "mae": mae,
                "reference_mae": 0.4,
            }
            for k, (n, mae) in enumerate(days)
        ]
    )


def test_the_cost_is_the_error_of_the_incidents_own_windows():
    # not its version, not all wines, labels that are a selection; before it, two of its own, one
    # without labels, after it
    table = pd.concat(
        [
            verdicts((9, 9.0), (9, 9.0), version="2"),
            verdicts((9, 9.0), (9, 9.0), segment="red"),
            verdicts((9, 9.0), (9, 9.0), verdict="selected_labels"),
            verdicts((9, 9.0), (100, 0.5), (300, 0.7), (0, float("nan")), (9, 9.0)),
        ]
    )
    began, ended = FIRST + timedelta(days=1, hours=3), FIRST + timedelta(days=4)
    (incident,), _ = follow([], [], [alert(since=began, resolved=ended)], NOON)
    assert error_since(table)(incident) == (
        "mean absolute error 0.650 points of quality, against 0.400 in the reference "
        "(400 labelled wines)"
    )
    assert error_since(table[table["n"] == 0])(incident) == (
        "not known, no wine since then has its ground truth yet"
    )
