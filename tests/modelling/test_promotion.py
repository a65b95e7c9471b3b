from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wine_quality.errors import WineQualityError
from wine_quality.modelling import promotion
from wine_quality.modelling.contenders import Contender, find_contender, replay
from wine_quality.modelling.loading import BrokenVersionError
from wine_quality.modelling.promotion import (
    Promotion,
    PromotionSettings,
    decide,
    settle,
    weigh,
)
from wine_quality.modelling.registry import (
    CHALLENGER,
    CHAMPION,
    ChampionChangedError,
    ModelRegistry,
    RegisteredVersion,
)
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import INPUTS, PREDICTION, QUALITY, wine_hashes

HELD_OUT = draw_wines(120, 6, missing=True)


def version(number, **tags):
    made = datetime(2026, 1, int(number), tzinfo=UTC)
    return RegisteredVersion("wine-quality", number, f"run {number}", made, tags)


def judged(spread, seed=0, wines=HELD_OUT):
    """Held-out wines with predictions that err by a normal of this spread."""
    error = np.random.default_rng(seed).normal(0, spread, len(wines))
    return wines[[*INPUTS, QUALITY]].assign(**{PREDICTION: wines[QUALITY] + error})


def decision(reference, champion_reference, seed=3):
    return decide(
        Contender(version("8"), reference), Contender(version("5"), champion_reference), seed
    )


def test_the_first_version_becomes_champion():
    assert decide(Contender(version("1"), judged(1)), None, 0) == Promotion(
        "wine-quality", "1", "run 1", True, "1", None, "it is the first champion"
    )


def test_an_identical_model_does_not_replace_the_champion():
    found = decision(judged(0.7), judged(0.7))
    assert (found.version, found.promoted, found.champion) == ("8", False, "5")
    assert found.reason.startswith("it is not better with confidence: mean squared error")
    assert "gain +0.0000, 95 % interval +0.0000 to +0.0000" in found.reason


def test_a_better_model_is_promoted():
    found = decision(judged(0.3), judged(0.9))
    assert (found.version, found.promoted, found.champion) == ("8", True, "8")
    assert found.reason.startswith("it is better: mean squared error")
    assert "of version 5 on 120 held-out wines that neither was fitted on, gain +" in found.reason


def test_which_error_counts_is_a_choice():
    # the challenger is off by half a point on every wine, the champion by two on each sixth
    steady = HELD_OUT[[*INPUTS, QUALITY]].assign(**{PREDICTION: HELD_OUT[QUALITY] + 0.5})
    wild = steady.assign(**{PREDICTION: HELD_OUT[QUALITY] + 2.0 * (np.arange(120) % 6 == 0)})
    new, champion = Contender(version("8"), steady), Contender(version("5"), wild)
    by_square = decide(new, champion, 3)
    assert by_square.promoted
    assert "mean squared error 0.2500 against 0.6667" in by_square.reason
    by_size = decide(new, champion, 3, metric="mae")
    assert not by_size.promoted
    assert "mean absolute error 0.5000 against 0.3333" in by_size.reason


def test_a_crippled_model_stays_challenger():
    found = decision(judged(0.9), judged(0.3))
    assert (found.promoted, found.champion) == (False, "5")
    assert "gain -" in found.reason


def test_a_gain_that_may_be_chance_does_not_promote():
    challenger, champion = judged(0.70, seed=1), judged(0.71, seed=2)
    found = decision(challenger, champion)
    assert not found.promoted
    assert "interval -" in found.reason


@settings(max_examples=20)
@given(spread=st.floats(0.1, 2), other=st.floats(0.1, 2), seed=st.integers(0, 1000))
def test_of_two_models_at_most_one_replaces_the_other(spread, other, seed):
    first, second = judged(spread, seed), judged(other, seed + 1)
    forth, back = decision(first, second, seed), decision(second, first, seed)
    assert not (forth.promoted and back.promoted)
    if forth.promoted:
        errors = [((f[PREDICTION] - f[QUALITY]) ** 2).mean() for f in (first, second)]
        assert errors[0] < errors[1]


# Which wines count


def told(number, reference, training, answer=None):
    """A version that says which wines it was fitted on."""
    return Contender(version(number), reference, wine_hashes(training), answer)


