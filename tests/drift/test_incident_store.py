"""What the database keeps, on SQLite and PostgreSQL: several runs at once, and killed ones."""

import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.drift.alerting import FIRST, HOUR, NOON, Service, alert
from wine_quality.drift.alerts import AlertSettings, ChannelSettings
from wine_quality.drift.channels import Channel, ChannelError
from wine_quality.drift.incident_store import IncidentStore
from wine_quality.drift.notifying import notify
from wine_quality.drift.store_schema import INCIDENT_ALERTS, NOTIFICATIONS
from wine_quality.errors import WineQualityError

DAY = timedelta(days=1)
LOG = {"log": "warning"}
RUN = """
import sys
from wine_quality.database import locks
from wine_quality.drift.alerts import Alert, AlertSettings, ChannelSettings
from wine_quality.drift.incident_store import IncidentStore
from wine_quality.drift.notifying import notify
from wine_quality.errors import WineQualityError

url, webhook, patience = sys.argv[1:]
locks.PATIENCE_S = float(patience)
channel = ChannelSettings(name="team", url=webhook)
settings = AlertSettings(channels=(channel,), timeout=120, attempts=1)
with IncidentStore(url) as store:
    print("begins", flush=True)
    try:
        alerts = [Alert.from_dict(%r)]
        found = notify(alerts, store, lambda _: "not known", settings)
        print([(alert.new, alert.sent) for alert in found], flush=True)
    except WineQualityError as error:
        print(error, flush=True)
"""


@pytest.fixture
def store(url):
    with IncidentStore(url) as store:
        yield store


def follow(store, *alerts, now=NOON, channels=LOG):
    return store.follow(alerts, channels, AlertSettings(), now)


def test_incidents_are_kept_as_they_are(store):
    alerts = [alert(resolved=FIRST + DAY), alert("copies", "data_quality", certain=True)]
    assert [found.incident for found in follow(store, *alerts)] == [1, 1]
    (incident,) = store.incidents()
    assert (incident.title, incident.opened_at, incident.closed_at) == (
        "copies: data quality", NOON, None,
    )  # fmt: skip
    kept = {found.subject: replace(found, incident=None) for found in incident.alerts}
    assert kept == {found.subject: found for found in alerts}
    # seen again, and over
    over = [alerts[0], replace(alerts[1], resolved=FIRST + DAY)]
    follow(store, *over, now=NOON + HOUR)
    assert store.incident(1).closed_at == NOON + HOUR
    assert len(store.incidents()) == 1


def test_what_is_owed_is_owed_until_it_is_marked(store):
    follow(store, alert())
    (owed,) = store.owed("log")
    assert (owed.event, owed.incident.number, owed.sent_at) == ("opened", 1, None)
    store.mark_refused([owed], "503 too busy")
    follow(store, alert(), now=NOON + HOUR)
    (again,) = store.owed("log")
    assert (again.identifier, again.failure) == (owed.identifier, "503 too busy")
    store.mark_sent([again], NOON + HOUR)
    assert store.owed("log") == []
    follow(store, alert(), now=NOON + 2 * DAY)
    assert [(n.event, n.sent_at, n.failure) for n in store.notifications(1)] == [
        ("opened", NOON + HOUR, None),
        ("ongoing", None, None),
    ]
    # it ends before anybody took the reminder
    follow(store, alert(resolved=FIRST + DAY), now=NOON + 3 * DAY)
    assert [n.event for n in store.owed("log")] == ["resolved"]
    assert store.notifications(1)[-1].describe() == (
        "2026-02-04 12:00 UTC resolved, channel log: not sent yet"
    )


def test_a_channel_that_is_gone_is_owed_nothing_and_a_new_one_hears_what_is_open(store):
    channels = {"log": "warning", "team": "warning", "pager": "critical"}
    follow(store, alert(), channels=channels)
    assert [len(store.owed(name)) for name in channels] == [1, 1, 0]
    store.mark_sent(store.owed("log"), NOON)
    store.settle(lambda _, takers: bool(takers), NOON)
    follow(store, alert(), now=NOON + HOUR, channels={"log": "warning", "new": "warning"})
    assert store.owed("team") == []
    assert [n.event for n in store.owed("new")] == ["ongoing"]


def test_who_is_heard_settles_what_is_new(store):
    follow(store, alert())
    assert store.settle(lambda *_: False, NOON) == set()
    assert follow(store, alert())[0].new
    assert store.settle(lambda *_: True, NOON) == {1}
    assert not follow(store, alert())[0].new


