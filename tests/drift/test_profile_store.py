import multiprocessing
import os
import signal
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from wine_quality.drift import profile_store
from wine_quality.drift.log_reader import LakeReader
from wine_quality.drift.profile_store import (
    ProfileStore,
    lake_states,
    reference_fingerprint,
    update_profiles,
)
from wine_quality.drift.profiles import Reference, profile_windows
from wine_quality.errors import WineQualityError

DAY = timedelta(days=1)
VERSION = "3"


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


def run(url: str, lake: Path, reference: Reference, window: str = "1D") -> list[str]:
    """One run of the monitoring: the days it counted."""
    with ProfileStore(url) as store:
        states = lake_states(str(lake), [VERSION], window)
        with closing(LakeReader(str(lake), "duckdb")) as log:
            counted = update_profiles(store, log, {VERSION: reference}, states, window)
    return [f"{start:%Y-%m-%d}" for start in counted["window_start"]]


def assert_stored(url: str, log: pd.DataFrame, reference: Reference, window: str = "1D") -> None:
    with ProfileStore(url) as store:
        stored = store.load(VERSION, reference, window)
    expected = profile_windows(log, reference, window)
    keys = ["window_start", "segment"]
    for found, wanted in ((stored.counts, expected.counts), (stored.errors, expected.errors)):
        by = [name for name in ("window_start", "column", "bin", "segment") if name in found]
        pd.testing.assert_frame_equal(
            found.sort_values(by, ignore_index=True),
            wanted.sort_values(by, ignore_index=True),
            rtol=1e-9,
        )
    assert not stored.errors.duplicated(keys).any()


def test_a_second_run_counts_only_what_changed(url, lake, log, reference):
    days = sorted(log["event_time"].dt.strftime("%Y-%m-%d").unique())
    assert run(url, lake, reference) == days
    assert_stored(url, log, reference)
    assert run(url, lake, reference) == []
    # late labels: a day is rewritten
    late = log.assign(quality=log["quality"].fillna(6.0))
    of_day = late["event_time"].dt.strftime("%Y-%m-%d") == days[4]
    write_day(lake, days[4], late[of_day])
    # and a new day
    extra = log.head(10).assign(event_time=log["event_time"].max() + DAY)
    new = f"{extra['event_time'].iloc[0]:%Y-%m-%d}"
    write_day(lake, new, extra)
    assert run(url, lake, reference) == [days[4], new]
    assert_stored(url, pd.concat([late.where(of_day, log), extra]), reference)


def test_windows_of_any_length_follow_the_days_they_touch(url, lake, log, reference):
    assert len(run(url, lake, reference, "7D")) == 4
    # quarters of a day, empty ones included
    assert len(run(url, lake, reference, "6h")) == 80
    assert_stored(url, log, reference, "7D")
    assert_stored(url, log, reference, "6h")
    write_day(lake, "2026-03-02", log.iloc[30:31], "part-1")
    assert len(run(url, lake, reference, "6h")) == 4
    assert run(url, lake, reference, "7D") == ["2026-02-26"]


def test_another_reference_counts_anew_and_keeps_the_old(url, lake, log, reference, draw_wines):
    other = Reference.from_wines(draw_wines(800, 9))
    assert reference_fingerprint(other) != reference_fingerprint(reference)
    run(url, lake, reference)
    assert len(run(url, lake, other)) == 20
    assert_stored(url, log, reference)
    assert_stored(url, log, other)
    with ProfileStore(url) as store:
        later = store.load(VERSION, other, "1D", since=log["event_time"].max().normalize())
    assert set(later.counts["window_start"]) == {log["event_time"].max().normalize()}


def test_rows_tell_the_states_of_a_database(lake, log, reference, url):
    with (
        ProfileStore(url) as store,
        closing(LakeReader(str(lake), "duckdb")) as reader,
    ):
        states = reader.states("1D", [VERSION])
        assert len(update_profiles(store, reader, {VERSION: reference}, states)) == 20
        assert update_profiles(store, reader, {VERSION: reference}, states).empty
        # the log was shortened: what was counted stays
        assert update_profiles(store, reader, {VERSION: reference}, states.head(3)).empty
    assert_stored(url, log, reference)


def killed_run(url: str, lake: Path, reference: Reference, spans: int) -> None:
    """A run that dies after so many spans, in the middle of the next one's transaction."""
    insert, done = profile_store._rows, []

    def rows(frame: pd.DataFrame) -> list[dict]:
        done.append(frame)
        if len(done) > 2 * spans + 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return insert(frame)

    profile_store._rows = rows
    run(url, lake, reference)


def test_a_killed_run_loses_no_window_and_doubles_none(url, lake, log, reference):
    context = multiprocessing.get_context("spawn")
    victim = context.Process(target=killed_run, args=(url, lake, reference, 1))
    victim.start()
    victim.join(120)
    assert victim.exitcode == -signal.SIGKILL
    with ProfileStore(url) as store:
        kept = store.load(VERSION, reference, "1D").counts["window_start"].nunique()
    # one span of seven days was committed, the second was being written
    assert kept == 7
    assert len(run(url, lake, reference)) == 20 - kept
    assert_stored(url, log, reference)


def test_two_runs_at_once_store_each_window_once(url, lake, log, reference):
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
    assert run(url, lake, reference) == []


def test_places_that_hold_no_profiles_are_refused(tmp_path):
    with pytest.raises(WineQualityError, match="cannot be kept in mysql"):
        ProfileStore("mysql://host/log")
    (tmp_path / "day=soon").mkdir()
    (tmp_path / "day=soon" / "a.parquet").touch()
    with pytest.raises(WineQualityError, match="names no day"):
        lake_states(str(tmp_path), ["1"])
