import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from wine_quality.drift.alerts import Alert
from wine_quality.drift.told_alerts import ToldAlerts

NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)
FOUND = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ALERT = Alert("drift", "1", "pH", "all", FOUND, FOUND, FOUND - HOUR, FOUND, None, 9, "because")
RUN = """
import sys
from wine_quality.database import locks
from wine_quality.drift import alerts
from wine_quality.drift.told_alerts import ToldAlerts
from wine_quality.errors import WineQualityError

url, webhook, patience = sys.argv[1:]
locks.PATIENCE_S = float(patience)
settings = alerts.AlertSettings(webhook=webhook, timeout=120, attempts=1)
with ToldAlerts(url) as told:
    print("begins", flush=True)
    try:
        alert = alerts.Alert.from_dict(%r)
        print([sent.sent for sent in alerts.send([alert], told, settings)], flush=True)
    except WineQualityError as error:
        print(error, flush=True)
"""


@pytest.fixture
def told(url):
    with ToldAlerts(url) as told:
        yield told


def test_what_was_sent_is_no_longer_new(told):
    others = [
        replace(ALERT, subject="alcohol"),
        replace(ALERT, verdict="data_quality"),
        replace(ALERT, model_version="2"),
    ]
    assert told.untold([ALERT, *others]) == [ALERT, *others]
    told.add([ALERT], NOON)
    assert told.untold([ALERT, *others]) == others
    elsewhere = FOUND.astimezone(timezone(HOUR))
    assert told.untold([replace(ALERT, found=elsewhere)]) == []
    assert told.untold([]) == []
    # noted by two runs: no trouble
    told.add([ALERT], NOON)


def test_late_wines_may_move_the_hour_but_a_later_change_is_new(told):
    told.add([ALERT], NOON)
    moved = replace(ALERT, found=FOUND + 5 * HOUR, since=FOUND - HOUR, resolved=FOUND + 9 * HOUR)
    assert told.untold([moved]) == []
    day = timedelta(days=1)
    later = replace(ALERT, found=FOUND + day, since=FOUND + day, since_earliest=FOUND + day)
    before = replace(ALERT, found=FOUND - day, since_earliest=FOUND - 2 * day, resolved=FOUND - day)
    assert told.untold([before, moved, later]) == [before, later]


@pytest.fixture
def slow_webhook(serve_webhook):
    """A server that keeps whoever posts waiting until it is let go; what it got."""
    posted, go = [], threading.Event()
    arrived = threading.Event()

    def answer(body):
        posted.append(body)
        arrived.set()
        go.wait(120)
        return 200

    with serve_webhook(answer) as address:
        yield address, posted, arrived, go
        go.set()


@pytest.fixture
def run(url, slow_webhook):
    """Starts a process that sends the alert."""
    started = []

    def start(patience):
        command = [sys.executable, "-c", RUN % ALERT.to_dict(), url, slow_webhook[0], str(patience)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "begins\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_of_two_runs_at_once_one_sends(run, slow_webhook, told):
    _, posted, arrived, go = slow_webhook
    first = run(patience=120)
    assert arrived.wait(120)
    # one that waits for too long says so, in one line
    (line,) = run(patience=0.2).stdout.read().splitlines()
    assert line.startswith("Another process has been sending alerts for 0 seconds")
    second = run(patience=120)
    # sending keeps nobody from writing
    told.add([replace(ALERT, subject="alcohol")], NOON)
    go.set()
    assert first.stdout.read() == second.stdout.read() == "[True]\n"
    assert len(posted) == 1


def test_a_run_that_is_killed_while_it_sends_leaves_its_alerts_to_the_next(run, slow_webhook):
    _, posted, arrived, go = slow_webhook
    first = run(patience=120)
    assert arrived.wait(120)
    first.kill()
    first.wait()
    go.set()
    assert run(patience=120).stdout.read() == "[True]\n"
    assert len(posted) == 2
