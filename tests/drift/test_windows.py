from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from wine_quality.drift.performance import judge_performance
from wine_quality.drift.profiles import Profile, count
from wine_quality.drift.reference import Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import TRAFFIC, VERDICTS_DTYPES, decide
from wine_quality.drift.windows import (
    EVENT_TIME,
    PRECEDING,
    REFERENCE,
    chosen_windows,
    judge_traffic,
    make_windows,
    mark_unfinished,
    newest_starts,
    newest_window,
    split_future,
    whole_versions,
)
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import PREDICTION, QUALITY

START = pd.Timestamp("2026-01-01", tz="UTC")
DAY = pd.Timedelta("1D")
LATER = (START + 400 * DAY).to_pydatetime()
PLAIN = DriftSettings()
MERGE = DriftSettings(small_windows="merge", min_rows=50, resamples=1000)


def predicted(n, seed):
    wines = draw_wines(n, seed)
    error = np.random.default_rng(seed).normal(0, 0.6, n)
    return wines.assign(**{PREDICTION: wines[QUALITY] + error})


WINES = predicted(400, 5)
OWN = Reference.from_wines(predicted(300, 6))


def log_of(sizes, version="1"):
    """As many wines of a version on each day, by day number or by (day number, version)."""
    parts, used = [WINES.iloc[:0].assign(event_time=START)], 0
    for key, n in sizes.items():
        number, whose = key if isinstance(key, tuple) else (key, "1")
        wines = WINES.iloc[used : used + n]
        used += n
        if whose == version:
            # over two hours of the day
            hours = pd.to_timedelta(5 + np.arange(n) % 2, unit="h")
            parts.append(wines.assign(event_time=START + number * DAY + hours))
    return pd.concat(parts, ignore_index=True)


def profiled(sizes, version="1"):
    return count(log_of(sizes, version), OWN)


def traffic(sizes, settings=PLAIN, now=LATER):
    """Number of the first day, days, verdict and wines of each verdict on the traffic."""
    found = judge_traffic({"1": profiled(sizes)}, settings, now)
    assert found.dtypes.astype(str).to_dict() == VERDICTS_DTYPES
    assert (found["column"] == TRAFFIC).all()
    days = (found["window_start"] - START) // DAY
    lengths = (found["window_end"] - found["window_start"]) // DAY
    return list(zip(days, lengths, found["verdict"], found["n"], strict=True))


