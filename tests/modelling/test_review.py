"""A promotion is undone where the champion before would have answered better, and only there."""

from datetime import UTC, datetime, timedelta

import mlflow
import numpy as np
import pandas as pd
import pytest

from wine_quality.modelling.candidates import Candidate, build_model
from wine_quality.modelling.promotion import settle
from wine_quality.modelling.registry import CHAMPION, REVIEW_TAG, TrainedModel
from wine_quality.modelling.review import LOOKS, end_review, review_promotion
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import INPUTS, PREDICTION, QUALITY, wine_hashes

HELD_OUT = draw_wines(60, 31)
TRAINING = draw_wines(300, 32)
TRAFFIC = draw_wines(1200, 33)
STUMP = Candidate(estimator="sklearn.tree.DecisionTreeRegressor", settings={"max_depth": 1})
TREE = Candidate(estimator="sklearn.tree.DecisionTreeRegressor", settings={"max_depth": 4})


@pytest.fixture
def promote(registry, experiment_id):
    """Registers a model and makes it champion, whatever it is worth; gives the model."""

    def make(candidate, shuffled=False, environment="base"):
        quality = TRAINING[QUALITY]
        quality = quality.sample(frac=1, random_state=5).to_numpy() if shuffled else quality
        model = build_model(candidate, 0).fit(TRAINING[list(INPUTS)], quality)
        predicted = np.asarray(model.predict(HELD_OUT[list(INPUTS)]), dtype=float)
        reference = HELD_OUT[[*INPUTS, QUALITY]].assign(**{PREDICTION: predicted})
        tags = {"environment": environment}
        trained = TrainedModel(model, reference, tags, fitted=wine_hashes(TRAINING))
        with mlflow.start_run(experiment_id=experiment_id):
            version = registry.register(trained)
        registry.promote(version.version, instead_of=registry.version(CHAMPION))
        return model

    return make


def answered(model, version, wines=TRAFFIC):
    moments = [datetime(2026, 3, 1, tzinfo=UTC) + k * timedelta(minutes=1) for k in wines.index]
    rows = wines[[*INPUTS, QUALITY]].reset_index(drop=True)
    predicted = np.asarray(model.predict(rows[list(INPUTS)]), dtype=float)
    return rows.assign(
        model_version=version, event_time=pd.to_datetime(moments, utc=True), prediction=predicted
    )


@pytest.fixture
def review(registry):
    return lambda traffic: review_promotion(registry, traffic, "event_time", 7, "rmse")


def test_a_worse_champion_gives_way_to_the_one_before(promote, review, registry):
    promote(TREE)
    worse = promote(TREE, shuffled=True)
    found = review(answered(worse, "2").iloc[: LOOKS[0]])
    assert (found.champion, found.former, found.labels, found.undone) == ("2", "1", 200, True)
    assert found.reason.startswith("the promotion of version 2 is undone: mean squared error ")
    assert registry.version(CHAMPION).version == "1"
    # until the message was sent
    assert registry.version("2").tags[REVIEW_TAG] == "undoing"
    end_review(registry, found)
    assert registry.version("2").tags[REVIEW_TAG] == "undone"
    assert not review(answered(worse, "2")).undone


