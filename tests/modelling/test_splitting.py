import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wine_quality.errors import WineQualityError
from wine_quality.modelling.splitting import assign_parts, hold_out
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import QUALITY, TYPE, wine_groups, wine_hashes

CELLAR = draw_wines(60, 4, missing=True)
SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=40)
@given(rows=st.integers(60, 150), draw=SEEDS, parts=st.integers(2, 5), seed=SEEDS)
def test_every_wine_has_a_part_and_equal_wines_share_it(rows, draw, parts, seed):
    rng = np.random.default_rng(draw)
    wines = CELLAR.iloc[rng.integers(0, len(CELLAR), rows)].reset_index(drop=True)
    # tasters disagree: equal inputs, other qualities
    wines[QUALITY] = rng.integers(5, 7, rows)
    assigned = assign_parts(wines, parts, seed)
    assert assigned.shape == (rows,)
    assert set(assigned) == set(range(parts))
    parts_of_group = pd.Series(assigned).groupby(wine_groups(wines)).agg(["min", "max"])
    assert (parts_of_group["min"] == parts_of_group["max"]).all()


def test_parts_are_of_about_equal_size_and_have_their_share_of_each_stratum():
    wines = draw_wines(1500, 8)
    assigned = assign_parts(wines, 5, 2009)
    assert np.bincount(assigned).tolist() == pytest.approx([300] * 5, abs=6)
    strata = wines[TYPE] + wines[QUALITY].astype(str)
    table = pd.crosstab(strata, assigned)
    frequent = table[table.sum(axis=1) >= 50]
    assert len(frequent) >= 4
    # of each frequent stratum every part has a fifth, give or take two wines
    assert (frequent.sub(frequent.mean(axis=1), axis=0).abs() <= 2).all(axis=None)


def test_the_division_depends_on_its_seed_alone(labelled_wines):
    first = assign_parts(labelled_wines, 4, 1)
    assert (first == assign_parts(labelled_wines.copy(), 4, 1)).all()
    assert (first != assign_parts(labelled_wines, 4, 2)).any()


def test_a_rare_quality_stops_nothing(recwarn):
    wines = CELLAR.assign(quality=[9, *[5] * 59], type="red")
    assert set(assign_parts(wines, 5, 0)) == set(range(5))
    assert not [w for w in recwarn if "least populated" in str(w.message)]


def test_copies_of_too_few_wines_cannot_be_divided():
    wines = pd.concat([CELLAR.iloc[:2].assign(quality=5)] * 10, ignore_index=True)
    with pytest.raises(WineQualityError, match=r"20 wines, 2 of them distinct.*into 3 parts"):
        assign_parts(wines, 3, 0)


def test_wines_that_have_nothing_in_common_cannot_be_divided():
    wines = CELLAR.iloc[:6].assign(type="red", quality=[3, 4, 5, 6, 7, 8])
    with pytest.raises(WineQualityError, match=r"at most 1 of one type and quality.*fewer parts"):
        assign_parts(wines, 3, 0)


def test_no_wines_cannot_be_divided():
    with pytest.raises(WineQualityError, match="0 wines"):
        assign_parts(CELLAR.iloc[:0], 2, 0)


# For ever


@settings(max_examples=40)
@given(draw=SEEDS, seed=SEEDS, share=st.floats(0.05, 0.5))
def test_wines_that_come_later_change_no_other_s_side(draw, seed, share):
    rng = np.random.default_rng(draw)
    rows = rng.integers(0, len(CELLAR), 90)
    early, late = CELLAR.iloc[rows[:40]], CELLAR.iloc[rng.permutation(rows)]
    side = dict(zip(wine_hashes(early), hold_out(early, share, seed), strict=True))
    for wine, held_out in zip(wine_hashes(late), hold_out(late, share, seed), strict=True):
        assert side.setdefault(wine, held_out) == held_out


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("seed", [0, 1, 2009])
def test_the_share_is_held_out_of_each_type_and_quality(share, seed):
    wines = draw_wines(6000, 31)
    held_out = hold_out(wines, share, seed)
    for _, part in pd.Series(held_out).groupby([wines[TYPE], wines[QUALITY]]):
        # four standard errors
        assert part.mean() == pytest.approx(share, abs=4 * (share * (1 - share) / len(part)) ** 0.5)


def test_a_larger_share_holds_out_more_and_none_less():
    fewer, more = hold_out(CELLAR, 0.2, 5), hold_out(CELLAR, 0.4, 5)
    assert fewer.sum() < more.sum()
    assert (more | ~fewer).all()
    assert (hold_out(CELLAR, 0.2, 6) != fewer).any()
