import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    cohen_kappa_score,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from wine_quality.modelling.metrics import (
    METRICS,
    bootstrap_intervals,
    fold_difference,
    paired_bootstrap,
    score,
    score_slices,
)
from wine_quality.traffic.synthetic import draw_wines

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def judged(draw, least=2):
    """Qualities of n wines, not all the same, and predictions for them."""
    n = draw(st.integers(least, 40))
    quality = draw(arrays(float, n, elements=st.integers(0, 10).map(float)))
    assume(np.ptp(quality) > 0)
    return quality, draw(arrays(float, n, elements=st.floats(-2, 12)))


# Scores


@given(judged())
def test_perfect_predictions(wines):
    quality, _ = wines
    assert score(quality, quality) == {
        "rmse": 0,
        "mae": 0,
        "r2": 1,
        "accuracy_within_0.5": 1,
        "accuracy_within_1.0": 1,
        "weighted_kappa": 1,
    }


@given(judged(), SEEDS)
def test_the_order_of_the_wines_does_not_matter(wines, seed):
    order = np.random.default_rng(seed).permutation(len(wines[0]))
    shuffled = score(wines[0][order], wines[1][order])
    assert shuffled == pytest.approx(score(*wines), nan_ok=True, abs=1e-9)


@given(judged())
def test_errors_and_explained_variance_are_those_of_scikit_learn(wines):
    found = score(*wines)
    assert found["rmse"] == pytest.approx(root_mean_squared_error(*wines))
    assert found["mae"] == pytest.approx(mean_absolute_error(*wines))
    assert found["r2"] == pytest.approx(r2_score(*wines), abs=1e-9)


@given(judged())
def test_the_weighted_kappa_is_that_of_scikit_learn(wines):
    quality, prediction = wines
    rounded = np.clip(np.rint(prediction), 0, 10).astype(int)
    expected = cohen_kappa_score(
        quality.astype(int), rounded, weights="quadratic", labels=list(range(11))
    )
    assert score(quality, prediction)["weighted_kappa"] == pytest.approx(expected, abs=1e-9)


@given(judged())
def test_scores_stay_within_their_bounds(wines):
    found = score(*wines)
    assert set(found) == set(METRICS)
    assert 0 <= found["mae"] <= found["rmse"] + 1e-12
    assert found["r2"] <= 1
    assert 0 <= found["accuracy_within_0.5"] <= found["accuracy_within_1.0"] <= 1
    assert -1 - 1e-12 <= found["weighted_kappa"] <= 1


def test_figures_by_hand():
    found = score(np.array([5.0, 6.0, 7.0, 6.0]), np.array([5.5, 6.0, 5.5, 7.0]))
    # errors 0.5, 0, -1.5, 1: the bound itself is within
    assert found["accuracy_within_0.5"] == 0.5
    assert found["accuracy_within_1.0"] == 0.75
    assert found["mae"] == 0.75
    assert found["rmse"] == pytest.approx(math.sqrt(3.5 / 4))
    assert found["r2"] == pytest.approx(1 - (3.5 / 4) / 0.5)


def test_equal_qualities_leave_nothing_to_explain():
    found = score(np.array([6.0, 6.0]), np.array([6.0, 6.0]))
    assert math.isnan(found["r2"])
    assert math.isnan(found["weighted_kappa"])
    assert found["mae"] == 0


def test_an_error_of_exactly_a_bound_is_within_whatever_the_last_bit_says():
    quality = np.array([5.0, 5.0])
    found = score(quality, quality + 0.5 + np.array([1e-12, -1e-12]))
    assert found["accuracy_within_0.5"] == 1


# Slices


def test_slices_are_scored_alone_and_together():
    wines = pd.DataFrame(
        {"type": ["red", "white", "white"], "quality": [5, 6, 8], "prediction": [6.0, 6.0, 6.0]}
    )
    slices = score_slices(wines)
    assert list(slices) == ["all", "red", "white"]
    assert [slices[name]["mae"] for name in slices] == [1, 1, 1]
    assert slices["white"] == pytest.approx(score(np.array([6.0, 8.0]), np.array([6.0, 6.0])))
    assert slices["red"]["accuracy_within_0.5"] == 0


def test_a_type_without_wines_has_no_slice():
    wines = pd.DataFrame({"type": ["red"], "quality": [5], "prediction": [5.0]})
    assert list(score_slices(wines)) == ["all", "red"]


# Paired bootstrap

LOSSES = arrays(float, 12, elements=st.floats(0, 4))


@given(loss=LOSSES, other=LOSSES, seed=SEEDS)
def test_swapping_the_models_turns_the_interval_round(loss, other, seed):
    gain, low, high = paired_bootstrap(loss, other, seed, resamples=50)
    assert paired_bootstrap(other, loss, seed, resamples=50) == pytest.approx(
        (-gain, -high, -low), abs=1e-12
    )
    assert low <= high
    assert gain == pytest.approx(other.mean() - loss.mean(), abs=1e-12)


@given(loss=LOSSES, seed=SEEDS)
def test_a_model_gains_nothing_over_itself(loss, seed):
    assert paired_bootstrap(loss, loss, seed, resamples=20) == (0, 0, 0)


