import weakref
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wine_quality.drift import profiles
from wine_quality.drift.profile_store import _pack, _unpack
from wine_quality.drift.profiles import (
    HOUR_S,
    Profile,
    count,
    count_batches,
    judged_counts,
    window_profile,
)
from wine_quality.drift.reference import (
    BUCKETS,
    COUNTED_SEGMENTS,
    FAULTS,
    LOWEST,
    ColumnBins,
    Fault,
    Reference,
    parts_name,
)
from wine_quality.drift.settings import DriftSettings
from wine_quality.errors import WineQualityError
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, PARTS_OF_TOTALS, TYPE

RELAXED = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
GRAIN = 6 * HOUR_S
FIELDS = ("event_time", "type", "alcohol", "pH", "prediction", "quality")

moments = st.datetimes(
    min_value=pd.Timestamp("1969-12-30").to_pydatetime(),
    max_value=pd.Timestamp("1970-01-03").to_pydatetime(),
)
numbers = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.floats(5, 20)
anything = numbers | st.text(max_size=3) | st.booleans() | st.just(Decimal("10.5"))
rows = st.fixed_dictionaries(
    {
        "event_time": moments,
        "type": st.sampled_from(["red", "white", "rosé", None, 7]),
        "alcohol": anything,
        "pH": numbers,
        "prediction": st.floats(3, 9),
        "quality": st.none() | st.integers(3, 9),
    }
)


def log_of(records):
    """Wines of which three measurements vary, and the others are an ordinary wine's."""
    frame = pd.DataFrame(records, columns=list(FIELDS))
    usual = dict.fromkeys(MEASUREMENT_NAMES, 1.0) | {"density": 0.995, "fixed_acidity": 7.0}
    rest = {name: value for name, value in usual.items() if name not in FIELDS}
    return frame.assign(**rest).astype({"alcohol": object, "type": object})


def found(profile: Profile, reference: Reference, column: str, row: int = 0) -> dict[int, int]:
    """Wines of all segments in each bin or fault of a column that has any."""
    block = profile.by_segment(row, reference).sum(axis=0)[reference.cells[column]]
    return {k + LOWEST: int(n) for k, n in enumerate(block) if n}


def assert_same(a: Profile, b: Profile, rtol: float = 1e-9) -> None:
    assert a.starts.tolist() == b.starts.tolist()
    assert (a.counts.toarray() == b.counts.toarray()).all()
    np.testing.assert_allclose(a.sums, b.sums, rtol=rtol, atol=1e-9)
    # joint columns far away are known to so many digits only
    np.testing.assert_allclose(a.lows, b.lows, rtol=rtol)
    np.testing.assert_allclose(a.highs, b.highs, rtol=rtol)


@RELAXED
@given(
    first=st.lists(rows, max_size=30),
    second=st.lists(rows, max_size=30),
    third=st.lists(rows, max_size=9),
)
def test_profiles_of_parts_add_up_to_the_profile_of_the_whole(reference, first, second, third):
    a, b, c = (count(log_of(part), reference, GRAIN) for part in (first, second, third))
    whole = count(log_of(first + second + third), reference, GRAIN)
    assert_same(a.merge(b, c), whole)
    assert_same(c.merge(a).merge(b), whole)
    assert_same(Profile.empty(reference).merge(a, b, c), whole)


@RELAXED
@given(parts=st.lists(st.lists(rows, max_size=10), max_size=6), together=st.sampled_from([1, 64]))
def test_a_log_in_parts_is_counted_like_the_whole(reference, parts, together):
    whole = count(log_of([row for part in parts for row in part]), reference, GRAIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiles, "PARTS_TOGETHER", together)
        patch.setattr(profiles, "HOURS_TOGETHER", together)
        assert_same(count_batches(map(log_of, parts), reference, GRAIN), whole)


