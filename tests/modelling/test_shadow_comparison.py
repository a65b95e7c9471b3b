"""Champion and challenger on the same labelled wines."""

import numpy as np
import pandas as pd
import pytest

from wine_quality.modelling.promotion import LEAST_REPLAYED
from wine_quality.modelling.shadow_comparison import compare_shadows
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import PREDICTION, QUALITY


def shadowed(n, champion_error, challenger_error, seed=1, versions=("1", "2")):
    """Labelled wines with the answers of two versions that err by normals."""
    rng = np.random.default_rng(seed)
    wines = draw_wines(n, seed, duplicates=False)
    return wines.assign(
        model_version=versions[0],
        shadow_version=versions[1],
        shadow_prediction=wines[QUALITY] + rng.normal(0, challenger_error, n),
        **{PREDICTION: wines[QUALITY] + rng.normal(0, champion_error, n)},
    )


def test_nothing_is_nothing():
    assert compare_shadows(shadowed(1, 1, 1).iloc[:0], 1) == []


def test_a_better_challenger_is_better_with_confidence():
    (found,) = compare_shadows(shadowed(2_000, 0.7, 0.5), 1)
    assert (found.champion, found.challenger) == ("1", "2")
    assert (found.labels, found.wines) == (2_000, 2_000)
    # the mean of the absolute value of a normal
    assert found.champion_mae == pytest.approx(0.7 * np.sqrt(2 / np.pi), rel=0.06)
    assert found.challenger_mae == pytest.approx(0.5 * np.sqrt(2 / np.pi), rel=0.06)
    assert found.gain == pytest.approx(found.champion_mae - found.challenger_mae)
    assert 0 < found.gain_low < found.gain < found.gain_high


def test_two_that_are_equally_good_are_told_apart_as_often_as_promised():
    apart = 0
    for seed in range(200):
        (found,) = compare_shadows(shadowed(150, 0.6, 0.6, seed), seed)
        apart += not found.gain_low < 0 < found.gain_high
    # 5 % of 200, and four standard deviations
    assert apart <= 22


def test_each_pair_of_versions_is_compared_by_itself():
    rows = pd.concat(
        [
            shadowed(120, 0.7, 0.5, 1),
            shadowed(130, 0.5, 0.7, 2, versions=("1", "3")),
            shadowed(LEAST_REPLAYED - 1, 0.5, 0.7, 3, versions=("2", "3")),
        ]
    )
    found = compare_shadows(rows, 1)
    assert [(f.champion, f.challenger, f.labels) for f in found] == [
        ("1", "2", 120), ("1", "3", 130), ("2", "3", LEAST_REPLAYED - 1),
    ]  # fmt: skip
    assert [f.gain > 0 for f in found] == [True, False, False]
    assert [f.gain_low is None for f in found] == [False, False, True]


def test_copies_of_a_wine_are_one_wine():
    rows = shadowed(60, 0.7, 0.5)
    (found,) = compare_shadows(pd.concat([rows] * 5), 1)
    assert (found.labels, found.wines, found.gain_low) == (300, 60, None)