@given(loss=LOSSES, gain=st.floats(-1, 1), seed=SEEDS)
def test_an_equal_gain_on_every_wine_is_certain(loss, gain, seed):
    found = paired_bootstrap(loss, loss + gain, seed, resamples=20)
    assert found == pytest.approx((gain, gain, gain), abs=1e-12)


def test_the_seed_alone_decides_the_resamples():
    rng = np.random.default_rng(0)
    loss, other = rng.random(30), rng.random(30)
    assert paired_bootstrap(loss, other, 1) == paired_bootstrap(loss, other, 1)
    assert paired_bootstrap(loss, other, 1) != paired_bootstrap(loss, other, 2)


def test_the_interval_covers_the_true_gain_about_as_often_as_it_says():
    rng = np.random.default_rng(2009)
    trials, truth = 200, 0.3
    covered = 0
    for seed in range(trials):
        loss = rng.exponential(1, 80)
        other = loss + rng.normal(truth, 0.5, 80)
        _, low, high = paired_bootstrap(loss, other, seed, resamples=300)
        covered += low <= truth <= high
    # a 95 % interval of 80 wines: within four standard errors, less what percentiles lose
    assert 0.88 <= covered / trials <= 0.995


@given(loss=LOSSES, other=LOSSES, seed=SEEDS)
def test_groups_of_one_are_wines(loss, other, seed):
    alone = paired_bootstrap(loss, other, seed, resamples=20)
    grouped = paired_bootstrap(loss, other, seed, resamples=20, groups=np.arange(12))
    assert grouped == pytest.approx(alone, abs=1e-12)


@given(loss=LOSSES, other=LOSSES, seed=SEEDS)
def test_wines_entered_twice_tell_no_more_than_once(loss, other, seed):
    """Doubling every wine leaves the interval as it is, where equal wines are drawn together."""
    once = paired_bootstrap(loss, other, seed, resamples=30)
    twice = paired_bootstrap(
        np.tile(loss, 2), np.tile(other, 2), seed, resamples=30, groups=np.tile(np.arange(12), 2)
    )
    assert twice == pytest.approx(once, abs=1e-9)


# Intervals of the metrics


def judged_wines(n, seed, error=0.7):
    wines = draw_wines(n, seed)
    noise = np.random.default_rng(seed).normal(0, error, n)
    return wines.assign(prediction=wines["quality"] + noise)


def test_intervals_hold_the_metric_and_narrow_with_more_wines():
    widths = []
    for n in (60, 600):
        wines = judged_wines(n, 4)
        scores, intervals = score_slices(wines), bootstrap_intervals(wines, 1, 200)
        assert intervals.keys() == scores.keys()
        for name, metrics in scores.items():
            for metric, value in metrics.items():
                bounds = intervals[name][metric]
                assert bounds["low"] <= value <= bounds["high"], (name, metric)
        rmse = intervals["all"]["rmse"]
        widths.append(rmse["high"] - rmse["low"])
    assert widths[1] < widths[0] / 2


def test_copies_of_wines_do_not_narrow_an_interval():
    wines = judged_wines(80, 4)
    copies = pd.concat([wines] * 5, ignore_index=True)
    once, often = (bootstrap_intervals(part, 1, 300)["all"]["mae"] for part in (wines, copies))
    assert often == pytest.approx(once, abs=1e-9)


def test_the_seed_decides_the_intervals():
    wines = judged_wines(60, 4)
    assert bootstrap_intervals(wines, 1, 100) == bootstrap_intervals(wines, 1, 100)
    assert bootstrap_intervals(wines, 1, 100) != bootstrap_intervals(wines, 2, 100)


# Differences on the same folds


def test_a_difference_by_hand():
    # mean 0.2, variance 0.01, n 4, folds of a quarter: 1/4 + 1/3
    mean, low, high = fold_difference(np.array([0.1, 0.3, 0.1, 0.3]), 0.25)
    reach = 3.182446 * math.sqrt((1 / 4 + 1 / 3) * 0.04 / 3)
    assert (mean, low, high) == pytest.approx((0.2, 0.2 - reach, 0.2 + reach), abs=1e-5)


@given(st.floats(-1, 1), st.integers(2, 20), st.floats(0.05, 0.5))
def test_the_same_difference_on_every_fold_is_certain(value, folds, share):
    found = fold_difference(np.full(folds, value), share)
    assert found == pytest.approx((value, value, value), abs=1e-9)


@given(arrays(float, 5, elements=st.floats(-1, 1)))
def test_overlapping_training_wines_widen_the_interval(difference):
    _, low, high = fold_difference(difference, 0.2)
    _, narrow_low, narrow_high = fold_difference(difference, 1e-9)
    assert low <= narrow_low + 1e-9
    assert high >= narrow_high - 1e-9


def test_a_weight_counts_as_so_many_wines_in_the_mean():
    loss, other = np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 5.0])
    groups = np.array([0, 1, 1])
    weights = np.array([3.0, 1.0, 1.0])
    weighted = paired_bootstrap(loss, other, 4, 50, groups, weights)
    many = np.repeat([0, 1, 2], [3, 1, 1])
    assert weighted == pytest.approx(paired_bootstrap(loss[many], other[many], 4, 50, groups[many]))
    assert paired_bootstrap(loss, other, 4, 50, groups, np.full(3, 0.1)) == pytest.approx(
        paired_bootstrap(loss, other, 4, 50, groups)
    )
