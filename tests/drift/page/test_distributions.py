import re

import numpy as np
import pandas as pd
import pytest

from tests.drift.page.making import predicted, reference
from wine_quality.drift.page.distributions import (
    BARS,
    NOTHING,
    WHOLE,
    axis_of,
    distributions_of,
)
from wine_quality.drift.profiles import HOUR_S, count, window_profile
from wine_quality.drift.reference import ERROR, SEGMENTS, Reference
from wine_quality.wines import QUALITY


def drawn(column, wines, segments=SEGMENTS):
    own = reference()
    windows = window_profile(wines, own)
    axis = axis_of(column, [own])
    return axis, distributions_of(column, windows, windows.dense(own)[0], own, axis, segments)


def shares(histogram):
    """Read a histogram's path back."""
    height, found = 0, []
    for rise, _ in re.findall(r"(v-?\d+)?(h1)", histogram.path):
        height -= int(rise[1:]) if rise else 0
        found.append(height / WHOLE)
    return np.array(found)


@pytest.mark.parametrize(
    "column", ["alcohol", "residual_sugar", "citric_acid", "prediction", ERROR]
)
def test_bars_hold_the_values_that_lie_between_their_bounds(column):
    wines = predicted(4000, 9)
    axis, found = drawn(column, wines)
    values = wines["prediction"] - wines[QUALITY] if column == ERROR else wines[column]
    expected = np.histogram(np.clip(values, axis.bounds[0], axis.bounds[-1]), axis.bounds)[0]
    (of_all, *_) = found.by_window[0]
    assert len(shares(of_all)) == axis.bars == BARS
    assert shares(of_all).sum() == pytest.approx(1, abs=BARS / WHOLE)
    # within a bin of the reference the values are taken to lie evenly
    apart = np.abs(np.cumsum(shares(of_all)) - np.cumsum(expected / len(values))).max()
    assert apart < 0.06
    assert of_all.top == pytest.approx(WHOLE * shares(of_all).max())


@pytest.mark.parametrize(("value", "bar"), [(1000.0, -1), (-5.0, 0)])
def test_values_beyond_the_axis_are_drawn_at_its_end(value, bar):
    _, found = drawn("alcohol", predicted(200, 9).assign(alcohol=value))
    of_all = shares(found.by_window[0][0])
    assert of_all[bar] == of_all.sum() == 1


def test_each_segment_says_how_many_wines_it_has_where_they_lie_and_how_many_moved():
    wines = predicted(400, 9)
    _, found = drawn("alcohol", wines.assign(alcohol=wines["alcohol"] + 2))
    red = wines[wines["type"] == "red"]
    words = found.by_window[0][SEGMENTS.index("red")].words
    n, median, moved = re.fullmatch(
        r"(\d+) wines, median ([\d.]+), ([\d.]+) % moved", words
    ).groups()
    assert int(n) == len(red)
    assert float(median) == pytest.approx(red["alcohol"].median() + 2, abs=0.25)
    assert float(moved) > 50
    usual = found.reference[SEGMENTS.index("red")].words
    assert "moved" not in usual
    assert f"{(predicted(1500, 3)['type'] == 'red').sum():,} wines" in usual


def test_one_wine_is_one_wine_and_a_segment_without_any_is_empty():
    one = predicted(200, 9)
    one = one[one["type"] == "white"].head(1)
    _, found = drawn("alcohol", one)
    of_all, red, white = found.by_window[0]
    # of which nobody can say how many moved
    assert re.fullmatch(r"1 wine, median [\d.]+", of_all.words)
    assert white == of_all._replace(words=white.words)
    assert red == NOTHING


def test_categories_have_a_bar_each():
    wines = predicted(400, 9)
    axis, found = drawn("type", wines, ("all",))
    assert axis.labels == ("red", "white")
    red = (wines["type"] == "red").mean()
    assert shares(found.by_window[0][0]) == pytest.approx([red, 1 - red], abs=1 / WHOLE)


def test_faults_are_named_beside_the_reference_s():
    wines = predicted(200, 9)
    spoilt = wines.assign(pH=wines["pH"].where(wines.index >= 30))
    _, found = drawn("pH", spoilt)
    assert re.search(r"15 % missing \(0(\.\d+)? % in the reference\)", found.faults[0])
    _, sound = drawn("alcohol", wines.assign(alcohol=10.0))
    assert sound.faults == ("",)


def test_versions_share_an_axis_and_a_column_without_values_has_none():
    stronger = predicted(600, 5)
    stronger = Reference.from_wines(stronger.assign(alcohol=stronger["alcohol"] + 3))
    both = axis_of("alcohol", [reference(), stronger])
    alone = [axis_of("alcohol", [own]) for own in (reference(), stronger)]
    assert both.bounds[0] == alone[0].bounds[0]
    assert both.bounds[-1] == alone[1].bounds[-1]
    blank = Reference.from_wines(predicted(600, 5).assign(pH=np.nan))
    assert not axis_of("pH", [blank]).bars
    always = Reference.from_wines(predicted(600, 5).assign(pH=3.3))
    assert axis_of("pH", [always]).bars in (0, BARS)


def test_windows_are_drawn_together_as_each_alone():
    own, wines = reference(), predicted(300, 9)
    hour = pd.to_timedelta(np.arange(300) // 100, unit="h")
    windows = count(
        wines.assign(event_time=pd.Timestamp("2026-01-01", tz="UTC") + hour), own, HOUR_S
    )
    axis = axis_of("alcohol", [own])
    together = distributions_of("alcohol", windows, windows.dense(own)[0], own, axis)
    for k in range(3):
        _, alone = drawn("alcohol", wines[100 * k : 100 * (k + 1)])
        assert together.by_window[k] == alone.by_window[0]
