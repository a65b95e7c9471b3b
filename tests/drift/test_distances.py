import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, norm

from wine_quality.drift.distances import (
    nominal_score,
    ordinal_score,
    share_moved,
    stability_index,
)

counts = st.lists(st.integers(0, 50), min_size=4, max_size=4).filter(any)


def shares(c):
    return np.array(c) / sum(c)


@given(a=counts, b=counts)
@pytest.mark.parametrize("score", [ordinal_score, nominal_score])
def test_scores_are_symmetric_and_vanish_only_without_difference(score, a, b):
    p, q, n, m = shares(a), shares(b), sum(a), sum(b)
    forth = score(p, q, n, m)
    assert forth == pytest.approx(score(q, p, m, n))
    assert forth == pytest.approx(score(p[::-1], q[::-1], n, m))
    assert (forth < 1e-6) == np.allclose(p, q)
    assert score(p, p, n, m) == 0


@given(a=counts, b=counts)
def test_scores_of_many_windows_are_those_of_each(a, b):
    both = np.array([shares(a), shares(b)])
    alone = [float(ordinal_score(p, both[0], 10, 20)) for p in both]
    assert ordinal_score(both, both[0], 10, 20).tolist() == pytest.approx(alone)


def test_nominal_score_is_the_root_of_chi_square():
    table = np.array([[30, 70], [55, 45]])
    expected = chi2_contingency(table, correction=False).statistic
    score = nominal_score(table[0] / 100, table[1] / 100, 100, 100)
    assert score**2 == pytest.approx(expected)


def test_ordinal_score_with_a_bin_a_value_is_anderson_and_darlings():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.2, 1, 80), rng.normal(0, 1, 120)
    pooled = np.sort(np.concatenate([a, b]))
    p, q = (np.isin(pooled, x) / len(x) for x in (a, b))
    # Pettitt's rank form: Σ (M_i N - n i)² / (i (N - i)) / (n m), M_i of the i smallest from a
    i = np.arange(1, 200)
    rank_form = np.sum((np.cumsum(np.isin(pooled, a))[:-1] * 200 - 80 * i) ** 2 / (i * (200 - i)))
    assert ordinal_score(p, q, 80, 120) ** 2 == pytest.approx(rank_form / (80 * 120))


@pytest.mark.parametrize(("shift", "moved"), [(0.1, 0.04), (0.25, 0.1), (0.5, 0.197)])
def test_share_moved_by_a_shift_of_a_normal_column(shift, moved):
    edges = norm.ppf(np.arange(1, 20) / 20)
    q = np.diff(norm.cdf(edges), prepend=0, append=1)
    p = np.diff(norm.cdf(edges - shift), prepend=0, append=1)
    assert share_moved(p, q, ordinal=True) == pytest.approx(moved, abs=0.003)


def test_share_moved_between_categories():
    p, q = np.array([0.2, 0.5, 0.3]), np.array([0.3, 0.3, 0.4])
    assert share_moved(p, q, ordinal=False) == pytest.approx(0.2)


def test_stability_index_is_freed_of_chance():
    rng = np.random.default_rng(1)
    q = np.full(20, 0.05)
    draws = rng.multinomial(100, q, 2000) / 100, rng.multinomial(1500, q, 2000) / 1500
    freed = stability_index(*draws, 100, 1500)
    # without the correction the mean would be 19 (1/100 + 1/1500) = 0.2
    assert freed.mean() < 0.05
    p = np.linspace(0.02, 0.08, 20)
    exact = np.sum((p - q) * np.log(p / q))
    assert stability_index(p, q, 1e6, 1e6) == pytest.approx(exact, rel=1e-3)
