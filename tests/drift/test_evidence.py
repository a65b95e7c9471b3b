from dataclasses import replace

import numpy as np
import pytest

from wine_quality.drift import evidence
from wine_quality.drift.evidence import Aspect, Stream, StreamKind, detect
from wine_quality.errors import WineQualityError

CELLS = 20
EVEN = np.full(CELLS, 1 / CELLS)
RANK = np.arange(CELLS) - (CELLS - 1) / 2
RANK = RANK / RANK.std()
RATE = 85
DAY = 24


def number(name, m=6500, seed=0, **more):
    """A stream of a number with even bins, and its reference drawn at random."""
    counts = np.random.default_rng([seed, 99]).multinomial(m, EVEN)
    return Stream(name, StreamKind.ORDINAL, tuple(counts.tolist()), **more)


def shifted(by):
    """Shares whose mean rank lies `by` standard deviations higher."""
    return EVEN * (1 + by * RANK)


def wider(by):
    return EVEN * (1 + by * (RANK**2 - 1))


def draw(rng, *stretches, rate=RATE):
    """Counts of stretches of (hours, shares) one after the other."""
    return np.concatenate([rng.multinomial(rate, p, hours) for hours, p in stretches])


def test_quiet_months_keep_the_promise_together():
    # five a month, so that few months say whether it is kept
    alerts, months = 0, 12
    for seed in range(months):
        rng = np.random.default_rng(seed)
        streams = [number(f"c{k}", 1300, seed * 100 + k) for k in range(8)]
        streams.append(Stream("type", StreamKind.NOMINAL, (320, 980)))
        streams.append(Stream("missing", StreamKind.FAULT, (1295, 5)))
        counts = [draw(rng, (720, EVEN)) for _ in range(8)]
        counts += [draw(rng, (720, [0.25, 0.75])), draw(rng, (720, [0.995, 0.005]))]
        alerts += len(detect(streams, counts, false_alerts_per_month=5).alerts)
    assert 0 < alerts <= 5 * months


@pytest.mark.parametrize("direction", [-1, 1])
def test_a_shift_is_found_named_and_dated(direction):
    rng = np.random.default_rng(1)
    streams = [number("alcohol"), number("pH", seed=1)]
    start = 7 * DAY
    counts = [
        draw(rng, (start, EVEN), (3 * DAY, shifted(0.25 * direction))),
        draw(rng, (start + 3 * DAY, EVEN)),
    ]
    (alert,) = detect(streams, counts).alerts
    change = alert.changes[0]
    assert (change.stream, change.aspect, change.cell) == ("alcohol", Aspect.LEVEL, None)
    assert {c.stream for c in alert.changes} == {"alcohol"}
    assert start <= alert.hour < start + 10
    assert alert.onset == (change.earliest, change.onset, change.latest)
    assert change.earliest <= start <= change.latest <= alert.hour
    assert change.direction == direction
    assert change.before == pytest.approx(0, abs=0.05)
    assert change.after - change.before == pytest.approx(0.25 * direction, abs=0.15)
    assert alert.resolved is None


def test_a_wider_column_is_found_though_its_mean_stays():
    rng = np.random.default_rng(2)
    counts = [draw(rng, (7 * DAY, EVEN), (2 * DAY, wider(0.3)))]
    (alert,) = detect([number("alcohol")], counts).alerts
    assert (alert.changes[0].aspect, alert.changes[0].direction) == (Aspect.SPREAD, 1)


def test_of_categories_the_one_that_grew_is_named():
    rng = np.random.default_rng(3)
    before, after = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.5, 0.3, 0.05, 0.15])
    leaf = Stream("leaf", StreamKind.NOMINAL, tuple((6500 * before).astype(int).tolist()))
    (alert,) = detect([leaf], [draw(rng, (7 * DAY, before), (2 * DAY, after))]).alerts
    directions = {change.cell: change.direction for change in alert.changes}
    assert directions == {2: -1, 3: 1}
    grown = next(c for c in alert.changes if c.cell == 3)
    assert grown.before == pytest.approx(0.05, abs=0.01)
    assert grown.after == pytest.approx(0.15, abs=0.06)


def test_two_categories_are_one_share():
    rng = np.random.default_rng(3)
    kind = Stream("type", StreamKind.NOMINAL, (4900, 1600))
    counts = [draw(rng, (7 * DAY, [0.754, 0.246]), (2 * DAY, [0.6, 0.4]))]
    (alert,) = detect([kind], counts).alerts
    assert [(c.cell, c.direction) for c in alert.changes] == [(1, 1)]