def days(seconds):
    return ((pd.to_datetime(seconds, unit="s", utc=True) - START) // DAY).tolist()


# Making windows


def test_hours_are_put_together_to_windows():
    windows, ends = make_windows(profiled({0: 60, 1: 20, 4: 5}), PLAIN)
    assert days(windows.starts) == [0, 1, 4]
    assert windows.wines.tolist() == [60, 20, 5]
    assert days(ends) == [1, 2, 5]
    halves, ends = make_windows(profiled({0: 60}), DriftSettings(window="6h"))
    assert halves.wines.tolist() == [30, 30]
    assert (ends - halves.starts).tolist() == [6 * 3600] * 2


def test_small_windows_are_merged_until_they_are_enough():
    profile, ends = make_windows(profiled({0: 60, 1: 20, 2: 20, 4: 20, 5: 5}), MERGE)
    assert days(profile.starts) == [0, 1, 5]
    assert profile.wines.tolist() == [60, 60, 5]
    assert days(ends) == [1, 5, 6]
    # what is judged is what the same wines in one window would be
    as_one, _ = make_windows(profiled({0: 60, 1: 60, 5: 5}), MERGE)
    for judge in (decide, judge_performance):
        assert_frame_equal(
            judge(profile, ends, OWN, "1", MERGE), judge(as_one, ends, OWN, "1", MERGE)
        )


def test_a_log_without_windows_has_none_to_merge():
    merged, ends = make_windows(Profile.empty(OWN), MERGE)
    assert len(merged) == len(ends) == 0


@given(st.dictionaries(st.integers(0, 12), st.integers(1, 30), min_size=1, max_size=10))
def test_merging_loses_no_wine_and_leaves_only_the_last_window_small(sizes):
    sizes = dict(sorted(sizes.items()))
    profile = profiled(sizes)
    merged, ends = make_windows(profile, MERGE)
    assert (merged.counts.sum(axis=0) == profile.counts.sum(axis=0)).all()
    assert merged.sums.sum(axis=0) == pytest.approx(profile.sums.sum(axis=0))
    assert (merged.wines[:-1] >= MERGE.min_rows).all()
    assert days(ends)[-1] == max(sizes) + 1
    assert (ends[:-1] <= merged.starts[1:]).all()


def test_the_newest_windows_are_those_of_all_versions():
    starts = [np.array([10, 20, 30]), np.array([20, 40])]
    assert newest_starts(starts, 2) == 30
    assert newest_starts(starts, 9) == 10
    assert newest_starts([], 3) is None


# The present


def test_windows_that_go_on_are_not_judged_yet():
    profile, ends = make_windows(profiled({0: 60, 1: 60}), PLAIN)
    verdicts = decide(profile, ends, OWN, "1", PLAIN)
    marked = mark_unfinished(verdicts, (START + 1.5 * DAY).to_pydatetime())
    going_on = marked["window_start"] == START + DAY
    assert (marked.loc[going_on, "verdict"] == "unfinished").all()
    assert marked.loc[going_on, "reason"].str.startswith("goes on; so far: ").all()
    assert_frame_equal(marked[~going_on], verdicts[~going_on])
    over = mark_unfinished(verdicts, (START + 2 * DAY).to_pydatetime())
    assert_frame_equal(over, verdicts)


def test_wines_of_the_future_are_in_no_window():
    profile = profiled({0: 10, 1: 10, 9: 7})
    now = (START + DAY + pd.Timedelta("5.5h")).to_pydatetime()
    past, future = split_future(profile, now)
    assert past.wines.sum() == 20
    assert future.wines.sum() == 7
    # a clock may be up to an hour ahead
    past, _ = split_future(profile, now - timedelta(hours=1))
    assert past.wines.sum() == 15
    (table,) = whole_versions({"1": {}}, {"1": future}, PLAIN, now)
    assert table.dtypes.astype(str).to_dict() == VERDICTS_DTYPES
    (row,) = table.to_dict("records")
    assert (row["column"], row["verdict"], row["n"]) == (EVENT_TIME, "data_quality", 7)
    assert row["reason"] == (
        "7 wines have event times in the future, up to 2026-01-10 06:00 UTC: they are in no window"
    )
    # filed under the newest window that is over
    assert (row["window_start"], row["window_end"]) == (START, START + DAY)


def test_a_version_without_a_reference_is_a_verdict_of_its_own():
    references = {"1": {}, "2": "version 2 was deleted"}
    (table,) = whole_versions(references, {"1": Profile.empty(OWN)}, PLAIN, LATER)
    assert table[["model_version", "column", "verdict", "reason"]].to_numpy().tolist() == [
        ["2", REFERENCE, "data_quality", "not judged: version 2 was deleted"]
    ]
    assert whole_versions({"1": {}}, {}, PLAIN, LATER) == []


def test_the_newest_window_is_the_newest_that_is_over():
    profile, ends = make_windows(profiled({0: 60, 1: 60}), PLAIN)
    verdicts = decide(profile, ends, OWN, "1", PLAIN)
    now = (START + 1.5 * DAY).to_pydatetime()
    marked = mark_unfinished(verdicts, now)
    found = newest_window(pd.concat([marked, judge_traffic({"1": profile}, PLAIN, now)]))
    assert set(found.loc[found["column"] != TRAFFIC, "window_start"]) == {START}
    assert (found["column"] == TRAFFIC).sum() == 1
    first = marked[marked["window_start"] > START]
    assert len(newest_window(first)) == len(first)


# Traffic


def test_windows_in_which_nothing_came_are_told_as_one_stretch():
    assert traffic({0: 10, 1: 10, 5: 10}) == [
        (0, 1, "ok", 10),
        (1, 1, "ok", 10),
        (2, 3, "no_traffic", 0),
        (5, 1, "ok", 10),
    ]


def test_much_less_or_more_than_before_is_unusual_once_enough_is_known():
    sizes = {0: 20, 1: 1, 2: 20, 3: 20, 4: 1, 5: 20, 6: 250}
    assert [verdict for _, _, verdict, _ in traffic(sizes)] == [
        *["ok"] * 4, "data_quality", "ok", "data_quality"
    ]  # fmt: skip
    whatever = DriftSettings(min_traffic_share=0)
    assert {verdict for _, _, verdict, _ in traffic(sizes, whatever)} == {"ok"}
    reasons = judge_traffic({"1": profiled(sizes)}, PLAIN, LATER)["reason"].tolist()
    assert reasons[1] == "1 wine"
    assert reasons[4] == (
        "1 wine, 20 is the median of the 4 windows before; fewer than 2 are unusual"
    )
    assert reasons[6] == (
        "250 wines, 20 is the median of the 6 windows before; more than 200 are unusual"
    )


def test_only_the_last_weeks_are_ordinary_traffic():
    sizes = dict.fromkeys(range(3), 20) | dict.fromkeys(range(3, 4 + PRECEDING), 1)
    verdicts = [verdict for _, _, verdict, _ in traffic(sizes)]
    assert verdicts[3:6] == ["data_quality"] * 3
    assert verdicts[-1] == "ok"


def test_a_window_that_is_going_on_may_still_fill():
    sizes = {0: 60, 1: 60, 2: 60, 3: 1}
    now = (START + 3.5 * DAY).to_pydatetime()
    found = mark_unfinished(judge_traffic({"1": profiled(sizes)}, PLAIN, now), now)
    assert found["verdict"].tolist() == ["ok"] * 3 + ["unfinished"]
    assert traffic(sizes)[-1] == (3, 1, "data_quality", 1)


@pytest.mark.parametrize(
    ("until", "expected"),
    [(1.5, []), (2, [(1, 1, "no_traffic", 0)]), (5.9, [(1, 4, "no_traffic", 0)])],
)
def test_traffic_may_be_expected_until_now(until, expected):
    now = (START + until * DAY).to_pydatetime()
    until_now = DriftSettings(traffic_until="now")
    assert traffic({0: 10}, until_now, now)[1:] == expected
    assert traffic({0: 10}, DriftSettings(), now)[1:] == []


def test_two_versions_of_a_window_are_one_traffic():
    sizes = {(0, "1"): 10, (0, "2"): 30, (2, "2"): 5}
    profiles = {version: profiled(sizes, version) for version in ("1", "2")}
    found = judge_traffic(profiles, PLAIN, LATER)
    assert found[["model_version", "n"]].to_numpy().tolist() == [["2", 40], ["2", 0], ["2", 5]]


# Choosing


def test_the_newest_window_and_the_newest_alarming_ones_are_chosen():
    profile, ends = make_windows(profiled(dict.fromkeys(range(5), 60)), MERGE)
    verdicts, model = (
        judge(profile, ends, OWN, "1", MERGE).assign(verdict="ok")
        for judge in (decide, judge_performance)
    )

    def chosen(flagged, decayed, most=3):
        judged, of_model = (
            table.assign(
                verdict=table["verdict"].mask(
                    table["window_start"].isin([START + d * DAY for d in bad]), verdict
                )
            )
            for table, bad, verdict in ((verdicts, flagged, "drift"), (model, decayed, "decayed"))
        )
        silent = judge_traffic({"1": profiled({0: 9, 8: 9})}, MERGE, LATER)
        with_traffic = pd.concat([judged, silent], ignore_index=True)
        return [
            (start - START) // DAY for start, *_ in chosen_windows(with_traffic, of_model, most)
        ]

    assert chosen([], []) == [4]
    assert chosen([0, 1], [2]) == [4, 2, 1]
    assert chosen([4], [4, 0]) == [4, 0]
    assert chosen([0, 1, 2, 3], [], most=1) == [4]
    assert chosen([0, 1, 2, 3], [], most=0) == []