OTHERS = draw_wines(300, 16, missing=True)


@pytest.mark.parametrize(
    "others",
    [
        HELD_OUT.iloc[:-1],
        HELD_OUT.assign(quality=HELD_OUT[QUALITY].replace(5, 6)),
        HELD_OUT.iloc[::-1].reset_index(drop=True),
    ],
    ids=["fewer", "other quality", "other order"],
)
def test_wines_that_both_were_judged_on_compare_versions_of_any_split(others):
    found = decision(judged(0.1), judged(2.0, wines=others))
    assert found.promoted
    assert f"on {len(others)} held-out wines that neither was fitted on" in found.reason
    assert (
        f"version 5 does not say which wines it was fitted on, so only those count that are among "
        f"the {len(others)} it was judged on" in found.reason
    )


def test_versions_without_a_wine_in_common_are_not_compared():
    found = decision(judged(0.1), judged(2.0, wines=OTHERS))
    assert (found.promoted, found.champion) == (False, "5")
    assert found.reason == (
        "there are 0 labelled wines that neither this version nor version 5 was fitted on, "
        "and a comparison needs 20 (version 5 does not say which wines it was fitted on, so only "
        "those count that are among the 300 it was judged on; the next champion will say it); to "
        "promote it anyway: 'kedro champion promote 8'"
    )


def test_a_champion_answers_held_out_wines_that_came_after_it():
    asked = []

    def answer(wines):
        asked.append(wines)
        return wines[QUALITY].to_numpy() + 2.0

    old = told("5", judged(2.0, wines=HELD_OUT.iloc[:50]), OTHERS, answer)
    found = decide(told("8", judged(0.1), OTHERS), old, 3)
    assert found.promoted
    assert "on 120 held-out wines that neither was fitted on" in found.reason
    assert "does not say" not in found.reason
    (wines,) = asked
    assert len(wines) == 70
    assert not np.isin(wine_hashes(wines), wine_hashes(HELD_OUT.iloc[:50])).any()


def test_the_model_of_a_champion_that_has_answered_all_is_not_loaded():
    def answer(wines):
        raise AssertionError("it is not needed")

    assert decide(
        told("8", judged(0.1), OTHERS), told("5", judged(2.0), OTHERS, answer), 3
    ).promoted


def test_wines_that_either_was_fitted_on_do_not_count():
    # the champion knows half of them by heart
    known = HELD_OUT.iloc[:60]
    old = judged(0.9)
    old.loc[:59, PREDICTION] = known[QUALITY]
    found = decide(told("8", judged(0.5), OTHERS), told("5", old, known), 3)
    assert found.promoted
    assert "on 60 held-out wines" in found.reason
    back = decide(told("8", old, known), told("5", judged(0.5), OTHERS), 3)
    assert not back.promoted
    assert "on 60 held-out wines" in back.reason


def test_models_of_different_environments_are_not_compared():
    new, champion = version("8", environment="uci"), version("5", environment="base")
    found = decide(Contender(new, judged(0.1)), Contender(champion, judged(2.0)), 3)
    assert (found.promoted, found.champion, found.judged_against) == (False, "5", "5")
    assert found.reason == (
        "version 5 was trained in environment base and version 8 in uci, so the two are not "
        "compared; to promote it anyway: 'kedro champion promote 8'"
    )


def test_the_environment_that_was_once_called_local_is_base():
    new, champion = version("8", environment="base"), version("5", environment="local")
    assert decide(Contender(new, judged(0.1)), Contender(champion, judged(2.0)), 3).promoted


@pytest.mark.parametrize("tags", [{"environment": "uci"}, {}])
def test_models_of_one_environment_or_an_unknown_one_are_compared(tags):
    new = version("8", environment="uci")
    old = Contender(version("5", **tags), judged(2.0))
    assert decide(Contender(new, judged(0.1)), old, 3).promoted


def test_a_champion_without_a_readable_reference_stays_and_says_how_to_promote():
    old = Contender(version("5"), None, problem="no such file")
    found = decide(Contender(version("8"), judged(0.1)), old, 3)
    assert (found.promoted, found.champion, found.judged_against) == (False, "5", "5")
    assert found.reason == (
        "version 5 has no reference to compare with (no such file); to promote it anyway: "
        "'kedro champion promote 8'"
    )


