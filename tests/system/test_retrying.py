import itertools
from types import SimpleNamespace

import pytest

from wine_quality.system import retrying
from wine_quality.system.retrying import doubling, retry


class Asked:
    """Fails with the given errors, then answers; remembers the pauses."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = 0
        self.pauses = []

    def __call__(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"

    def retry(self, pauses, kind=OSError, **more):
        return retry(
            self,
            may_pass=lambda error: isinstance(error, kind),
            pauses=pauses,
            sleep=self.pauses.append,
            **more,
        )


def test_what_works_is_done_once():
    asked = Asked()
    assert asked.retry(doubling(3)) == "answer"
    assert (asked.calls, asked.pauses) == (1, [])


def test_what_may_pass_is_tried_again_after_longer_and_longer_pauses():
    asked = Asked(OSError("one"), OSError("two"))
    told = []
    assert asked.retry(doubling(3), on_pause=lambda error: told.append(str(error))) == "answer"
    assert (asked.calls, asked.pauses, told) == (3, [1, 2], ["one", "two"])


def test_the_last_error_is_raised():
    asked = Asked(OSError("one"), OSError("two"), OSError("three"), OSError("four"))
    with pytest.raises(OSError, match="three"):
        asked.retry(doubling(3))
    assert asked.calls == 3


def test_what_does_not_pass_is_not_tried_again():
    asked = Asked(KeyError("final"))
    with pytest.raises(KeyError, match="final"):
        asked.retry(doubling(3))
    assert (asked.calls, asked.pauses) == (1, [])


def test_without_pauses_there_is_one_try():
    asked = Asked(OSError("one"))
    with pytest.raises(OSError, match="one"):
        asked.retry([])
    assert asked.calls == 1


def test_an_error_that_names_a_longer_time_is_heeded():
    busy, soon = OSError("busy"), OSError("soon")
    busy.retry_after, soon.retry_after = 7.0, 0.5
    asked = Asked(busy, soon, OSError("one"))
    asked.retry([1, 1, 1])
    assert asked.pauses == [7.0, 1, 1]


@pytest.mark.parametrize("said", [float("nan"), float("inf"), -3.0])
def test_what_no_one_can_wait_for_is_not_heeded(said):
    odd = OSError("odd")
    odd.retry_after = said
    asked = Asked(odd)
    assert asked.retry([1]) == "answer"
    assert asked.pauses == [1]


def test_no_try_begins_after_the_moment_given(monkeypatch):
    monkeypatch.setattr(retrying, "time", SimpleNamespace(monotonic=lambda: 100.0))
    busy = OSError("busy")
    busy.retry_after = 7.5
    told = []
    asked = Asked(busy)
    with pytest.raises(OSError, match="busy"):
        asked.retry([1, 1], until=107.0, on_pause=told.append)
    assert (asked.calls, asked.pauses, told) == (1, [], [])
    asked = Asked(busy)
    assert asked.retry([1, 1], until=108.0) == "answer"
    assert asked.pauses == [7.5]


def test_pauses_double_up_to_the_longest():
    assert list(doubling(6, first=0.5, longest=3)) == [0.5, 1, 2, 3, 3]
    assert list(doubling(1)) == []
    endless = list(itertools.islice(doubling(first=0.1, longest=5), 2000))
    assert endless[-1] == 5


def test_chance_makes_pauses_shorter_by_no_more_than_its_share():
    pauses = list(itertools.islice(doubling(first=2, longest=2, jitter=0.5), 500))
    assert min(pauses) >= 1
    assert max(pauses) <= 2
    assert min(pauses) < 1.1
    assert max(pauses) > 1.9
