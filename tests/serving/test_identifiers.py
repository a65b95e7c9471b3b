"""Identifiers: ordered, unique, and of version 7 to the bit."""

import threading
from itertools import pairwise
from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from wine_quality.serving.identifiers import Uuid7Generator, uuid7_batch

MILLISECOND = 1_000_000
LAST_MILLISECOND = 2**48 - 2


def milliseconds_of(identifier: UUID) -> int:
    return identifier.int >> 80


@given(
    calls=st.lists(
        st.tuples(st.integers(0, LAST_MILLISECOND), st.integers(0, 300)), min_size=1, max_size=20
    )
)
def test_ids_ascend_and_are_unique_even_when_the_clock_jumps(calls: list[tuple[int, int]]) -> None:
    times = iter([milliseconds * MILLISECOND for milliseconds, _ in calls])
    generator = Uuid7Generator(clock=lambda: next(times))

    made = [identifier for _, n in calls for identifier in generator.batch(n)]

    assert len(made) == sum(n for _, n in calls)
    assert all(a < b for a, b in pairwise(made))
    assert [str(i) for i in made] == sorted(str(i) for i in made)
    assert {i.version for i in made} <= {7}
    assert {i.variant for i in made} <= {RFC_4122}


@given(milliseconds=st.integers(0, LAST_MILLISECOND), n=st.integers(1, 50))
def test_ids_carry_the_time_they_were_made(milliseconds: int, n: int) -> None:
    generator = Uuid7Generator(clock=lambda: milliseconds * MILLISECOND + 999_999)
    assert {milliseconds_of(i) for i in generator.batch(n)} == {milliseconds}


def test_a_used_up_counter_goes_on_in_the_next_millisecond() -> None:
    generator = Uuid7Generator(clock=lambda: 1_000 * MILLISECOND)
    (before,) = generator.batch(1)
    generator._counter = 2**42 - 3
    last = generator.batch(3)
    after = generator.batch(2)
    assert {milliseconds_of(i) for i in [before, *last]} == {1_000}
    assert {milliseconds_of(i) for i in after} == {1_001}
    assert last == sorted(last)
    assert last[-1] < after[0] < after[1]
    assert {i.version for i in [*last, *after]} == {7}


def test_every_new_millisecond_starts_elsewhere_and_leaves_room_to_count() -> None:
    ticks = iter(range(0, 2_000 * MILLISECOND, MILLISECOND))
    generator = Uuid7Generator(clock=lambda: next(ticks))
    starts = set()
    for _ in range(1_000):
        (identifier,) = generator.batch(1)
        high = identifier.int >> 64 & 0xFFF
        low = identifier.int >> 32 & (2**30 - 1)
        starts.add(high << 30 | low)
    assert len(starts) > 990
    assert max(starts) < 2**41
    assert max(starts) > 2**40


def test_threads_never_share_an_id() -> None:
    made: list[list[UUID]] = [[] for _ in range(4)]
    barrier = threading.Barrier(4)

    def work(mine: list[UUID]) -> None:
        barrier.wait()
        for _ in range(50):
            mine.extend(uuid7_batch(40))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({i for mine in made for i in mine}) == 4 * 50 * 40
    assert all(mine == sorted(mine) for mine in made)