@RELAXED
@given(records=st.lists(rows, max_size=40))
def test_hours_put_together_are_their_window(reference, records):
    hours = count(log_of(records), reference)
    windows = hours.regroup(hours.starts // GRAIN * GRAIN)
    assert_same(windows, count(log_of(records), reference, GRAIN))


@RELAXED
@given(records=st.lists(rows, max_size=40))
def test_what_is_packed_for_the_database_is_unpacked_bit_by_bit(reference, records):
    profile = count(log_of(records), reference)
    packed = list(zip(profile.starts.tolist(), _pack(profile), strict=True))
    assert_same(_unpack(packed, reference), profile, rtol=0)
    # a part of them, too: the widths do not depend on what is in the rows
    assert_same(_unpack(packed[:1], reference), profile.rows(0, 1), rtol=0)


@RELAXED
@given(records=st.lists(rows, min_size=1, max_size=40))
def test_every_wine_is_in_exactly_one_bin_of_every_column(reference, records):
    log = log_of(records)
    profile = count(log, reference, GRAIN)
    wines = (pd.to_datetime(log["event_time"]).dt.floor("6h")).value_counts().sort_index()
    assert profile.wines.tolist() == wines.tolist()
    for row, n in enumerate(wines):
        by_segment = profile.by_segment(row, reference)
        of_segment = by_segment[:, reference.cells[TYPE]].sum(axis=1)
        assert of_segment.sum() == n == profile.dense(reference)[1][row].sum()
        for place in reference.cells.values():
            assert (by_segment[:, place].sum(axis=1) == of_segment).all()


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

    profile = count_batches(parts(), reference)
    assert len(alive) == 5
    assert_same(profile, count(log, reference))


def test_more_numbers_than_are_compared_with_the_bounds_at_a_time(reference, held_out, as_log):
    log = as_log(held_out)
    times = 2 * profiles.ROWS_TOGETHER // len(log) + 2
    many = pd.concat([log] * times, ignore_index=True)
    once, often = (count(part, reference).counts.toarray() for part in (log, many))
    assert (often == once * times).all()


@RELAXED
@given(
    edges=st.lists(st.floats(allow_nan=False, allow_infinity=False), unique=True, max_size=300),
    bounds=st.none() | st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)),
    others=st.lists(st.floats(), max_size=20),
)
def test_a_number_is_in_the_bin_between_whose_edges_it_lies(edges, bounds, others):
    plausible = None if bounds is None else (min(bounds), max(bounds))
    bins = ColumnBins("x", tuple(sorted(edges)), (), plausible)
    values = np.array([*edges, *(bounds or ()), *others, np.inf, -np.inf, np.nan, -0.0])
    values = np.concatenate([values, np.nextafter(values, 1), np.nextafter(values, -1)])

    def bin_of(x: float) -> int:
        if np.isnan(x):
            return Fault.MISSING
        if np.isinf(x):
            return Fault.INVALID
        if plausible is not None and not plausible[0] <= x <= plausible[1]:
            return Fault.TOO_LOW if x < plausible[0] else Fault.TOO_HIGH
        return sum(x > edge for edge in edges)

    codes = profiles._number_codes(values, bins)
    assert codes.tolist() == [bin_of(x) for x in values]


def test_hours_are_aligned_to_the_epoch_in_utc(reference, held_out):
    moments = pd.Series(
        pd.to_datetime(["1969-12-31T23:59:59", "1970-01-01T00:00:00", "2026-03-01T05:59:59"])
    )
    profile = count(held_out.head(3).assign(event_time=moments), reference, GRAIN)
    expected = ["1969-12-31T18:00", "1970-01-01", "2026-03-01"]
    assert pd.to_datetime(profile.starts, unit="s").tolist() == [pd.Timestamp(x) for x in expected]
    elsewhere = moments.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    assert_same(count(held_out.head(3).assign(event_time=elsewhere), reference, GRAIN), profile)


@pytest.mark.parametrize(
    ("window", "grain"), [("1D", 3600), ("90min", 1800), ("15min", 900), ("50s", 50), ("7h", 3600)]
)
def test_the_grain_divides_hour_and_window(window, grain):
    assert DriftSettings(window=window).calendar.grain == grain


def test_rows_of_a_log_may_come_in_any_order(reference, held_out, as_log):
    log = as_log(held_out, 100)
    shuffled = log.sample(frac=1, random_state=3)
    assert_same(count(shuffled, reference), count(log, reference))
    assert len(count(log, reference)) == 15


def test_some_hours_are_taken_out_by_their_starts(reference, held_out, as_log):
    profile = count(as_log(held_out, 100), reference)
    starts = profile.starts
    part = profile.between(int(starts[3]), int(starts[5]))
    assert part.starts.tolist() == starts[3:5].tolist()
    assert part.wines.tolist() == [100, 100]
    assert len(profile.between(0, 10)) == 0


