from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from wine_quality.drift.alerts import Alert
from wine_quality.modelling.registry import RegisteredVersion
from wine_quality.retraining.decision import DecisionSettings, PastRetraining, decide_retraining
from wine_quality.retraining.decision_store import INTERRUPTED, DecisionStore

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CHAMPION = RegisteredVersion("wine-quality", "3", "run", NOW - 10 * DAY, {})
LABELS = pd.DataFrame({"event_time": [NOW - k * DAY / 100 for k in range(600)]})
PLAIN = {
    "force": False,
    "least_concept": 0.05,
    "least_drift_labels": 500,
    "oldest_days": None,
    "least_labels": 200,
    "cool_down_hours": 24,
    "most_in_vain": 3,
}


def alert(verdict, subject="alcohol", since=NOW - 6 * DAY, version="3", resolved=None):
    return Alert(
        verdict=verdict,
        model_version=version,
        subject=subject,
        segment="all",
        found=NOW,
        since=since,
        since_earliest=since,
        since_latest=since,
        resolved=resolved,
        n=100,
        reason="so",
    )


def judged(verdict="decayed", concept=0.2, version="3"):
    """The champion's two newest windows; the one before was fine."""
    return pd.DataFrame(
        {
            "window_end": [NOW - DAY, NOW],
            "model_version": version,
            "segment": "all",
            "verdict": ["ok", verdict],
            "concept": [0.0, concept],
        }
    )


def decide(
    alerts=(), verdicts=None, labels=LABELS, past=(), champion=CHAMPION, sources=(), **changes
):
    settings = DecisionSettings(**PLAIN | changes)
    table = judged("ok") if verdicts is None else verdicts
    return decide_retraining(champion, alerts, table, labels, past, settings, NOW, sources)


def test_simulated_traffic_asks_for_another_model_only_where_its_wines_may_train_one():
    apart = "3 (simulation)"
    drifted = [alert("drift", version=apart)]
    assert not decide(drifted).causes
    assert decide(drifted, sources=("simulation",)).causes
    decayed = judged(version=apart)
    assert not decide(verdicts=decayed).causes
    assert decide(verdicts=decayed, sources=("simulation",)).causes


def test_where_nothing_happened_nothing_is_done():
    found = decide()
    assert (found.action, found.causes, found.obstacles) == ("keep", (), ())
    assert found.reason == "nothing asks for another model"
    assert (found.champion, found.labels) == ("3", 600)


def test_decay_that_the_wines_do_not_explain_asks_for_another_model():
    found = decide(verdicts=judged())
    assert found.action == "retrain"
    assert "version 3 decayed, and +0.200 points" in found.reason
    # evidence over time finds what no single window shows
    assert decide([alert("decayed", "model")], judged("ok")).action == "retrain"


@pytest.mark.parametrize(
    "verdicts", [judged(concept=0.04), judged(concept=float("nan")), judged(version="2")]
)
def test_decay_that_the_wines_explain_and_that_of_others_do_not(verdicts):
    assert decide(verdicts=verdicts).causes == ()


def test_drift_asks_once_enough_labels_came_since():
    assert decide([alert("drift")]).causes == ("alcohol drifted, and 600 labels came since",)
    assert decide([alert("drift", since=NOW - 4 * DAY)]).causes == ()
    assert decide([alert("drift", resolved=NOW)]).causes == ()
    assert decide([alert("drift", version="2")]).causes == ()


def test_age_asks_where_it_is_limited():
    assert decide(oldest_days=10).causes == ("version 3 is 10 days old",)
    assert decide(oldest_days=11).causes == ()


@pytest.mark.parametrize(
    ("given", "obstacle"),
    [
        ({"labels": LABELS.head(199)}, "there are 199 usable labels, and 200 are needed"),
        ({"alerts": [alert("data_quality")]}, "there is bad data"),
        ({"past": [PastRetraining(NOW - DAY / 2, True)]}, "the last retraining began 12.0 h ago"),
        (
            {"past": [PastRetraining(NOW - k * DAY, False) for k in (4, 3, 2)]},
            "3 retrainings in a row",
        ),
        ({"champion": None}, "there is no champion"),
    ],
)
def test_what_keeps_a_retraining_from_being_done(given, obstacle):
    found = decide(oldest_days=1, verdicts=judged(), **given)
    assert found.action == "keep"
    assert obstacle in " ".join(found.obstacles)


def test_a_promotion_ends_the_row_of_those_in_vain():
    past = [PastRetraining(NOW - k * DAY, k == 3) for k in (6, 5, 4, 3, 2)]
    assert decide(oldest_days=1, past=past).action == "retrain"


def test_a_person_may_ask_whatever_the_limits_say():
    past = [PastRetraining(NOW, False)] * 3
    found = decide([alert("data_quality")], labels=LABELS.head(0), past=past, force=True)
    assert (found.action, found.obstacles) == ("retrain", ())
    assert decide(champion=None, force=True).action == "keep"


# In the database


@pytest.fixture
def store(tmp_path):
    with DecisionStore(f"sqlite:///{tmp_path}/monitoring.db") as opened:
        yield opened


def decider(past):
    return decide(verdicts=judged(), past=past)


def test_of_two_machines_one_retrains(store):
    first, found = store.decide("wine-quality", decider)
    assert found.action == "retrain"
    store.settle(first, "4", True, "it is better")
    _, second = store.decide("wine-quality", decider)
    assert second.action == "keep"
    assert "the last retraining began 0.0 h ago" in second.reason
    # another model is another matter
    assert store.decide("beer", decider)[1].action == "retrain"
    newest = store.newest("wine-quality", 5)
    assert sorted((row["action"], row["version"]) for row in newest) == [
        ("keep", ""),
        ("retrain", "4"),
    ]


def test_a_retraining_without_an_outcome_was_interrupted(store):
    store.decide("wine-quality", decider)
    again, found = store.decide("wine-quality", decider)
    assert found.action == "retrain"
    store.settle(again, "4", False, "it is not better")
    assert [row["outcome"] for row in store.newest("wine-quality", 5)] in (
        ["it is not better", INTERRUPTED],
        [INTERRUPTED, "it is not better"],
    )


def test_a_decision_that_fails_leaves_nothing_behind(store):
    def fail(past):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.decide("wine-quality", fail)
    assert store.newest("wine-quality", 5) == []


def test_an_outcome_counts_for_the_next_decision(store):
    for days in (4, 3, 2):
        identifier, _ = store.decide(
            "wine-quality",
            lambda past, days=days: replace(
                decide(verdicts=judged(), force=True), decided_at=(NOW - days * DAY).isoformat()
            ),
        )
        store.settle(identifier, str(days), False, "it is not better")
    _, found = store.decide("wine-quality", lambda past: decide(verdicts=judged(), past=past))
    assert "3 retrainings in a row" in found.reason
