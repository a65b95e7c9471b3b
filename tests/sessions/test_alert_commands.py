"""`kedro alerts`: what is open, acknowledging and muting, trying the channels."""

import getpass
import json
import shutil
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import yaml

from wine_quality.drift.alerts import Alert, AlertSettings
from wine_quality.drift.incident_store import IncidentStore
from wine_quality.drift.notifying import notify

PROJECT = Path(__file__).parents[2]
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)


def alert(subject, verdict="drift", resolved=None):
    at = {"found": SINCE, "since": SINCE, "since_earliest": SINCE, "since_latest": SINCE}
    return Alert(verdict, "3", subject, "all", **at, resolved=resolved, n=50, reason="it moved")


@pytest.fixture
def store(fresh_root):
    """An open incident of two alerts, and one that is over."""
    with IncidentStore(f"sqlite:///{fresh_root}/inference_log.db") as store:
        over = alert("traffic", "no_traffic", SINCE + timedelta(days=1))
        notify([over], store, lambda _: "", AlertSettings(), NOW)
        both = [over, alert("model", "decayed"), alert("pH")]
        notify(both, store, lambda _: "", AlertSettings(), NOW + timedelta(hours=1))
        yield store


@pytest.fixture
def alerts(project_command):
    """Runs `kedro alerts …`; gives status and output."""
    return partial(project_command, "alerts")


OPEN = "2  pH: drift (critical), version 3, since 2026-01-01 00:00 UTC, 2 alerts"


def test_open_incidents_are_listed_and_the_others_on_request(store, alerts):
    assert alerts("list") == (0, f"{OPEN}, open\n")
    status, output = alerts("list", "--all")
    assert status == 0
    over, still = output.splitlines()
    assert over == (
        "1  traffic: no traffic (critical), version 3, from 2026-01-01 00:00 to 2026-01-02 00:00 "
        "UTC, 1 alert, resolved"
    )
    assert still == f"{OPEN}, open"


def test_without_incidents_the_list_says_so(alerts):
    assert alerts("list") == (0, "No incident is open.\n")


def test_an_incident_is_shown_with_all_that_happened(store, alerts):
    alerts("ack", "2", "--note", "a new vintage", "--by", "ann")
    status, output = alerts("show", "2")
    lines = output.splitlines()
    assert (status, lines[0]) == (0, f"{OPEN}, acknowledged by ann: a new vintage")
    assert lines[1:3] == [
        "  drift: pH, since 2026-01-01 00:00 UTC: it moved",
        "  decayed: model, since 2026-01-01 00:00 UTC: it moved",
    ]
    assert lines[3].endswith("UTC acknowledged by ann: a new vintage")
    assert lines[4].startswith("  2026-02-01 13:00 UTC opened, channel log: sent 20")


def test_who_acts_is_noted_and_the_last_action_counts(store, alerts):
    user = getpass.getuser()
    assert alerts("ack", "2") == (0, f"{OPEN}, acknowledged by {user}\n")
    status, output = alerts("mute", "2", "--until", "2199-12-31", "--note", "known")
    assert (status, output) == (0, f"{OPEN}, muted by {user} until 2199-12-31 00:00 UTC: known\n")
    assert alerts("list")[1] == output


def test_a_user_without_a_name_may_act(store, alerts, monkeypatch):
    def fail():
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", fail)
    assert alerts("ack", "2") == (0, f"{OPEN}, acknowledged by somebody\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "9"), "Error: There is no incident 9: 'kedro alerts list' names them."),
        (("ack", "1"), "Error: Incident 1 is over since 2026-01-02 00:00 UTC"),
        (("mute", "2", "--until", "2020-01-01"), "Error: 2020-01-01 00:00 UTC has passed"),
        (("test",), "Error: There is no channel: add one to monitoring.alerts.channels"),
    ],
)
def test_a_mistake_is_one_line(store, alerts, arguments, message):
    status, output = alerts(*arguments)
    assert status == 1
    assert output.startswith(message)
    assert len(output.splitlines()) == 1


def test_an_option_that_is_missing_or_no_date_is_named(alerts):
    assert "Missing option '--until'" in alerts("mute", "2")[1]
    assert "'tomorrow' does not match" in alerts("mute", "2", "--until", "tomorrow")[1]


def test_each_channel_is_tried_and_says_what_became_of_it(
    serve_posts, alerts, fresh_root, tmp_path, monkeypatch
):
    received = []

    def answer(headers, body):
        received.append(json.loads(body)["event"])
        is_signed = "X-Wine-Quality-Signature-256" in headers
        return (200, {}, "") if is_signed else (403, {}, "invalid_token")

    # a project with channels of its own
    shutil.copytree(PROJECT / "conf", tmp_path / "conf")
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path)
    with serve_posts(answer) as address:
        monkeypatch.setenv("TEAM_HOOK", address)
        channels = [
            {"name": "team", "url": "$TEAM_HOOK", "secret": "a key"},
            {"name": "pager", "url": address, "lowest_severity": "critical"},
            {"name": "chat", "url": "$NOT_SET_ANYWHERE"},
        ]
        file = tmp_path / "conf" / "test" / "parameters_monitoring.yml"
        file.write_text(yaml.safe_dump({"monitoring": {"alerts": {"channels": channels}}}))
        status, output = alerts("test")
    assert output.splitlines() == [
        "team: sent",
        "pager: not sent (403 invalid_token)",
        "chat: not sent (the environment variable NOT_SET_ANYWHERE is not set)",
    ]
    assert status == 1
    assert received == ["test", "test"]