def test_a_bin_holds_its_upper_edge(held_out, reference):
    edges = reference.bins("alcohol").edges
    wines = held_out.head(2).assign(alcohol=[edges[4], np.nextafter(edges[4], 99)])
    assert found(window_profile(wines, reference), reference, "alcohol") == {4: 1, 5: 1}


def test_a_profile_keeps_the_extremes_of_each_number(held_out, reference):
    profile = window_profile(held_out, reference)
    place = [bins.name for bins in reference.columns].index("alcohol")
    assert profile.lows[0, place] == held_out["alcohol"].min()
    assert profile.highs[0, place] == held_out["alcohol"].max()
    of_type = [bins.name for bins in reference.columns].index(TYPE)
    assert np.isnan([profile.lows[0, of_type], profile.highs[0, of_type]]).all()


NASTY = {
    "null": [None] * 100,
    "infinite": [np.inf, -np.inf] * 50,
    "text": ["12.1", "dry"] * 50,
    "constant": [10.0] * 100,
    "mixed": [None, "12.1", Decimal("10.5"), 11, [1.0]] * 20,
    "times": list(pd.date_range("2026-01-01", periods=100)),
    "nullable": pd.array([None, 9.5] * 50, dtype="Float64"),
    "long": pd.Series([10**400, -(10**400)] * 50, dtype=object),
}


@pytest.mark.parametrize("kind", NASTY)
def test_a_bad_column_is_counted_and_leaves_the_others_alone(kind, held_out, reference):
    wines = held_out.head(100)
    clean = window_profile(wines, reference)
    bad = window_profile(wines.assign(alcohol=NASTY[kind]), reference)
    # these depend on all measurements
    derived = {name for name in reference.cells if name.startswith("joint") or name == "leaf"}
    for column in reference.cells.keys() - derived - {"alcohol"}:
        assert found(bad, reference, column) == found(clean, reference, column)
    errors = reference.sums_layout.errors
    assert (bad.sums[0][errors] == clean.sums[0][errors]).all()
    counts = found(bad, reference, "alcohol")
    assert {
        "null": {Fault.MISSING: 100},
        "infinite": {Fault.INVALID: 100},
        "text": {Fault.INVALID: 100},
        "constant": {},
        "mixed": {Fault.MISSING: 20, Fault.INVALID: 40},
        "times": {Fault.INVALID: 100},
        "nullable": {Fault.MISSING: 50},
        "long": {Fault.INVALID: 100},
    }[kind] == {Fault(k): n for k, n in counts.items() if k < 0}
    assert sum(counts.values()) == 100


@pytest.mark.parametrize("column", [*MEASUREMENT_NAMES, "type", "prediction"])
def test_an_absent_column_is_counted_as_absent(column, held_out, reference):
    profile = window_profile(held_out.head(60).drop(columns=column), reference)
    assert found(profile, reference, column) == {Fault.ABSENT: 60}
    for other in {*INPUTS, "prediction"} - {column}:
        assert min(found(profile, reference, other)) >= 0


def test_a_log_without_any_column_but_the_event_time_is_counted(reference):
    profile = window_profile(pd.DataFrame(index=range(7)), reference)
    assert profile.wines.tolist() == [7]
    assert found(profile, reference, "alcohol") == {Fault.ABSENT: 7}
    assert profile.by_segment(0, reference)[COUNTED_SEGMENTS.index("other")].sum() > 0
    assert not profile.sums.any()


def test_a_column_the_reference_does_not_know_is_ignored(held_out, reference):
    wines = held_out.head(60)
    assert_same(
        window_profile(wines.assign(vintage="new"), reference), window_profile(wines, reference)
    )


def test_implausible_numbers_and_unknown_types_have_bins_of_their_own(held_out, reference):
    wines = held_out.head(5).assign(
        alcohol=[5.9, 6.0, 17.0, 17.1, 10.0], type=["rosé", ["red"], None, "red", "white"]
    )
    profile = window_profile(wines, reference)
    alcohol = found(profile, reference, "alcohol")
    assert alcohol[Fault.TOO_LOW] == alcohol[Fault.TOO_HIGH] == 1
    assert found(profile, reference, "type") == {
        Fault.UNKNOWN: 2, Fault.MISSING: 1, 0: 1, 1: 1
    }  # fmt: skip
    # in what is judged they are in the first and the last bin
    block = profile.by_segment(0, reference).sum(axis=0)[reference.cells["alcohol"]]
    judged = judged_counts(block)
    assert judged.sum() == 5
    assert judged[0] == block[FAULTS] + 1


