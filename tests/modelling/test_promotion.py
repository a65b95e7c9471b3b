import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wine_quality.modelling.promotion import Promotion, decide
from wine_quality.modelling.registry import RegisteredVersion
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import INPUTS, PREDICTION, QUALITY

HELD_OUT = draw_wines(120, 6, missing=True)


def version(number):
    return RegisteredVersion("wine-quality", number, f"run {number}", {})


def judged(spread, seed=0, wines=HELD_OUT):
    """Held-out wines with predictions that err by a normal of this spread."""
    error = np.random.default_rng(seed).normal(0, spread, len(wines))
    return wines[[*INPUTS, QUALITY]].assign(**{PREDICTION: wines[QUALITY] + error})


def decision(reference, champion_reference, seed=3):
    return decide(version("8"), reference, version("5"), champion_reference, seed)


def test_the_first_version_becomes_champion():
    assert decide(version("1"), judged(1), None, None, 0) == Promotion(
        "wine-quality", "1", True, "1", "it is the first champion"
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
    assert "of version 5 on the same 120 held-out wines, gain +" in found.reason


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


@pytest.mark.parametrize(
    "others",
    [
        HELD_OUT.iloc[:-1],
        HELD_OUT.assign(quality=HELD_OUT[QUALITY].replace(5, 6)),
        HELD_OUT.assign(alcohol=HELD_OUT["alcohol"] + 0.1),
        HELD_OUT.iloc[::-1].reset_index(drop=True),
    ],
    ids=["fewer", "other quality", "other inputs", "other order"],
)
def test_models_judged_on_other_wines_are_not_compared(others):
    found = decision(judged(0.1), judged(2.0, wines=others))
    assert (found.promoted, found.champion) == (False, "5")
    assert "version 5 was judged on other held-out wines" in found.reason
    assert "set the alias champion in the MLflow registry" in found.reason


def test_a_decision_as_plain_values():
    plain = Promotion("wine-quality", "8", False, "5", "because").to_dict()
    assert plain == {
        "model": "wine-quality",
        "version": "8",
        "promoted": False,
        "champion": "5",
        "reason": "because",
    }
