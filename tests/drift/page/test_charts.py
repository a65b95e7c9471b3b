import numpy as np
import pytest

from wine_quality.drift.page.charts import (
    FEW,
    HEIGHT,
    Scale,
    band,
    bars,
    columns,
    line,
    points,
    steps,
)

NAN = np.nan


def at(*places):
    return np.array(places, dtype=np.int64)


def heights(*values):
    return np.array(values, dtype=float)


def test_a_line_joins_the_middles_of_windows_and_stops_at_gaps():
    unbroken = np.array([True, False, False])
    assert line(at(0, 1, 2), heights(90, 40, 40.4), unbroken) == "M0.5 90h0l1 -50l1 0"
    assert line(at(0, 1, 2), heights(90, NAN, 40), unbroken) == "M0.5 90h0M2.5 40h0"
    assert line(at(0, 1), heights(90, 40), np.array([True, True])) == "M0.5 90h0M1.5 40h0"


def test_a_limit_is_level_within_each_window():
    assert steps(at(0, 1, 2), heights(30, 30, 20)) == "M0 30h1h1V20h1"
    assert steps(at(0, 1, 3), heights(30, NAN, 20)) == "M0 30h1M3 20h1"


def test_windows_without_a_value_have_no_band_and_no_point():
    assert band(at(0, 1), heights(80, NAN), heights(20, 10)) == "M0 20h1V80h-1z"
    assert points(at(0, 4), heights(NAN, 7)) == "M4.5 7h0"


def test_bars_stand_apart_while_they_are_few():
    assert bars(at(3), heights(100), heights(20)) == "M3.1 20h0.8V100h-0.8z"
    many = np.arange(FEW + 1)
    drawn = bars(many, np.full(len(many), 100.0), np.full(len(many), 20.0))
    assert drawn.startswith("M0 20h1V100h-1z")


def test_alarming_windows_in_a_row_are_one_shape():
    assert columns([1, 2, 5]) == "M1 0H3V100H1zM5 0H6V100H5z"


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((0.0, 0.84), ["0.0", "0.2", "0.4", "0.6", "0.8"]),
        ((-0.3, 0.4), ["\u22120.2", "0.0", "0.2", "0.4"]),
        ((0, 1234), ["0", "500", "1,000"]),
        ((0,), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ((NAN,), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    ],
)
def test_an_axis_has_round_values_and_holds_zero(values, labels):
    scale = Scale.around(heights(*values))
    ticks = scale.ticks()
    assert [tick.label for tick in ticks] == labels
    assert all(0 <= tick.at <= 100 for tick in ticks)


def test_there_are_no_parts_of_wines():
    assert [tick.label for tick in Scale.around(heights(2), is_whole=True).ticks()] == [
        "0",
        "1",
        "2",
    ]


def test_heights_count_from_the_top_and_are_cut_off():
    scale = Scale(0.0, 2.0)
    assert scale.y(heights(0, 1, 2, 3, -1)).tolist() == [HEIGHT, 50, 0, 0, HEIGHT]
