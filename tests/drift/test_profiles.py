import json
import weakref
from collections import Counter
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wine_quality.drift import profiles
from wine_quality.drift.profiles import (
    COUNTS_DTYPES,
    ERRORS_DTYPES,
    Fault,
    Profile,
    Reference,
    profile_batches,
    profile_windows,
    window_starts,
)
from wine_quality.errors import WineQualityError
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES

RELAXED = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))

moments = st.datetimes(
    min_value=pd.Timestamp("1969-12-30").to_pydatetime(),
    max_value=pd.Timestamp("1970-01-03").to_pydatetime(),
)
numbers = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.floats(5, 20)
anything = numbers | st.text(max_size=3) | st.booleans() | st.just(Decimal("10.5"))
rows = st.fixed_dictionaries(
    {
        "event_time": moments,
        "model_version": st.sampled_from(["1", "2"]),
        "type": st.sampled_from(["red", "white", "rosé", None, 7]),
        "alcohol": anything,
        "pH": numbers,
        "prediction": st.floats(3, 9),
        "quality": st.none() | st.integers(3, 9),
    }
)


def log_of(records):
    frame = pd.DataFrame(records, columns=list(rows_columns()))
    return frame.astype({"alcohol": object, "type": object})


def rows_columns():
    return ("event_time", "model_version", "type", "alcohol", "pH", "prediction", "quality")


def plain(counts: pd.DataFrame, column: str) -> dict[int, int]:
    part = counts[counts["column"] == column]
    return dict(zip(part["bin"], part["n"], strict=True))


def assert_same(a: Profile, b: Profile) -> None:
    for left, right in ((a.counts, b.counts), (a.errors, b.errors)):
        keys = [c for c in left.columns if left[c].dtype != "float64" and c != "n"][:4]
        pd.testing.assert_frame_equal(
            left.sort_values(keys, ignore_index=True),
            right.sort_values(keys, ignore_index=True),
            rtol=1e-9,
        )


@RELAXED
@given(first=st.lists(rows, max_size=30), second=st.lists(rows, max_size=30))
def test_profiles_of_parts_add_up_to_the_profile_of_the_whole(reference, first, second):
    parts = [profile_windows(log_of(part), reference, "6h") for part in (first, second)]
    assert_same(parts[0].merge(parts[1]), profile_windows(log_of(first + second), reference, "6h"))
    assert_same(parts[0].merge(parts[1]), parts[1].merge(parts[0]))


@RELAXED
@given(
    parts=st.lists(st.lists(rows, max_size=10), max_size=6), merged=st.sampled_from([1, 100_000])
)
def test_a_log_in_parts_is_counted_like_the_whole(reference, parts, merged):
    whole = profile_windows(log_of([row for part in parts for row in part]), reference, "6h")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiles, "MERGED_TOGETHER", merged)
        batches = profile_batches(map(log_of, parts), reference, "6h")
    pd.testing.assert_frame_equal(batches.counts, whole.counts)
    pd.testing.assert_frame_equal(batches.errors, whole.errors, rtol=1e-9)


def test_no_part_is_kept_while_the_next_is_made(reference, held_out, as_log):
    log = as_log(held_out, 300)
    alive = []

    def parts():
        for start in range(0, len(log), 300):
            assert not [part for part in alive if part() is not None]
            part = log.iloc[start : start + 300].copy()
            alive.append(weakref.ref(part))
            yield part
            del part

    profile = profile_batches(parts(), reference)
    assert len(alive) == 5
    pd.testing.assert_frame_equal(profile.counts, profile_windows(log, reference).counts)