@pytest.mark.parametrize("in_reference", [0, 30])
def test_a_share_of_faults_is_found_within_hours_and_its_end_is_no_alert(in_reference):
    rng = np.random.default_rng(4)
    usual = [1 - in_reference / 6500, in_reference / 6500]
    stream = Stream("pH: missing", StreamKind.FAULT, (6500 - in_reference, in_reference))
    counts = [draw(rng, (7 * DAY, usual), (DAY, [0.97, 0.03]), (10 * DAY, usual))]
    (alert,) = detect([stream], counts).alerts
    assert 7 * DAY <= alert.hour < 7 * DAY + 8
    assert (alert.changes[0].aspect, alert.changes[0].cell) == (Aspect.SHARE, 1)
    assert alert.resolved is not None
    assert 8 * DAY <= alert.resolved < 9 * DAY


def test_fewer_faults_than_usual_are_no_alert():
    rng = np.random.default_rng(4)
    stream = Stream("pH: missing", StreamKind.FAULT, (6000, 500))
    counts = [draw(rng, (7 * DAY, [12 / 13, 1 / 13]), (7 * DAY, [1, 0]))]
    assert not detect([stream], counts).alerts


def test_an_alert_is_resolved_after_the_change_and_not_before():
    rng = np.random.default_rng(5)
    start, end = 7 * DAY, 17 * DAY
    counts = [draw(rng, (start, EVEN), (end - start, shifted(0.3)), (5 * DAY, EVEN))]
    found = detect([number("alcohol")], counts)
    (alert,) = found.alerts
    assert alert.resolved is not None
    assert end <= alert.resolved < end + DAY
    level = [c for c in alert.changes if c.aspect is Aspect.LEVEL]
    assert [c.resolved for c in level] == [alert.resolved]


def test_a_change_that_loses_a_third_of_its_size_goes_on():
    rng = np.random.default_rng(6)
    counts = [draw(rng, (7 * DAY, EVEN), (3 * DAY, shifted(0.3)), (20 * DAY, shifted(0.2)))]
    alerts = detect([number("alcohol")], counts).alerts
    assert [alert.resolved for alert in alerts] == [None]


def test_a_change_that_turns_round_is_a_second_alert():
    rng = np.random.default_rng(7)
    counts = [draw(rng, (7 * DAY, EVEN), (3 * DAY, shifted(0.3)), (3 * DAY, shifted(-0.3)))]
    first, second = detect([number("alcohol")], counts).alerts
    assert (first.changes[0].direction, second.changes[0].direction) == (1, -1)
    assert first.resolved is not None
    assert 10 * DAY <= first.resolved <= second.hour < 11 * DAY
    assert second.changes[0].earliest > first.resolved


def test_what_is_open_does_not_hide_a_later_change():
    rng = np.random.default_rng(8)
    streams = [number(name, seed=k) for k, name in enumerate("abc")]
    counts = [
        draw(rng, (7 * DAY, EVEN), (7 * DAY, shifted(0.5))),
        draw(rng, (11 * DAY, EVEN), (3 * DAY, shifted(0.3))),
        draw(rng, (14 * DAY, EVEN)),
    ]
    found = detect(streams, counts)
    first, second = found.alerts
    assert {c.stream for c in first.changes} == {"a"}
    assert {c.stream for c in second.changes} == {"b"}
    assert first.hour < 7 * DAY + 5
    assert 11 * DAY <= second.hour < 12 * DAY
    assert found.log_evidence[first.hour, 0] >= found.log_threshold
    assert (found.log_evidence[first.hour + 1 :, 0] < found.log_threshold).all()


def test_what_began_at_the_same_time_joins_the_alert():
    rng = np.random.default_rng(9)
    streams = [number(name, seed=k) for k, name in enumerate("ab")]
    counts = [
        draw(rng, (7 * DAY, EVEN), (4 * DAY, shifted(0.5))),
        draw(rng, (7 * DAY, EVEN), (4 * DAY, shifted(0.2))),
    ]
    (alert,) = detect(streams, counts).alerts
    fast, slow = (next(c for c in alert.changes if c.stream == name) for name in "ab")
    assert fast.alerted == alert.hour < slow.alerted


