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
LABELS = pd.DataFrame(
    {
        "event_time": [NOW - k * DAY / 100 for k in range(600)],
        "model_version": "3",
        "prediction": 6.0,
        "quality": 5,
    }
)
PLAIN = {
    "force": False,
    "least_concept": 0.05,
    "least_drift_labels": 500,
    "oldest_days": None,
    "least_labels": 200,
    "most_growth": None,
    "cool_down_hours": 24,
    "least_new_share": 0.5,
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
            "window_start": [NOW - 2 * DAY, NOW - DAY],
            "window_end": [NOW - DAY, NOW],
            "reference_mae": 0.5,
            "model_version": version,
            "segment": "all",
            "verdict": ["ok", verdict],
            "concept": [0.0, concept],
        }
    )


def decide(
    alerts=(),
    verdicts=None,
    labels=LABELS,
    past=(),
    champion=CHAMPION,
    sources=(),
    raw=0,
    **changes,
):
    settings = DecisionSettings(**PLAIN | changes)
    table = judged("ok") if verdicts is None else verdicts
    return decide_retraining(champion, alerts, table, labels, past, settings, NOW, sources, raw)


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


def test_decay_by_labels_that_may_not_train_is_none():
    as_usual = LABELS.assign(quality=5.45)
    assert decide([alert("decayed", "model")], judged(), labels=as_usual).causes == ()
    # another version's errors are not the champion's, and without labels nobody contradicts
    others = as_usual.assign(model_version="2")
    assert decide([alert("decayed", "model")], judged(), labels=others).causes != ()


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


# Since when wines are judged as they are now


def test_after_a_change_of_the_tasters_the_labels_since_then_count():
    since = NOW - 3 * DAY
    found = decide([alert("decayed", "model", since=since)], judged())
    assert (found.action, found.labels, found.since) == ("retrain", 301, since.isoformat())
    # drift alone, or decay that the wines explain, leaves the labels worth what they were
    assert decide([alert("drift")]).since == ""
    assert decide([alert("decayed", "model", since=since)], judged(concept=0.0)).since == ""


def test_the_next_version_knows_of_it_and_a_newer_change_goes_before():
    before = NOW - 5 * DAY
    champion = replace(CHAMPION, tags={"judged_since": before.isoformat()})
    found = decide([alert("drift")], champion=champion)
    assert (found.since, found.labels) == (before.isoformat(), 501)
    newer = decide([alert("decayed", "model", since=NOW - 4 * DAY)], judged(), champion=champion)
    assert newer.since == (NOW - 4 * DAY).isoformat()


def test_too_few_labels_since_a_change_train_nothing_unless_a_person_asks():
    changed = [alert("decayed", "model", since=NOW - DAY / 2)]
    found = decide(changed, judged(), least_labels=0)
    assert found.obstacles == (
        "there are 51 usable labels since 2026-05-31 12:00 UTC, and 100 are needed",
    )
    forced = decide(changed, judged(), force=True)
    assert (forced.action, forced.since, forced.labels) == ("retrain", "", 600)


def test_many_more_wines_than_the_champion_was_fitted_on_ask_for_another_model():
    champion = replace(CHAMPION, tags={"fitted_wines": "500"})
    words = "there are 1,500 usable wines, and version 3 was fitted on 500"
    assert decide(champion=champion, raw=900, most_growth=3).causes == (words,)
    assert decide(champion=champion, raw=899, most_growth=3).causes == ()
    assert decide(champion=champion, raw=900).causes == ()
    # raw wines were judged before the change
    tags = champion.tags | {"judged_since": (NOW - 5 * DAY).isoformat()}
    assert decide(champion=replace(champion, tags=tags), raw=9000, most_growth=3).causes == ()


def past_in_vain(labels, newest=NOW - 2 * DAY):
    return PastRetraining(NOW - 2 * DAY, False, labels, newest)


def test_after_one_in_vain_the_next_needs_more_labels():
    # 200 labels are of the two days since
    assert decide([alert("drift")], past=[past_in_vain(400)]).action == "retrain"
    found = decide([alert("drift")], past=[past_in_vain(402)])
    assert found.obstacles == (
        "the last retraining was in vain with 402 labels: the next one needs 201 newer ones, and "
        "there are 200",
    )
    unknown = decide([alert("drift")], past=[past_in_vain(401, None)])
    assert "needs 200 newer ones, and there are 199" in " ".join(unknown.obstacles)


def test_what_was_in_vain_before_a_cause_began_says_nothing_about_it():
    past = [past_in_vain(600, NOW - 7 * DAY)] * 3
    assert decide([alert("drift", since=NOW - 6 * DAY)], past=past).action == "retrain"
    assert decide([alert("drift", since=NOW - 8 * DAY)], past=past).action == "keep"
    # a decision of an earlier version does not say what it knew
    assert decide([alert("drift")], past=[past_in_vain(600, None)]).action == "keep"


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
