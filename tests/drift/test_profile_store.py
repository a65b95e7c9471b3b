import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wine_quality.drift import profile_store
from wine_quality.drift.log_engines import lake_states
from wine_quality.drift.log_reader import LakeReader
from wine_quality.drift.profile_store import ProfileStore, update_profiles
from wine_quality.drift.profiles import HOUR_S, Profile, count
from wine_quality.drift.reference import Reference
from wine_quality.errors import WineQualityError

DAY = timedelta(days=1)
VERSION = "3"
HOURS = 24
"""Hours of a day: a lake's files tell days, so that all of a day's hours are looked through."""


@pytest.fixture
def log(held_out: pd.DataFrame, as_log) -> pd.DataFrame:
    """Twenty days of thirty wines, a third of them unlabelled."""
    log = as_log(held_out.head(600), 30)
    labelled = pd.Series(range(600)) % 3 > 0
    return log.assign(
        quality=log["quality"].where(labelled),
        labelled_at=(log["event_time"] + DAY).where(labelled),
    )


@pytest.fixture
def lake(log: pd.DataFrame, tmp_path: Path) -> Path:
    for day, part in log.groupby(log["event_time"].dt.strftime("%Y-%m-%d")):
        write_day(tmp_path / "lake", str(day), part)
    return tmp_path / "lake"


def write_day(lake: Path, day: str, part: pd.DataFrame, name: str = "part-0") -> None:
    (lake / f"day={day}").mkdir(parents=True, exist_ok=True)
    part.to_parquet(lake / f"day={day}" / f"{name}.parquet", index=False)


def run(url: str, lake: Path, reference: Reference, grain: int = HOUR_S) -> int:
    """One run of the monitoring: how many hours it counted."""
    with ProfileStore(url) as store:
        states = lake_states(str(lake), [VERSION], f"{grain}s")
        with closing(LakeReader(str(lake), "duckdb")) as log:
            return update_profiles(store, log, {VERSION: reference}, states, grain)


def assert_stored(url: str, log: pd.DataFrame, reference: Reference, grain: int = HOUR_S) -> None:
    with ProfileStore(url) as store:
        stored = store.load(VERSION, reference, grain)
    expected = count(log, reference, grain)
    assert stored.starts.tolist() == expected.starts.tolist()
    assert (stored.counts != expected.counts).nnz == 0
    np.testing.assert_array_equal(stored.lows, expected.lows)
    np.testing.assert_array_equal(stored.highs, expected.highs)
    np.testing.assert_allclose(stored.sums, expected.sums, rtol=1e-9, atol=1e-9)


def test_a_second_run_counts_only_what_changed(url, lake, log, reference):
    days = sorted(log["event_time"].dt.strftime("%Y-%m-%d").unique())
    assert run(url, lake, reference) == len(days) * HOURS
    assert_stored(url, log, reference)
    assert run(url, lake, reference) == 0
    # late labels: a day is rewritten
    late = log.assign(quality=log["quality"].fillna(6.0))
    of_day = late["event_time"].dt.strftime("%Y-%m-%d") == days[4]
    write_day(lake, days[4], late[of_day])
    # and a new day
    extra = log.head(10).assign(event_time=log["event_time"].max() + DAY)
    write_day(lake, f"{extra['event_time'].iloc[0]:%Y-%m-%d}", extra)
    assert run(url, lake, reference) == 2 * HOURS
    assert_stored(url, pd.concat([late.where(of_day, log), extra]), reference)


def test_hours_of_any_length_stand_beside_each_other(url, lake, log, reference):
    assert run(url, lake, reference, 900) == 20 * 4 * HOURS
    assert run(url, lake, reference, HOUR_S) == 20 * HOURS
    assert_stored(url, log, reference, 900)
    assert_stored(url, log, reference, HOUR_S)


def test_another_reference_counts_for_itself_and_keeps_the_other(
    url, lake, log, reference, draw_wines
):
    other = Reference.from_wines(draw_wines(800, 9))
    assert other.fingerprint != reference.fingerprint
    run(url, lake, reference)
    assert run(url, lake, other) == 20 * HOURS
    assert_stored(url, log, reference)
    assert_stored(url, log, other)
    last = int(log["event_time"].max().floor("1h").timestamp())
    with ProfileStore(url) as store:
        assert store.load(VERSION, other, HOUR_S, since=last).starts.tolist() == [last]