@pytest.mark.parametrize("champion", [None, version("5")], ids=["first", "better"])
def test_a_model_whose_onnx_form_answers_otherwise_is_not_promoted(champion):
    new = version("8", onnx="it differs by 2 points", onnx_parity="failed")
    old = champion and Contender(champion, judged(2.0))
    found = decide(Contender(new, judged(0.1)), old, 3)
    assert (found.promoted, found.champion) == (False, champion and "5")
    assert found.reason == "it must not be served: it differs by 2 points"


def test_a_model_without_an_onnx_form_may_be_promoted():
    new = version("8", onnx="SVR cannot be converted", onnx_parity="none")
    old = Contender(version("5"), judged(2.0))
    assert decide(Contender(new, judged(0.1)), old, 3).promoted


def test_copies_of_a_wine_do_not_make_a_gain_surer():
    # six wines, of which the challenger is better on four and worse on two, twenty times over
    wines = draw_wines(6, 1)
    better = np.array([1.0, 1.0, 1.0, 1.0, 0.2, 0.2])

    def copied(error):
        judged_once = wines[[*INPUTS, QUALITY]].assign(**{PREDICTION: wines[QUALITY] + error})
        return judged_once.loc[judged_once.index.repeat(20)].reset_index(drop=True)

    assert not decision(copied(1.2 - better), copied(0.8 * np.ones(6))).promoted


# Replay


def logged(wines, spread, seed=5, version_number="5"):
    """Labelled traffic that a version answered with errors of a spread."""
    answered = judged(spread, seed, wines)
    moments = datetime(2026, 3, 1, tzinfo=UTC) + np.arange(len(wines)) * timedelta(hours=1)
    return answered.assign(model_version=version_number, event_time=moments, source="shop")


def answering(spread, seed=9):
    """A model that errs by a normal of a spread, whatever it is asked."""

    def answer(wines):
        return wines[QUALITY].to_numpy() + np.random.default_rng(seed).normal(0, spread, len(wines))

    return answer


TRAFFIC = draw_wines(400, 41)


def test_the_new_version_answers_traffic_and_the_champion_s_answers_are_those_in_the_log():
    traffic = pd.concat([logged(TRAFFIC.iloc[:150], 0.5), logged(OTHERS, 0.5, 5, "4")])
    new = told("8", judged(0.7), TRAFFIC.iloc[:20], answering(0.0))
    found = replay(traffic, new, told("5", judged(0.7), TRAFFIC.iloc[20:50]))
    # of the champion alone, and of wines that neither was fitted on
    assert wine_hashes(found).tolist() == wine_hashes(TRAFFIC.iloc[50:150]).tolist()
    assert found["wine"].tolist() == wine_hashes(found).tolist()
    assert (found[PREDICTION] == found[QUALITY]).all()
    assert found["champion_prediction"].tolist() == traffic[PREDICTION].tolist()[50:150]
    assert found["event_time"].tolist() == traffic["event_time"].tolist()[50:150]
    # wines that it was fitted on count by what another fold's model says; not so the champion's
    said = pd.Series(3.25, wine_hashes(TRAFFIC.iloc[:40]))
    both = replay(traffic, replace(new, out_of_fold=said), told("5", judged(0.7), TRAFFIC[20:50]))
    assert both["wine"].tolist() == wine_hashes(TRAFFIC.drop(range(20, 50))[:120]).tolist()
    assert both[PREDICTION].tolist()[:20] == [3.25] * 20
    assert (both[PREDICTION] == both[QUALITY]).iloc[20:].all()
    none = replay(traffic.iloc[:20], new, told("5", judged(0.7), OTHERS))
    assert none.empty
    assert set(none) == set(found)


def after_replay(spread, champion_spread, held_out=(0.7, 0.7), rows=400, **settings):
    """Decide about a version with errors of a spread on traffic, and others on held-out wines."""
    new = told("8", judged(held_out[0]), OTHERS, answering(spread))
    champion = told("5", judged(held_out[1], seed=1), OTHERS)
    replayed = replay(logged(TRAFFIC.iloc[:rows], champion_spread), new, champion)
    return decide(new, champion, 3, "rmse", PromotionSettings(**settings), replayed)


