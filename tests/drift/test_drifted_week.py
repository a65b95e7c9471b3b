"""A simulated week with three drifts, monitored every six hours, from the channels' side."""

import importlib.util
import json
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.drift.alerting import Service, Slack
from wine_quality.drift.alerts import AlertSettings, ChannelSettings, raise_alerts
from wine_quality.drift.incident_store import IncidentStore
from wine_quality.drift.notifying import notify
from wine_quality.drift.profiles import HOUR_S, count
from wine_quality.drift.watching import find_changes

pytestmark = pytest.mark.slow

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "simulated_week.py"
SEED = 20_260_301
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/"
START = datetime(2026, 1, 1, tzinfo=UTC)
STEP_H = 6


@pytest.fixture(scope="module")
def week():
    """Counts by hour of the week of `conf/week`, and the reference."""
    spec = importlib.util.spec_from_file_location("simulated_week", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulated_week"] = module
    spec.loader.exec_module(module)
    simulation = module.read_parameters().serving_simulation
    model, reference = module.fit(SEED)
    sent = module.send(simulation, SEED)
    profile = count(module.answer(model, sent), reference, HOUR_S)
    del sys.modules["simulated_week"]
    return module.NO_VERDICTS, profile, reference


def test_what_arrives_in_a_drifted_week(week, serve_posts, reroute, tmp_path):
    no_verdicts, profile, reference = week
    hook, slack, arrived = Service(), Slack(), []

    def answer(headers, body):
        return (hook if b'"version"' in body else slack)(headers, body)

    with (
        serve_posts(answer) as address,
        IncidentStore(f"sqlite:///{tmp_path}/monitoring.db") as store,
    ):
        reroute(address)
        channels = (
            ChannelSettings(name="team", url="https://alerts.example/wines"),
            ChannelSettings(name="chat", url=SLACK, lowest_severity="critical"),
        )
        settings, first = AlertSettings(channels=channels), int(profile.starts[0])
        for hour in range(STEP_H, 7 * 24 + 1, STEP_H):
            seen = profile.between(first, first + hour * HOUR_S)
            findings = find_changes({"1": seen}, {"1": reference}, 1.0)
            now = START + timedelta(hours=hour)
            notify(raise_alerts(findings, no_verdicts), store, lambda _: "", settings, now)
            new = hook.received[len(arrived) :]
            arrived += [(now, post["event"], post["incident"]) for post in new]
    assert [(f"{now:%d %H}", event, incident["title"]) for now, event, incident in arrived] == [
        ("02 18", "opened", "alcohol: drift"),
        # the error, which drags the predictions along
        ("03 12", "worsened", "alcohol: drift"),
        ("04 12", "ongoing", "alcohol: drift"),
        ("04 12", "opened", "pH: drift"),
        ("04 12", "opened", "volatile acidity: drift"),
        ("05 12", "ongoing", "alcohol: drift"),
        ("05 12", "resolved", "pH: drift"),
        ("05 12", "ongoing", "volatile acidity: drift"),
        ("05 18", "resolved", "alcohol: drift"),
        ("05 18", "resolved", "volatile acidity: drift"),
        # the tasters become stricter within two days: the model's alert is open again
        ("06 12", "reopened", "alcohol: drift"),
        ("07 12", "ongoing", "alcohol: drift"),
    ]
    by_incident = defaultdict(list)
    for now, event, incident in arrived:
        by_incident[incident["number"]].append((now, event))
        assert len(json.dumps(incident)) < 10_000
    for changes in by_incident.values():
        events = [event for _, event in changes]
        assert events[0] == "opened"
        assert events.count("opened") == 1
        assert events.count("resolved") == 1
        for (before, _), (now, event) in pairwise(changes):
            assert event != "ongoing" or now - before >= timedelta(days=1)
    # the chat is for what is critical: the first incident, from when it was
    assert [part.split(" (")[0] for part in said_by(slack)] == [
        *("Still open", "Still open", "Still open", "Resolved", "Open again", "Still open"),
    ]


def said_by(slack):
    return [post["attachments"][0]["text"] for post in slack.received]