@pytest.mark.parametrize("errors", [-4, 4])
def test_the_references_own_error_is_learnt_and_a_change_on_top_found(errors):
    rng = np.random.default_rng(10)
    m = 1300
    offset = errors / np.sqrt(m)
    reference = Stream("alcohol", StreamKind.ORDINAL, (m // CELLS,) * CELLS)
    months = [draw(rng, (90 * DAY, shifted(offset))) for _ in range(4)]
    assert sum(len(detect([reference], [counts]).alerts) for counts in months) <= 4 * 3
    later = np.concatenate([months[0][: 30 * DAY], draw(rng, (DAY, shifted(offset + 0.2)))])
    change = detect([reference], [later]).alerts[-1].changes[0]
    assert change.alerted >= 30 * DAY
    assert change.before == pytest.approx(offset, abs=0.02)


def test_a_shift_that_is_there_from_the_first_hour_is_found():
    counts = [draw(np.random.default_rng(11), (3 * DAY, shifted(0.25)))]
    alert = detect([number("alcohol")], counts).alerts[0]
    assert alert.onset[0] == 0
    assert alert.hour < DAY


def test_a_slow_change_is_not_learnt_as_normal():
    rng = np.random.default_rng(12)
    days = [(DAY, shifted(0.01 * day)) for day in range(31)]
    alerts = detect([number("alcohol")], [draw(rng, (7 * DAY, EVEN), *days)]).alerts
    assert alerts
    assert alerts[0].changes[0].direction == 1


@pytest.mark.parametrize("rate", [0, 1])
def test_waiting_alone_is_no_evidence(rate):
    rng = np.random.default_rng(13)
    streams = [number(f"c{k}", seed=k) for k in range(5)]
    found = detect(streams, [draw(rng, (2000, EVEN), rate=rate) for _ in streams])
    assert not found.alerts
    assert found.log_evidence.max() < found.log_threshold


def test_hours_without_wines_change_nothing():
    rng = np.random.default_rng(14)
    streams = [number("alcohol")]
    counts = draw(rng, (5 * DAY, EVEN), (DAY, shifted(0.3)))
    spaced = np.zeros((2 * len(counts), CELLS), dtype=int)
    spaced[::2] = counts
    dense, sparse = detect(streams, [counts]), detect(streams, [spaced])
    np.testing.assert_allclose(sparse.log_evidence[::2], dense.log_evidence)
    assert [a.hour // 2 for a in sparse.alerts] == [a.hour for a in dense.alerts]


def busy():
    """Streams of all kinds with changes that begin and end."""
    rng = np.random.default_rng(15)
    streams = [
        number("a"),
        Stream("kind", StreamKind.NOMINAL, (3000, 2500, 1000)),
        number("b", 1300, seed=5, weight=0.5),
        Stream("b: missing", StreamKind.FAULT, (1300, 0), repetition=1.2),
    ]
    usual, sound = np.array([30, 25, 10]) / 65, [1.0, 0.0]
    counts = [
        draw(rng, (100, EVEN), (60, shifted(0.5)), (90, EVEN)),
        draw(rng, (150, usual), (40, [0.3, 0.3, 0.4]), (60, usual)),
        draw(rng, (100, EVEN), (100, wider(0.5)), (50, shifted(-0.5))),
        draw(rng, (160, sound), (20, [0.9, 0.1]), (70, sound)),
    ]
    return streams, counts


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_the_result_does_not_depend_on_chunks(monkeypatch, chunk):
    streams, counts = busy()
    whole = detect(streams, counts)
    assert len(whole.alerts) >= 4
    assert sum(alert.resolved is not None for alert in whole.alerts) >= 3
    monkeypatch.setattr(evidence, "CHUNK_HOURS", chunk)
    parts = detect(streams, counts)
    assert parts.alerts == whole.alerts
    np.testing.assert_allclose(parts.log_evidence, whole.log_evidence)


@pytest.mark.parametrize("hours", [120, 171, 249])
def test_the_past_does_not_depend_on_the_future(hours):
    streams, counts = busy()
    whole, past = detect(streams, counts), detect(streams, [table[:hours] for table in counts])
    np.testing.assert_allclose(past.log_evidence, whole.log_evidence[:hours])
    known = [
        replace(
            alert,
            changes=tuple(
                replace(
                    change,
                    resolved=None if (change.resolved or hours) >= hours else change.resolved,
                )
                for change in alert.changes
                if change.alerted < hours
            ),
        )
        for alert in whole.alerts
        if alert.hour < hours
    ]
    assert list(past.alerts) == known


def test_the_order_of_the_streams_does_not_matter():
    streams, counts = busy()
    there, back = detect(streams, counts), detect(streams[::-1], counts[::-1])
    np.testing.assert_allclose(back.log_evidence[:, ::-1], there.log_evidence)
    assert [a.hour for a in back.alerts] == [a.hour for a in there.alerts]
    assert [set(a.changes) for a in back.alerts] == [set(a.changes) for a in there.alerts]


def test_copies_within_an_hour_count_once_where_they_are_said():
    streams = [number(f"c{k}", seed=k) for k in range(5)]
    once = [draw(np.random.default_rng(16 + k), (480, EVEN), rate=25) for k in range(len(streams))]
    copied = [4 * table for table in once]
    assert len(detect(streams, copied).alerts) > 5
    said, plain = detect(streams, copied, effective=np.full(480, 0.25)), detect(streams, once)
    np.testing.assert_allclose(said.log_evidence, plain.log_evidence)
    assert said.alerts == plain.alerts


def test_a_reference_that_repeats_its_wines_knows_less():
    counts = [draw(np.random.default_rng(17), (10 * DAY, shifted(0.12)))]
    sure = Stream("alcohol", StreamKind.ORDINAL, (325,) * CELLS)
    assert detect([sure], counts).alerts
    assert not detect([replace(sure, repetition=8.0)], counts).alerts


def test_streams_that_cannot_be_judged_are_left_out():
    rng = np.random.default_rng(18)
    streams = [
        Stream("few", StreamKind.ORDINAL, (1,) * CELLS),
        number("alcohol"),
        Stream("constant", StreamKind.ORDINAL, (500,)),
    ]
    wide = draw(rng, (5 * DAY, EVEN), (DAY, shifted(0.5)))
    constant = np.full((6 * DAY, 1), RATE)
    found = detect(streams, [wide, wide, constant])
    assert np.isnan(found.log_evidence[:, [0, 2]]).all()
    assert {c.stream for a in found.alerts for c in a.changes} == {"alcohol"}
    none = detect(streams[:1], [wide])
    assert not none.alerts
    assert np.isnan(none.log_evidence).all()


def test_no_hours_are_no_evidence():
    found = detect([number("alcohol")], [np.zeros((0, CELLS))])
    assert found.log_evidence.shape == (0, 1)
    assert not found.alerts


def test_a_stricter_promise_alerts_later():
    counts = [draw(np.random.default_rng(19), (7 * DAY, EVEN), (5 * DAY, shifted(0.15)))]
    hours = [
        detect([number("alcohol")], counts, false_alerts_per_month=few).alerts[0].hour
        for few in (10, 1, 0.01)
    ]
    assert hours == sorted(set(hours))


def test_any_counts_give_numbers():
    # absurd traffic: everything in one cell, a million wines an hour, then silence
    table = np.zeros((60, CELLS), dtype=np.int64)
    table[::3, 0] = 1_000_000
    table[1::3, -1] = 1_000_000
    fault = np.zeros((60, 2), dtype=np.int64)
    fault[:30, 1] = 1_000_000
    streams = [number("alcohol"), Stream("missing", StreamKind.FAULT, (6500, 0))]
    with np.errstate(all="raise", under="ignore"):
        found = detect(streams, [table, fault])
    assert not np.isnan(found.log_evidence).any()
    assert found.alerts[0].hour == 0


STREAM = Stream("alcohol", StreamKind.ORDINAL, (100,) * CELLS)
COUNTS = np.ones((10, CELLS), dtype=int)


@pytest.mark.parametrize(
    ("streams", "counts", "more", "message"),
    [
        ([], [], {}, "0 streams"),
        ([STREAM], [COUNTS, COUNTS], {}, "1 streams and counts of 2"),
        ([STREAM, STREAM], [COUNTS, COUNTS], {}, "same name"),
        ([STREAM], [COUNTS[:, 1:]], {}, r"alcohol have the shape \(10, 19\)"),
        ([STREAM], [COUNTS], {"false_alerts_per_month": 0}, "false_alerts_per_month is 0"),
        ([replace(STREAM, weight=0)], [COUNTS], {}, "weight 0"),
        ([replace(STREAM, repetition=0.5)], [COUNTS], {}, "repetition 0.5"),
        ([replace(STREAM, kind=StreamKind.FAULT)], [COUNTS], {}, "a fault has 2"),
        ([STREAM], [COUNTS], {"effective": np.ones(9)}, "effective must hold 10 numbers"),
        ([STREAM], [COUNTS], {"effective": np.full(10, 1.5)}, "effective must hold 10 numbers"),
    ],
)
def test_mistakes_are_said_in_a_line(streams, counts, more, message):
    with pytest.raises(WineQualityError, match=message):
        detect(streams, counts, **more)