def test_replay_promotes_what_held_out_wines_alone_do_not():
    found = after_replay(0.3, 0.9)
    assert found.promoted
    assert "on 120 held-out wines and 400 replayed predictions that neither" in found.reason
    assert not after_replay(0.3, 0.9, recent_share=0).promoted


def test_replay_keeps_back_what_held_out_wines_alone_promote():
    assert not after_replay(1.6, 0.7, held_out=(0.3, 0.9)).promoted
    few = after_replay(1.6, 0.7, held_out=(0.3, 0.9), rows=99)
    assert few.promoted
    assert "replayed" not in few.reason


def test_recency_is_a_weight_whatever_the_numbers():
    held_out = judged(0.5).assign(champion_prediction=5.0, wine=wine_hashes(HELD_OUT))
    recent = judged(0.5, 2, TRAFFIC).assign(champion_prediction=5.0, wine=wine_hashes(TRAFFIC))
    for share in (0.0, 0.3, 1.0):
        weighed = weigh(held_out, recent, share)
        assert weighed["weight"].sum() == pytest.approx(1)
        assert weighed.loc[weighed["replayed"], "weight"].sum() == pytest.approx(share)
    assert weigh(held_out.iloc[:0], recent, 0.3)["weight"].sum() == pytest.approx(1)
    assert weigh(held_out.iloc[:0], None, 0.3).empty
    assert not weigh(held_out, recent.iloc[:99], 0.3)["replayed"].any()


def test_a_version_that_gets_worse_on_a_type_is_refused():
    new, old = judged(0.3), judged(0.9)
    red = HELD_OUT["type"] == "red"
    new.loc[red, PREDICTION] = HELD_OUT.loc[red, QUALITY] + 1.0
    old.loc[red, PREDICTION] = HELD_OUT.loc[red, QUALITY] + 0.8
    found = decision(new, old)
    assert not found.promoted
    assert found.reason.startswith(
        "it is better, but its error on red wines is 56.3% higher (most allowed: 5.0%): mean"
    )
    allowed = PromotionSettings(most_worse=0.6)
    sides = Contender(version("8"), new), Contender(version("5"), old)
    assert decide(*sides, 3, settings=allowed).promoted


def test_a_decision_as_plain_values():
    plain = Promotion("wine-quality", "8", "run 8", False, "5", "5", "because").to_dict()
    assert plain == {
        "model": "wine-quality",
        "version": "8",
        "run_id": "run 8",
        "promoted": False,
        "champion": "5",
        "judged_against": "5",
        "reason": "because",
    }


# What the registry accepts


@pytest.fixture
def add(registry, experiment_id):
    """Registers a version that has nothing but a reference; gives both."""
    client = mlflow.MlflowClient()

    def register(reference):
        with mlflow.start_run(experiment_id=experiment_id) as run, TemporaryDirectory() as folder:
            if reference is not None:
                reference.to_parquet(Path(folder) / "held_out_wines.parquet")
                mlflow.log_artifacts(folder, "reference")
        if not client.search_registered_models(f"name = '{registry.name}'"):
            client.create_registered_model(registry.name)
        made = client.create_model_version(registry.name, run.info.artifact_uri, run.info.run_id)
        return registry.version(str(made.version)), reference

    return register


def aliases(registry):
    found = (registry.version(alias) for alias in (CHAMPION, CHALLENGER))
    return tuple(version and version.version for version in found)


def test_a_decision_sets_the_aliases(registry, add):
    first, better, worse = (add(judged(spread)) for spread in (0.9, 0.3, 0.8))
    settled = settle(registry, *first, 0)
    assert settled.promotion.reason == "it is the first champion"
    assert settled.champion.is_same_as(first[0])
    assert aliases(registry) == ("1", None)
    assert settle(registry, *better, 0).promotion.judged_against == "1"
    settled = settle(registry, *worse, 0)
    assert not settled.promotion.promoted
    assert settled.champion.is_same_as(better[0])
    assert aliases(registry) == ("2", "3")