@pytest.mark.parametrize("killed", ["before", "after"])
def test_a_review_that_is_killed_while_it_undoes_a_promotion_goes_on(
    promote, review, registry, monkeypatch, killed
):
    promote(TREE)
    worse = promote(TREE, shuffled=True)
    appoint = registry._appoint

    def die(*arguments):
        if killed == "after":
            appoint(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(registry, "_appoint", die)
        with pytest.raises(KeyboardInterrupt):
            review(answered(worse, "2"))
    for _ in range(2):
        # found again until it is known that the message was sent
        found = review(answered(worse, "2").iloc[:0])
        assert (found.champion, found.former, found.undone) == ("2", "1", True)
        assert registry.version(CHAMPION).version == "1"
        assert registry.former_champions() == ()
    end_review(registry, found)
    assert not review(answered(worse, "2")).undone
    assert registry.version("2").tags[REVIEW_TAG] == "undone"


def test_a_model_that_answers_as_an_undone_one_is_not_promoted_again(promote, review, registry):
    promote(STUMP)
    worse = promote(TREE, shuffled=True)
    undone = review(answered(worse, "2"))
    assert undone.undone
    predicted = np.asarray(worse.predict(HELD_OUT[list(INPUTS)]), dtype=float)
    reference = HELD_OUT[[*INPUTS, QUALITY]].assign(**{PREDICTION: predicted})
    again = registry.version("2")
    settled = settle(registry, again, reference, 7)
    assert not settled.promotion.promoted
    assert settled.promotion.reason == (
        "it answers as version 2, whose promotion was undone; to promote it anyway: 'kedro "
        "champion promote 2'"
    )
    # by hand it is, and is not taken back once more
    end_review(registry, undone)
    registry.promote("2", instead_of=registry.version(CHAMPION))
    found = review(answered(worse, "2"))
    assert not found.undone
    assert found.reason == "the review of version 2 is over (undone)"


def test_copies_among_the_held_out_wines_hide_no_model_that_was_undone(promote, review, registry):
    promote(STUMP)
    worse = promote(TREE, shuffled=True)
    assert review(answered(worse, "2")).undone
    held_out = pd.concat([HELD_OUT, HELD_OUT.iloc[:30]], ignore_index=True)
    predicted = np.asarray(worse.predict(held_out[list(INPUTS)]), dtype=float)
    reference = held_out[[*INPUTS, QUALITY]].assign(**{PREDICTION: predicted})
    settled = settle(registry, registry.version("2"), reference, 7)
    assert settled.promotion.reason.startswith("it answers as version 2, whose promotion was")


def test_a_better_champion_is_kept_and_its_review_ends(promote, review, registry):
    promote(TREE, shuffled=True)
    better = promote(TREE)
    rows = answered(better, "2")
    found = review(rows.iloc[:999])
    assert (found.labels, found.undone) == (800, False)
    assert registry.version("2").tags[REVIEW_TAG] == "800"
    # late labels that change which are the first ones are no second look at so many
    again = review(rows.iloc[100:999])
    assert (again.labels, again.reason) == (0, "899 of the 1000 labels that the next look needs")
    assert review(rows).labels == 1000
    assert registry.version("2").tags[REVIEW_TAG] == "kept"
    assert review(rows).reason == "the review of version 2 is over (kept)"


def test_the_order_of_time_decides_what_is_first_and_a_wine_counts_once(promote, review):
    promote(TREE)
    worse = promote(TREE, shuffled=True)
    rows = answered(worse, "2").iloc[:150]
    found = review(pd.concat([rows, rows]))
    assert (found.labels, found.undone) == (0, False)
    assert found.reason == "150 of the 200 labels that the next look needs"
    # the first 200 wines have labels as the worse one says, the rest has not
    rows = answered(worse, "2").iloc[:399].astype({QUALITY: float})
    rows.loc[:199, QUALITY] = rows.loc[:199, PREDICTION]
    assert not review(rows.iloc[::-1]).undone


def test_an_answer_that_is_no_number_undoes_nothing(promote, review, registry):
    promote(TREE)
    worse = promote(TREE, shuffled=True)
    rows = answered(worse, "2").iloc[:200].copy()
    rows.loc[0, PREDICTION] = np.nan
    assert not review(rows).undone
    assert registry.version(CHAMPION).version == "2"


def test_other_versions_and_fitted_wines_do_not_count(promote, review):
    promote(TREE)
    worse = promote(TREE, shuffled=True)
    assert review(answered(worse, "1")).labels == 0
    assert review(answered(worse, "2", TRAINING)).labels == 0


def test_models_of_different_environments_are_not_compared(promote, review):
    promote(TREE, environment="uci")
    worse = promote(TREE, shuffled=True)
    found = review(answered(worse, "2"))
    assert (found.labels, found.undone) == (0, False)
    assert "was trained in environment uci and version 2 in base" in found.reason


def test_without_a_champion_or_one_before_there_is_nothing_to_review(promote, review):
    assert review(TRAFFIC).reason == "there is no champion"
    model = promote(TREE)
    assert review(answered(model, "1")).reason == "version 1 has no champion before it"


def test_a_former_champion_whose_files_are_gone_is_no_reason_to_fail(
    promote, review, registry, monkeypatch
):
    promote(TREE)
    worse = promote(TREE, shuffled=True)

    def lose(*_, **__):
        raise OSError("gone")

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lose)
    found = review(answered(worse, "2"))
    assert not found.undone
    assert found.labels == 0


def test_a_champion_that_changes_meanwhile_stays(promote, review, registry, monkeypatch):
    promote(TREE)
    worse = promote(TREE, shuffled=True)
    stale = registry.version(CHAMPION)
    rows = answered(worse, "2")
    original = registry.take_back

    def late(champion, former):
        registry.set_alias(CHAMPION, "1")
        return original(champion, former)

    monkeypatch.setattr(registry, "take_back", late)
    found = review(rows)
    assert not found.undone
    assert "meanwhile version 1 has become champion" in found.reason
    assert REVIEW_TAG not in registry.version(stale.version).tags


def test_a_former_champion_that_changes_meanwhile_is_not_put_in(
    promote, review, registry, monkeypatch
):
    """A person promotes another version, then the reviewed one once more."""
    promote(TREE)
    worse = promote(TREE, shuffled=True)
    reviewed = registry.version(CHAMPION)
    rows = answered(worse, "2")
    original = registry.take_back

    def late(champion, former):
        promote(STUMP)
        registry.promote("2", instead_of=registry.version(CHAMPION))
        return original(champion, former)

    monkeypatch.setattr(registry, "take_back", late)
    found = review(rows)
    assert not found.undone
    assert "meanwhile the champions have changed" in found.reason
    assert registry.version(CHAMPION).version == reviewed.version


def test_a_rollback_by_hand_meanwhile_is_no_fault(promote, review, registry, monkeypatch):
    promote(TREE)
    worse = promote(TREE, shuffled=True)
    rows = answered(worse, "2")
    original = registry.take_back

    def late(champion, former):
        registry.roll_back()
        return original(champion, former)

    monkeypatch.setattr(registry, "take_back", late)
    found = review(rows)
    assert not found.undone
    assert "meanwhile version 1 has become champion" in found.reason
