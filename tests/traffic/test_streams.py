"""Streams: what a row gets does not depend on the frame it comes in."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from wine_quality.traffic.streams import (
    RowDice,
    Stream,
    derive_seed,
    generator,
    renumber,
)


def cut(frame, sizes):
    edges = np.cumsum([0, *sizes])
    return [frame.iloc[a:b] for a, b in itertools.pairwise(edges)]


@given(
    seed=st.integers(0, 2**64 - 1),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    purpose=st.text(max_size=10),
)
def test_chance_belongs_to_the_row(seed, sizes, purpose):
    whole = pd.DataFrame(index=pd.RangeIndex(sum(sizes)))
    numbers = RowDice.of(whole, seed, purpose).throw("x")
    parts = [RowDice.of(part, seed, purpose).throw("x") for part in cut(whole, sizes)]
    np.testing.assert_array_equal(np.concatenate(parts), numbers)
    assert ((numbers >= 0) & (numbers < 1)).all()


def test_chance_is_independent_for_every_seed_purpose_and_throw():
    n = 20_000
    dice = [RowDice(seed, purpose, 0, n) for seed in (1, 2) for purpose in ("a", "b")]
    columns = [one.throw(what) for one in dice for what in ("x", "y")]
    correlations = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlations).max() < 0.04
    assert np.mean(columns) == pytest.approx(0.5, abs=0.01)


def test_seeds_are_derived_for_every_purpose_and_number():
    seeds = {derive_seed(s, p, k) for s in (0, 1) for p in ("a", "b") for k in range(50)}
    assert len(seeds) == 200
    assert derive_seed(1, "a", 3) == derive_seed(1, "a", 3)
    assert generator(1, "a", 3).random() == generator(1, "a", 3).random()
    assert generator(1, "a", 3).random() != generator(1, "a", 4).random()


def test_a_stream_begins_anew_each_time():
    stream = Stream(lambda: iter([pd.DataFrame({"x": [1, 2]}), pd.DataFrame({"x": [3]})]))
    assert [len(frame) for frame in stream] == [len(frame) for frame in stream] == [2, 1]


def test_a_stream_with_an_effect_can_be_gone_through_once():
    stream = Stream.once(iter([pd.DataFrame({"x": [1]})]))
    assert [len(frame) for frame in stream] == [1]
    with pytest.raises(RuntimeError, match="once only"):
        iter(stream)


def test_rows_are_counted_on_and_empty_frames_left_out():
    frames = [pd.DataFrame({"x": part}, index=[9] * len(part)) for part in ([], [1, 2], [], [3])]
    counted = list(renumber(frames))
    assert_frame_equal(pd.concat(counted), pd.DataFrame({"x": [1, 2, 3]}), check_index_type=False)
    assert len(counted) == 2
