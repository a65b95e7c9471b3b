import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from wine_quality.drift.performance import judge_performance
from wine_quality.drift.profiles import Profile, Reference, profile_windows
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import TRAFFIC, VERDICTS_DTYPES, decide
from wine_quality.drift.windows import (
    PRECEDING,
    chosen_windows,
    judge_traffic,
    merge_small_windows,
    window_sizes,
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
REFERENCE = Reference.from_wines(predicted(300, 6))


def log_of(sizes):
    """As many wines on each day, by day number or by (day number, version)."""
    parts, used = [], 0
    for key, n in sizes.items():
        number, version = key if isinstance(key, tuple) else (key, "1")
        wines = WINES.iloc[used : used + n]
        used += n
        parts.append(wines.assign(event_time=START + number * DAY, model_version=version))
    return pd.concat(parts, ignore_index=True)


def profiled(sizes):
    return profile_windows(log_of(sizes), REFERENCE)


def traffic(sizes, settings=PLAIN, now=LATER):
    """Number of the first day, days, verdict and wines of each verdict on the traffic."""
    found = judge_traffic(profiled(sizes).counts, settings, now)
    assert found.dtypes.astype(str).to_dict() == VERDICTS_DTYPES
    assert (found["column"] == TRAFFIC).all()
    days = (found["window_start"] - START) // DAY
    lengths = (found["window_end"] - found["window_start"]) // DAY
    return list(zip(days, lengths, found["verdict"], found["n"], strict=True))


# Merging


def test_small_windows_are_merged_until_they_are_enough():
    profile, ends = merge_small_windows(profiled({0: 60, 1: 20, 2: 20, 4: 20, 5: 5}), MERGE)
    starts = [START, START + DAY, START + 5 * DAY]
    assert window_sizes(profile.counts)["window_start"].tolist() == starts
    assert window_sizes(profile.counts)["n"].tolist() == [60, 60, 5]
    assert [ends.loc[(start, "1")] for start in starts] == [START + n * DAY for n in (1, 5, 6)]
    # what is judged is what the same wines in one window would be
    as_one = profile_windows(log_of({0: 60, 1: 60, 5: 5}), REFERENCE)
    pd.testing.assert_frame_equal(
        decide(profile, REFERENCE, MERGE), decide(as_one, REFERENCE, MERGE)
    )
    found = judge_performance(profile, REFERENCE, MERGE)
    assert_frame_equal(found, judge_performance(as_one, REFERENCE, MERGE))


def test_versions_are_merged_each_for_itself():
    sizes = {(0, "1"): 30, (0, "2"): 30, (1, "1"): 30, (1, "2"): 10, (2, "2"): 40}
    found = window_sizes(merge_small_windows(profiled(sizes), MERGE)[0].counts)
    assert found[["model_version", "n"]].to_numpy().tolist() == [["1", 60], ["2", 80]]


def test_nothing_is_merged_unless_asked_for():
    profile = profiled({0: 5, 1: 5})
    same, ends = merge_small_windows(profile, DriftSettings())
    assert_frame_equal(same.counts, profile.counts)
    assert ends.tolist() == [START + DAY, START + 2 * DAY]


def test_a_log_without_windows_has_none_to_merge():
    empty = Profile(
        *(table.iloc[:0] for table in (profiled({0: 5}).counts, profiled({0: 5}).errors))
    )
    merged, ends = merge_small_windows(empty, MERGE)
    assert merged.counts.empty
    assert ends.empty


@given(st.dictionaries(st.integers(0, 12), st.integers(1, 30), min_size=1, max_size=10))
def test_merging_loses_no_wine_and_leaves_only_the_last_window_small(sizes):
    sizes = dict(sorted(sizes.items()))
    profile = profiled(sizes)
    merged, ends = merge_small_windows(profile, MERGE)
    for before, after in ((profile.counts, merged.counts), (profile.errors, merged.errors)):
        totals = [
            table.select_dtypes(np.number).drop(columns=["minimum", "maximum"], errors="ignore")
            for table in (before, after)
        ]
        assert totals[0].sum().drop("bin", errors="ignore").to_numpy() == pytest.approx(
            totals[1].sum().drop("bin", errors="ignore").to_numpy()
        )
    found = window_sizes(merged.counts)
    assert (found["n"].iloc[:-1] >= MERGE.min_rows).all()
    assert ends.max() == START + (max(sizes) + 1) * DAY


# Traffic


def test_windows_in_which_nothing_came_are_told_as_one_stretch():
    assert traffic({0: 10, 1: 10, 5: 10}) == [
        (0, 1, "ok", 10),
        (1, 1, "ok", 10),
        (2, 3, "no_traffic", 0),
        (5, 1, "ok", 10),
    ]


def test_much_less_than_before_is_unusual_once_enough_is_known():
    sizes = {0: 60, 1: 4, 2: 60, 3: 60, 4: 4, 5: 60}
    assert [(day, verdict) for day, _, verdict, _ in traffic(sizes)] == [
        (0, "ok"),
        (1, "ok"),
        (2, "ok"),
        (3, "ok"),
        (4, "data_quality"),
        (5, "ok"),
    ]
    whatever = DriftSettings(min_traffic_share=0)
    assert {verdict for _, _, verdict, _ in traffic(sizes, whatever)} == {"ok"}
    reasons = judge_traffic(profiled(sizes).counts, DriftSettings(), LATER)["reason"].tolist()
    assert reasons[4] == (
        "traffic: 4 wines, 60 is the median of the 4 windows before; fewer than 6 are unusual"
    )


def test_thousands_are_set_off_in_reasons():
    counts = profiled(dict.fromkeys(range(4), 60)).counts
    many = counts.assign(n=counts["n"] * 50)
    reasons = judge_traffic(many, DriftSettings(), LATER)["reason"].tolist()
    assert reasons[-1] == "traffic: 3,000 wines, 3,000 is the median of the 3 windows before"


def test_only_the_last_weeks_are_ordinary_traffic():
    sizes = dict.fromkeys(range(3), 20) | dict.fromkeys(range(3, 4 + PRECEDING), 1)
    verdicts = [verdict for _, _, verdict, _ in traffic(sizes)]
    assert verdicts[3:6] == ["data_quality"] * 3
    assert verdicts[-1] == "ok"


def test_a_window_that_is_going_on_may_still_fill():
    sizes = {0: 60, 1: 60, 2: 60, 3: 1}
    going_on = (START + 3.5 * DAY).to_pydatetime()
    assert traffic(sizes, now=going_on)[-1] == (3, 1, "ok", 1)
    assert traffic(sizes)[-1] == (3, 1, "data_quality", 1)


@pytest.mark.parametrize(
    ("days", "expected"),
    [(1.5, []), (2, [(1, 1, "no_traffic", 0)]), (5.9, [(1, 4, "no_traffic", 0)])],
)
def test_traffic_may_be_expected_until_now(days, expected):
    now = (START + days * DAY).to_pydatetime()
    until_now = DriftSettings(traffic_until="now")
    assert traffic({0: 10}, until_now, now)[1:] == expected
    assert traffic({0: 10}, DriftSettings(), now)[1:] == []


def test_two_versions_of_a_window_are_one_traffic():
    counts = profiled({(0, "1"): 10, (0, "2"): 30, (2, "2"): 5}).counts
    found = judge_traffic(counts, DriftSettings(), LATER)
    assert found[["model_version", "n"]].to_numpy().tolist() == [["2", 40], ["2", 0], ["2", 5]]


# Choosing


def test_the_newest_window_and_the_newest_alarming_ones_are_chosen():
    profile = profiled(dict.fromkeys(range(5), 60))
    verdicts, model = (
        decide(profile, REFERENCE, MERGE).assign(verdict="ok"),
        judge_performance(profile, REFERENCE, MERGE).assign(verdict="ok"),
    )

    def days(flagged, decayed, alarming=2):
        judged = verdicts.assign(
            verdict=verdicts["verdict"].mask(
                verdicts["window_start"].isin([START + d * DAY for d in flagged]), "drift"
            )
        )
        of_model = model.assign(
            verdict=model["verdict"].mask(
                model["window_start"].isin([START + d * DAY for d in decayed]), "decayed"
            )
        )
        silent = judge_traffic(profiled({0: 9, 8: 9}).counts, MERGE, LATER)
        with_traffic = pd.concat([judged, silent], ignore_index=True)
        return [
            (start - START) // DAY for start, *_ in chosen_windows(with_traffic, of_model, alarming)
        ]

    assert days([], []) == [4]
    assert days([0, 1], [2]) == [4, 2, 1]
    assert days([4], [4, 0]) == [4, 0]
    assert days([0, 1, 2, 3], [], alarming=0) == [4]