def test_a_log_that_was_shortened_loses_no_count(lake, log, reference, url):
    with (
        ProfileStore(url) as store,
        closing(LakeReader(str(lake), "duckdb")) as reader,
    ):
        states = reader.states("3600s", [VERSION])
        count_all = {VERSION: reference}
        assert update_profiles(store, reader, count_all, states, HOUR_S) == 20 * HOURS
        assert update_profiles(store, reader, count_all, states, HOUR_S) == 0
        assert update_profiles(store, reader, count_all, states.head(3), HOUR_S) == 0
        with pytest.raises(WineQualityError, match="no reference is known of the versions 3"):
            update_profiles(store, reader, {}, states, HOUR_S)
    assert_stored(url, log, reference)


def test_hours_that_were_counted_again_are_to_be_judged_until_they_were(url, reference, log):
    profile = count(log, reference, HOUR_S)
    first, second, third = profile.starts[:3].tolist()

    def states(word, *starts):
        return dict.fromkeys(starts, word)

    with ProfileStore(url) as store:
        store.replace(
            VERSION, reference, HOUR_S, states("a", first, second), profile.rows(0, 2),
            is_first=True,
        )  # fmt: skip
        assert store.recounted(VERSION, reference, HOUR_S) == {}
        store.replace(VERSION, reference, HOUR_S, states("b", second, third), profile.rows(1, 3))
        seen = store.recounted(VERSION, reference, HOUR_S)
        assert seen == states("b", second, third)
        # another run counts again, while the verdicts are reached
        store.replace(VERSION, reference, HOUR_S, states("c", third), profile.rows(2, 3))
        store.mark_judged(VERSION, reference, HOUR_S, seen)
        assert store.recounted(VERSION, reference, HOUR_S) == states("c", third)
        store.mark_judged(VERSION, reference, HOUR_S, states("c", third))
        assert store.recounted(VERSION, reference, HOUR_S) == {}


def test_a_reference_is_kept_once(url, reference, held_out):
    with ProfileStore(url) as store:
        assert store.reference("wine-quality/3/abc") is None
        store.keep_reference("wine-quality/3/abc", reference)
        store.keep_reference("wine-quality/3/abc", Reference.from_wines(held_out.head(500)))
        assert store.reference("wine-quality/3/abc") == reference


def killed_run(url: str, lake: Path, reference: Reference, spans: int) -> None:
    """A run that dies after so many spans, in the middle of the next one's transaction."""
    pack, done = profile_store._pack, []

    def packed(profile: Profile) -> Iterator[bytes]:
        done.append(profile)
        if len(done) > spans:
            os.kill(os.getpid(), signal.SIGKILL)
        return pack(profile)

    profile_store._pack = packed
    run(url, lake, reference)


def test_a_killed_run_loses_no_hour_and_doubles_none(url, lake, log, reference):
    context = multiprocessing.get_context("spawn")
    victim = context.Process(target=killed_run, args=(url, lake, reference, 1))
    victim.start()
    victim.join(120)
    assert victim.exitcode == -signal.SIGKILL
    with ProfileStore(url) as store:
        kept = len(store.states(VERSION, reference, HOUR_S))
    # one span of seven days was committed, the second was being written
    assert kept == 7 * HOURS
    assert run(url, lake, reference) == 20 * HOURS - kept
    assert_stored(url, log, reference)


def test_two_runs_at_once_store_each_hour_once(url, lake, log, reference):
    start, counted, failed = threading.Barrier(2), [], []

    def one() -> None:
        try:
            start.wait(30)
            counted.append(run(url, lake, reference))
        except BaseException as error:
            failed.append(error)

    runs = [threading.Thread(target=one) for _ in range(2)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join(120)
    assert not failed
    assert len(counted) == 2
    assert_stored(url, log, reference)
    assert run(url, lake, reference) == 0


def test_places_that_hold_no_profiles_are_refused(tmp_path):
    with pytest.raises(WineQualityError, match="cannot be kept in mysql"):
        ProfileStore("mysql://host/log")
    (tmp_path / "day=soon").mkdir()
    (tmp_path / "day=soon" / "a.parquet").touch()
    with pytest.raises(WineQualityError, match="names no day"):
        lake_states(str(tmp_path), ["1"])