def test_a_person_acknowledges_and_mutes(store):
    follow(store, alert())
    done = store.act(1, "acknowledged", "ann", "known", None, NOON)
    assert done.handling.describe() == "acknowledged by ann: known"
    store.act(1, "muted", "bob", "", NOON + DAY, NOON)
    assert [h.describe() for h in store.handlings(1)] == [
        "acknowledged by ann: known",
        "muted by bob until 2026-02-02 12:00 UTC",
    ]
    assert store.incident(1).state(NOON) == "muted"
    with pytest.raises(WineQualityError, match=r"2026-01-31 12:00 UTC has passed"):
        store.act(1, "muted", "bob", "", NOON - DAY, NOON)
    with pytest.raises(WineQualityError, match="no incident 2: 'kedro alerts list'"):
        store.act(2, "muted", "bob", "", None, NOON)
    follow(store, alert(resolved=FIRST + DAY))
    with pytest.raises(WineQualityError, match="Incident 1 is over since 2026-01-02 00:00 UTC"):
        store.act(1, "muted", "bob", "", None, NOON)


def test_a_change_that_cannot_be_written_whole_is_not_written(store, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("wine_quality.drift.incident_store._owe", fail)
    with pytest.raises(ZeroDivisionError):
        follow(store, alert())
    assert store.incidents() == []


@pytest.fixture
def slow_webhook(serve_posts):
    """A server that keeps a post waiting until it is let go; what it got."""
    service, go, arrived = Service(), threading.Event(), threading.Event()

    def answer(headers, body):
        answered = service(headers, body)
        arrived.set()
        go.wait(120)
        return answered

    with serve_posts(answer) as address:
        yield address, service.received, arrived, go
        go.set()


@pytest.fixture
def run(url, slow_webhook):
    """Starts a process that sends the alert."""
    started = []

    def start(patience):
        script = RUN % alert().to_dict()
        command = [sys.executable, "-c", script, url, slow_webhook[0], str(patience)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "begins\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_of_two_runs_at_once_one_sends(run, slow_webhook, store):
    _, received, arrived, go = slow_webhook
    first = run(patience=120)
    assert arrived.wait(120)
    # one that waits for too long says so, in one line
    (line,) = run(patience=0.2).stdout.read().splitlines()
    assert line.startswith("Another process has been sending alerts for 0 seconds")
    second = run(patience=120)
    # sending keeps nobody from writing
    store.act(1, "acknowledged", "ann", "", None, NOON)
    go.set()
    assert first.stdout.read() == "[(True, True)]\n"
    assert second.stdout.read() == "[(False, True)]\n"
    assert len(received) == 1


def test_a_run_that_is_killed_while_it_sends_leaves_its_messages_to_the_next(run, slow_webhook):
    """At least once: the service took the message, and nobody could note it."""
    _, received, arrived, go = slow_webhook
    first = run(patience=120)
    assert arrived.wait(120)
    first.kill()
    first.wait()
    go.set()
    assert run(patience=120).stdout.read() == "[(True, True)]\n"
    assert [post["event"] for post in received] == ["opened", "opened"]
    # by which a reader knows that it is the same
    assert received[0]["notification"] == received[1]["notification"]


def test_a_run_that_dies_between_deciding_and_sending_loses_nothing(store, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    sent = []
    monkeypatch.setattr(Channel, "send", die)
    with pytest.raises(Killed):
        notify([alert()], store, lambda _: "", AlertSettings())
    monkeypatch.setattr(Channel, "send", lambda _, messages, __: sent.append(messages[0].summary))
    (found,) = notify([alert()], store, lambda _: "", AlertSettings())
    assert (found.new, found.sent) == (True, True)
    notify([alert()], store, lambda _: "", AlertSettings())
    assert [summary.split(" ")[0] for summary in sent] == ["Opened"]


def test_of_a_channel_that_refuses_the_others_know_nothing(store, monkeypatch):
    channels = tuple(ChannelSettings(name=name, url="json://x") for name in ("one", "two"))

    def refuse(self, *_):
        if self.name == "one":
            raise ChannelError("503 busy", may_pass=False)

    monkeypatch.setattr(Channel, "send", refuse)
    (found,) = notify([alert()], store, lambda _: "", AlertSettings(channels=channels))
    assert found.sent
    with store.transaction() as connection:
        c = NOTIFICATIONS.c
        rows = connection.execute(sa.select(c.channel, c.sent_at, c.failure)).all()
        assert [(row.channel, row.sent_at is None, row.failure) for row in rows] == [
            ("log", False, None),
            ("one", True, "503 busy"),
            ("two", False, None),
        ]
        assert connection.scalar(sa.select(INCIDENT_ALERTS.c.sent_at)) is not None