def test_wines_of_each_type_are_counted_apart(held_out, reference):
    profile = window_profile(held_out.assign(type=["red", "white", "rosé"] * 500), reference)
    assert profile.by_segment(0, reference)[:, reference.cells["pH"]].sum(axis=1).tolist() == [
        500, 500, 500
    ]  # fmt: skip


def test_a_part_that_exceeds_its_total_is_impossible(held_out, reference):
    ((part, whole),) = PARTS_OF_TOTALS
    wines = held_out.head(4).assign(**{part: [10, 20, 20.1, np.nan], whole: 20.0})
    profile = window_profile(wines, reference)
    assert found(profile, reference, parts_name(part, whole)) == {0: 2, 1: 1, Fault.MISSING: 1}


def test_equal_wines_share_a_hash_bucket_and_others_hardly_ever(held_out, reference):
    one = window_profile(pd.concat([held_out.head(1)] * 30), reference)
    assert one.dense(reference)[1][0].max() == 30
    spread = window_profile(held_out, reference).dense(reference)[1][0]
    # 1,500 balls in 256 urns: chi-square of 255 degrees of freedom, at most 5 sd
    chi = ((spread - 1500 / BUCKETS) ** 2 / (1500 / BUCKETS)).sum()
    assert abs(chi - 255) < 5 * np.sqrt(2 * 255)
    zeros = held_out.head(2).assign(**dict.fromkeys(MEASUREMENT_NAMES, 0.0), type="red")
    zeros.loc[1, "pH"] = -0.0
    assert window_profile(zeros, reference).dense(reference)[1][0].max() == 2


def test_error_sums_count_labelled_wines_by_type(held_out, reference):
    wines = held_out.head(6).assign(
        type=["red", "red", "white", "white", None, "white"],
        prediction=[5.0, 6.5, 7.0, 6.0, 4.0, np.nan],
        quality=pd.array([6, 6, 5, None, 4, 5], dtype="Int64"),
    )
    layout, profile = reference.sums_layout, window_profile(wines, reference)
    red, white, other = profile.sums[0][layout.errors].reshape(3, -1).tolist()
    assert red == [2, -0.5, 1.5, 1.25, 1, 2]
    assert white == [1, 2.0, 2.0, 4.0, 0, 0]
    assert other == [1, 0.0, 0.0, 0.0, 1, 1]
    by_leaf = profile.sums[0][layout.by_leaf].reshape(-1, len(layout.BY_LEAF))
    assert by_leaf.sum(axis=0).tolist() == [4, 1.5, 3.5]


def test_an_absurd_prediction_has_a_finite_error(held_out, reference):
    wines = held_out.head(60).assign(prediction=[1e300] * 2 + [6.0] * 58)
    assert np.isfinite(window_profile(wines, reference).sums).all()


@pytest.mark.parametrize("absent", ["quality", "prediction"])
def test_without_labels_there_are_no_error_sums(absent, held_out, reference):
    profile = window_profile(held_out.drop(columns=absent), reference)
    layout = reference.sums_layout
    assert not profile.sums[0][layout.errors].any()
    assert not profile.sums[0][layout.by_leaf].any()
    assert found(profile, reference, "error") == {Fault.MISSING: 1500}


def test_an_empty_log_gives_an_empty_profile(held_out, reference, as_log):
    empty = count(as_log(held_out).head(0), reference)
    assert len(empty) == 0
    assert empty.wines.tolist() == []
    some = count(as_log(held_out), reference)
    assert_same(empty.merge(some), some)
    assert_same(empty.regroup(empty.starts), empty)


def test_a_prediction_without_a_time_is_refused(held_out, reference, as_log):
    log = as_log(held_out.head(3)).astype({"event_time": object})
    log.loc[1, "event_time"] = None
    with pytest.raises(WineQualityError, match="1 predictions have no event time"):
        count(log, reference)
    with pytest.raises(WineQualityError, match="no column event_time"):
        count(log.drop(columns="event_time"), reference)


def test_nothing_is_mutated(held_out, reference, as_log):
    log = as_log(held_out, 100)
    before = log.copy(deep=True)
    profile = count(log, reference)
    counts, sums = profile.counts.toarray(), profile.sums.copy()
    profile.merge(profile).regroup(np.zeros(15, np.int64))
    pd.testing.assert_frame_equal(log, before)
    assert (profile.counts.toarray() == counts).all()
    assert (profile.sums == sums).all()