@pytest.mark.parametrize(("spread", "champion"), [(0.3, "2"), (0.8, "3")])
def test_a_version_that_loses_the_race_is_judged_against_the_winner(
    registry, add, monkeypatch, spread, champion
):
    """Two runs judge against version 1; the other one promotes version 3 first."""
    settle(registry, *add(judged(1.5)), 0)
    slower, faster = add(judged(spread)), add(judged(0.5))
    promote = ModelRegistry.promote

    def promote_second(self, *arguments, **named):
        monkeypatch.setattr(ModelRegistry, "promote", promote)
        assert settle(registry, *faster, 0).promotion.promoted
        return promote(self, *arguments, **named)

    monkeypatch.setattr(ModelRegistry, "promote", promote_second)
    settled = settle(registry, *slower, 0)
    assert settled.promotion.judged_against == "3"
    assert settled.promotion.promoted == (champion == "2")
    assert aliases(registry) == (champion, None if champion == "2" else "2")
    assert settled.champion.is_same_as(registry.version(CHAMPION))


def test_a_champion_that_changes_all_the_time_is_said(registry, add, monkeypatch):
    def refuse(self, version, instead_of):
        raise ChampionChangedError("once more")

    monkeypatch.setattr(promotion, "ATTEMPTS", 3)
    monkeypatch.setattr(ModelRegistry, "promote", refuse)
    with pytest.raises(ChampionChangedError, match="once more"):
        settle(registry, *add(judged(1)), 0)
    assert aliases(registry) == (None, "1")


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        (None, "has no reference in the registry"),
        (judged(1).drop(columns=PREDICTION), "its reference has no prediction"),
    ],
)
def test_what_somebody_else_registered_stays_champion(registry, add, reference, problem):
    foreign, _ = add(reference)
    registry.set_alias(CHAMPION, foreign.version)
    assert problem in find_contender(registry).problem
    settled = settle(registry, *add(judged(0.1)), 0)
    assert settled.promotion.reason.endswith("'kedro champion promote 2'")
    assert problem in settled.promotion.reason
    assert aliases(registry) == ("1", "2")


def test_a_reference_that_is_no_table_is_a_problem_in_words(registry, add):
    foreign, _ = add(None)
    registry.set_alias(CHAMPION, foreign.version)
    client = mlflow.MlflowClient()
    client.log_text(foreign.run_id, "not a table", "reference/held_out_wines.parquet")
    assert "cannot be read" in find_contender(registry).problem


def test_a_champion_that_does_not_answer_later_wines_stays_and_says_how_to_promote(registry, add):
    # its reference can be read, its model cannot
    foreign, _ = add(judged(1, wines=HELD_OUT.iloc[:50]))
    registry.set_alias(CHAMPION, foreign.version)
    champion = replace(find_contender(registry), fitted=wine_hashes(OTHERS))
    found = decide(told("8", judged(0.1), OTHERS), champion, 3)
    assert (found.promoted, found.champion) == (False, foreign.version)
    assert found.reason.startswith(
        f"version {foreign.version} does not answer the wines that came after it (Version "
        f"{foreign.version} of {registry.name} is refused: its files are not where the registry "
    )
    assert found.reason.endswith("; to promote it anyway: 'kedro champion promote 8'")
    # nor is it needed for wines that it has answered
    assert decide(told("8", judged(0.1, wines=HELD_OUT.iloc[:50]), OTHERS), champion, 3).promoted


def test_a_model_that_fails_in_any_way_is_told_in_words(registry, add, monkeypatch):
    class Fails:
        def predict(self, wines):
            raise KeyError("residual_sweetness")

    foreign, _ = add(judged(1))
    registry.set_alias(CHAMPION, foreign.version)
    monkeypatch.setattr(registry, "checked_model", lambda _: Fails())
    with pytest.raises(BrokenVersionError, match=r"these wines \(KeyError: 'resid"):
        find_contender(registry).answer(HELD_OUT)


def test_a_version_that_was_deleted_meanwhile_is_not_promoted(registry, add):
    new, reference = add(judged(1))
    mlflow.MlflowClient().delete_registered_model(registry.name)
    add(judged(2))
    with pytest.raises(WineQualityError, match="was deleted while it was judged"):
        settle(registry, new, reference, 0)
    assert aliases(registry) == (None, None)