def test_more_numbers_than_are_compared_with_the_bounds_at_a_time(
    reference, held_out, as_log, monkeypatch
):
    monkeypatch.setattr(profiles, "FEWEST_SORTED", 1e9)
    log = as_log(held_out)
    many = pd.concat([log] * (2 * profiles.BLOCK // len(log) + 2), ignore_index=True)
    once, often = (profile_windows(rows, reference).counts for rows in (log, many))
    assert (often["n"] == once["n"] * (len(many) // len(log))).all()
    pd.testing.assert_frame_equal(often.drop(columns="n"), once.drop(columns="n"))


@RELAXED
@given(
    edges=st.lists(st.floats(allow_nan=False, allow_infinity=False), unique=True, max_size=300),
    bounds=st.none() | st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)),
    others=st.lists(st.floats(), max_size=20),
)
def test_a_number_is_in_the_bin_between_whose_edges_it_lies(monkeypatch, edges, bounds, others):
    plausible = None if bounds is None else (min(bounds), max(bounds))
    bins = profiles.ColumnBins("x", tuple(sorted(edges)), (), plausible)
    numbers = np.array([*edges, *(bounds or ()), *others, np.inf, -np.inf, np.nan, -0.0])
    numbers = np.concatenate([numbers, np.nextafter(numbers, 1), np.nextafter(numbers, -1)])

    def bin_of(x: float) -> int:
        if np.isnan(x):
            return Fault.MISSING
        if np.isinf(x):
            return Fault.INVALID
        if plausible is not None and not plausible[0] <= x <= plausible[1]:
            return Fault.TOO_LOW if x < plausible[0] else Fault.TOO_HIGH
        return sum(x > edge for edge in edges)

    log = pd.DataFrame(
        {"event_time": pd.Timestamp(0, tz="UTC"), "model_version": "1", "x": numbers}
    )
    column = profiles.ColumnReference(bins, (), (), None, None)
    for fewest in (1, 10_000_000):
        monkeypatch.setattr(profiles, "FEWEST_SORTED", fewest)
        counts = profile_windows(log, Reference(0, 1, (column,), ())).counts
        assert dict(zip(counts["bin"], counts["n"], strict=True)) == Counter(map(bin_of, numbers))
        for row in counts[~counts["bin"].isin([Fault.INVALID, Fault.MISSING])].itertuples():
            own = [x for x in numbers if bin_of(x) == row.bin]
            assert (row.minimum, row.maximum) == (min(own), max(own))


@pytest.mark.parametrize("window", ["1D", "6h", "1min"])
def test_sorted_and_compared_numbers_are_counted_alike(
    window, reference, held_out, as_log, monkeypatch
):
    rng = np.random.default_rng(3)
    log = pd.concat([as_log(held_out, 300)] * 2, ignore_index=True).sample(frac=1, random_state=1)
    log["event_time"] += pd.to_timedelta(rng.integers(0, 86_400, len(log)), unit="s")
    log["model_version"] = rng.choice(["1", "2", "10"], len(log))
    log.loc[rng.random(len(log)) < 0.1, "alcohol"] = np.nan
    log["pH"] = log["pH"].astype(object).where(rng.random(len(log)) < 0.8, "acid")
    found = []
    for fewest in (1e-9, 1e9):
        monkeypatch.setattr(profiles, "FEWEST_SORTED", fewest)
        found.append(profile_windows(log, reference, window))
    pd.testing.assert_frame_equal(found[0].counts, found[1].counts)
    assert {Fault.INVALID, Fault.MISSING} <= set(found[0].counts["bin"])


@RELAXED
@given(records=st.lists(rows, min_size=1, max_size=40))
def test_every_wine_is_in_exactly_one_bin_of_every_column(reference, records):
    log = log_of(records)
    counts = profile_windows(log, reference, "1D").counts
    totals = counts.pivot_table("n", ["window_start", "model_version"], "column", aggfunc="sum")
    assert set(totals.columns) == {*INPUTS, "prediction"}
    wines = log.groupby([window_starts(log["event_time"], "1D"), "model_version"]).size()
    for column in totals:
        assert totals[column].tolist() == wines.tolist()


def test_windows_are_aligned_to_the_epoch_in_utc():
    moments = pd.Series(
        pd.to_datetime(["1969-12-31T23:59:59", "1970-01-01T00:00:00", "2026-03-01T05:59:59"])
    )
    expected = ["1969-12-31T18:00", "1970-01-01", "2026-03-01"]
    assert window_starts(moments, "6h").tolist() == [pd.Timestamp(x, tz="UTC") for x in expected]
    elsewhere = moments.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    pd.testing.assert_series_equal(window_starts(elsewhere, "6h"), window_starts(moments, "6h"))


def test_a_windows_counts_match_the_references_bins(held_out, reference, as_log):
    counts = profile_windows(as_log(held_out), reference).counts
    for column in reference.columns:
        found = plain(counts, column.bins.name)
        assert [found.get(k, 0) for k in range(column.bins.size)] == list(column.counts)
        assert column.n == len(held_out)
    numbers = [c for c in reference.columns if not c.bins.is_category]
    # 1,500 distinct values: twenty bins of 75, give or take one where k/20 is no exact float
    assert all(len(c.counts) == 20 and set(c.counts) <= {74, 75, 76} for c in numbers)


def test_a_bin_holds_its_upper_edge(held_out, reference, as_log):
    edges = reference.column("alcohol").bins.edges
    wines = held_out.head(2).assign(alcohol=[edges[4], np.nextafter(edges[4], 99)])
    assert plain(profile_windows(as_log(wines), reference).counts, "alcohol") == {4: 1, 5: 1}


def test_a_profile_keeps_each_bins_extremes(held_out, reference, as_log):
    counts = profile_windows(as_log(held_out), reference).counts
    alcohol = counts[counts["column"] == "alcohol"]
    assert alcohol["minimum"].min() == held_out["alcohol"].min()
    assert alcohol["maximum"].max() == held_out["alcohol"].max()
    assert counts.loc[counts["column"] == "type", ["minimum", "maximum"]].isna().all(axis=None)


NASTY = {
    "null": [None] * 100,
    "infinite": [np.inf, -np.inf] * 50,
    "text": ["12.1", "dry"] * 50,
    "constant": [10.0] * 100,
    "mixed": [None, "12.1", Decimal("10.5"), 11, [1.0]] * 20,
    "times": list(pd.date_range("2026-01-01", periods=100)),
    "nullable": pd.array([None, 9.5] * 50, dtype="Float64"),
}


@pytest.mark.parametrize("kind", NASTY)
def test_a_bad_column_is_counted_and_leaves_the_others_alone(kind, held_out, reference, as_log):
    log = as_log(held_out.head(100))
    clean = profile_windows(log, reference)
    bad = profile_windows(log.assign(alcohol=NASTY[kind]), reference)
    pd.testing.assert_frame_equal(
        bad.counts[bad.counts["column"] != "alcohol"].reset_index(drop=True),
        clean.counts[clean.counts["column"] != "alcohol"].reset_index(drop=True),
    )
    pd.testing.assert_frame_equal(bad.errors, clean.errors)
    found = plain(bad.counts, "alcohol")
    faults = {Fault(k): n for k, n in found.items() if k < 0}
    assert (
        faults
        == {
            "null": {Fault.MISSING: 100},
            "infinite": {Fault.INVALID: 100},
            "text": {Fault.INVALID: 100},
            "constant": {},
            "mixed": {Fault.MISSING: 20, Fault.INVALID: 40},
            "times": {Fault.INVALID: 100},
            "nullable": {Fault.MISSING: 50},
        }[kind]
    )
    assert sum(found.values()) == 100


@pytest.mark.parametrize("column", [*MEASUREMENT_NAMES, "type", "prediction"])
def test_an_absent_column_is_counted_as_absent(column, held_out, reference, as_log):
    log = as_log(held_out.head(60))
    counts = profile_windows(log.drop(columns=column), reference).counts
    assert plain(counts, column) == {Fault.ABSENT: 60}
    assert (counts.loc[counts["column"] != column, "bin"] >= 0).all()


def test_a_column_the_reference_does_not_know_is_ignored(held_out, reference, as_log):
    log = as_log(held_out.head(60))
    assert_same(
        profile_windows(log.assign(vintage="new"), reference), profile_windows(log, reference)
    )


def test_implausible_numbers_and_unknown_types_have_bins_of_their_own(held_out, reference, as_log):
    log = as_log(held_out.head(5)).assign(
        alcohol=[5.9, 6.0, 17.0, 17.1, 10.0], type=["rosé", ["red"], None, "red", "white"]
    )
    counts = profile_windows(log, reference).counts
    alcohol = plain(counts, "alcohol")
    assert alcohol[Fault.TOO_LOW] == alcohol[Fault.TOO_HIGH] == 1
    assert plain(counts, "type") == {Fault.UNKNOWN: 2, Fault.MISSING: 1, 0: 1, 1: 1}


def test_error_sums_count_labelled_wines_by_type(held_out, reference, as_log):
    log = as_log(held_out.head(6)).assign(
        type=["red", "red", "white", "white", None, "white"],
        prediction=[5.0, 6.5, 7.0, 6.0, 4.0, np.nan],
        quality=pd.array([6, 6, 5, None, 4, 5], dtype="Int64"),
    )
    errors = profile_windows(log, reference).errors.set_index("segment")
    assert errors.loc["red", "labelled":].tolist() == [2, -0.5, 1.5, 1.25, 1.0625, 1, 2]
    assert errors.loc["white", "labelled":].tolist() == [1, 2.0, 2.0, 4.0, 16.0, 0, 0]
    assert errors.loc["other", "labelled":].tolist() == [1, 0.0, 0.0, 0.0, 0.0, 1, 1]


@pytest.mark.parametrize("absent", ["quality", "prediction"])
def test_without_labels_there_are_no_error_sums(absent, held_out, reference, as_log):
    errors = profile_windows(as_log(held_out.drop(columns=absent)), reference).errors
    assert errors.empty
    assert errors.dtypes.astype(str).to_dict() == ERRORS_DTYPES


def test_an_empty_log_gives_empty_typed_tables(held_out, reference, as_log):
    empty = profile_windows(as_log(held_out).head(0), reference)
    assert empty.counts.empty
    assert empty.counts.dtypes.astype(str).to_dict() == COUNTS_DTYPES
    assert empty.errors.dtypes.astype(str).to_dict() == ERRORS_DTYPES
    some = profile_windows(as_log(held_out), reference)
    assert_same(empty.merge(some), some)


@pytest.mark.parametrize("key", ["event_time", "model_version"])
def test_a_prediction_without_time_or_version_is_refused(key, held_out, reference, as_log):
    log = as_log(held_out.head(3)).astype({key: object})
    log.loc[1, key] = None
    with pytest.raises(WineQualityError, match=f"1 predictions have no {key.replace('_', ' ')}"):
        profile_windows(log, reference)
    with pytest.raises(WineQualityError, match=f"no column {key}"):
        profile_windows(log.drop(columns=key), reference)


def test_a_reference_survives_json(reference, held_out):
    gaps = held_out.assign(alcohol=np.nan, pH=3.3, type="rosé")
    for original in (reference, Reference.from_wines(gaps)):
        again = Reference.from_dict(json.loads(json.dumps(original.to_dict(), allow_nan=False)))
        assert again == original
        assert hash(again) == hash(original)


def test_a_broken_reference_is_refused(reference):
    with pytest.raises(WineQualityError, match="stored reference cannot be read"):
        Reference.from_dict({"rows": 3})


def test_a_reference_needs_wines_and_all_columns(held_out):
    with pytest.raises(WineQualityError, match="lacks pH, prediction"):
        Reference.from_wines(held_out.drop(columns=["pH", "prediction"]))
    with pytest.raises(WineQualityError, match="holds no wines"):
        Reference.from_wines(held_out.head(0))


def test_ties_make_fewer_bins_and_a_constant_is_told_from_both_sides(held_out, as_log):
    wines = held_out.assign(pH=3.3, alcohol=np.where(held_out.index % 2, 10.0, 12.0))
    reference = Reference.from_wines(wines)
    assert reference.column("alcohol").bins.size == 4  # below 10, 10, 12, above
    log = as_log(wines.head(3).assign(pH=[3.29, 3.3, 3.31]))
    assert plain(profile_windows(log, reference).counts, "pH") == {0: 1, 1: 1, 2: 1}


def test_repetition_counts_equal_wines(held_out):
    assert Reference.from_wines(held_out).repetition == 1
    twice = pd.concat([held_out, held_out])
    assert Reference.from_wines(twice).repetition == 2
    # 1 500 wines of which one occurs four times: (1499 + 4 * 4) / 1503
    one = pd.concat([held_out, *[held_out.head(1)] * 3])
    assert Reference.from_wines(one).repetition == pytest.approx(1515 / 1503)
