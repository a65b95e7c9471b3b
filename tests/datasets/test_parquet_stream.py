import inspect

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from wine_quality.datasets import ParquetStreamDataset
from wine_quality.traffic.planning import plan_traffic


@pytest.fixture
def dataset(tmp_path):
    return ParquetStreamDataset(filepath=str(tmp_path / "new" / "stream.parquet"))


@pytest.fixture
def stored(store):
    return ParquetStreamDataset(filepath=f"{store.address}/new/stream.parquet")


def frames(*sizes):
    first = 0
    for n in sizes:
        yield pd.DataFrame(
            {
                "name": pd.Series([f"n{i}" if i % 3 else None for i in range(n)], dtype="str"),
                "when": pd.date_range("2026-01-01", periods=n, freq="h", tz="UTC", unit="us"),
                "x": pd.Series(range(first, first + n), dtype="float64"),
                "ok": pd.Series([i % 2 == 0 for i in range(n)], dtype="bool"),
            }
        ).set_axis(pd.RangeIndex(first, first + n))
        first += n


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_what_is_saved_is_loaded_frame_by_frame_as_often_as_wanted(dataset, sizes):
    dataset.save(frames(*sizes))
    stream = dataset.load()
    assert stream.rows == sum(sizes)
    for _ in range(2):
        for loaded, saved in zip(stream, frames(*sizes), strict=True):
            assert_frame_equal(loaded, saved)


def test_empty_frames_leave_the_types_behind(dataset):
    dataset.save(frames(0, 2, 0))
    assert [len(frame) for frame in dataset.load()] == [2]
    dataset.save(frames(0))
    assert list(dataset.load()) == []
    assert dataset.load().rows == 0
    dataset.save([])
    assert dataset.load().rows == 0


def test_the_file_is_replaced_only_by_a_whole_one(dataset, tmp_path):
    dataset.save(frames(3))

    def breaks_off():
        yield from frames(2)
        raise OSError("no more")

    with pytest.raises(Exception, match="no more"):
        dataset.save(breaks_off())
    assert [len(frame) for frame in dataset.load()] == [3]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["stream.parquet"]


def test_a_stream_may_be_read_from_the_file_that_it_replaces(dataset):
    dataset.save(frames(3, 2))
    before = dataset.load()
    dataset.save(frame.head(1) for frame in before)
    assert [len(frame) for frame in dataset.load()] == [1, 1]


def test_an_optional_one_stands_for_nothing(tmp_path):
    path = str(tmp_path / "stream.parquet")
    optional = ParquetStreamDataset(filepath=path, optional=True)
    assert not optional.exists()
    assert list(optional.load()) == []
    assert optional.load().rows == 0
    with pytest.raises(Exception, match="stream"):
        ParquetStreamDataset(filepath=path).load()
    optional.save(frames(1))
    assert optional.exists()
    assert optional.load().rows == 1


def test_the_first_rows_are_shown(dataset):
    # kedro-viz draws a table where the annotation bears this name
    assert inspect.signature(dataset.preview).return_annotation.__name__ == "TablePreview"
    dataset.save(frames(4, 4))
    shown = dataset.preview(nrows=2)
    assert shown["columns"] == ["name", "when", "x", "ok"]
    assert shown["data"][1] == ["n1", "2026-01-01 01:00:00+00:00", 1.0, False]
    dataset.save([])
    assert dataset.preview()["data"] == []


def test_a_hundred_thousand_wines_pass_in_small_parts(dataset):
    from datetime import UTC, datetime, timedelta

    traffic = plan_traffic(
        None,
        samples=100_000,
        start=datetime(2026, 1, 1, tzinfo=UTC),
        duration=timedelta(days=1),
        seed=1,
        chunk_rows=20_000,
    )
    dataset.save(traffic)
    stream = dataset.load()
    assert stream.rows == 100_000
    assert [len(frame) for frame in stream] == [20_000] * 5


# in an object store


def test_a_stream_in_a_store_is_read_from_the_object_that_it_replaces(stored, store):
    assert not stored.exists()
    stored.save(frames(3, 2))
    before = stored.load()
    assert before.rows == 5
    stored.save(frame.head(1) for frame in before)
    assert [len(frame) for frame in stored.load()] == [1, 1]
    assert_frame_equal(next(iter(stored.load())), next(frames(1)))
    assert store.files.find(store.bucket) == [f"{store.bucket}/new/stream.parquet"]
    assert f"{store.address}/new/stream.parquet" in str(stored)


def test_an_object_is_replaced_only_by_a_whole_one(stored, store):
    stored.save(frames(3))

    def breaks_off():
        yield from frames(2)
        raise OSError("no more")

    with pytest.raises(Exception, match="no more"):
        stored.save(breaks_off())
    assert [len(frame) for frame in stored.load()] == [3]
    assert store.files.find(store.bucket) == [f"{store.bucket}/new/stream.parquet"]


def test_a_long_stream_goes_to_a_store_in_parts(stored, store):
    """What is sent at once, and so is held in memory, is a part and not the object."""
    generator = np.random.default_rng(1)
    stored.save(pd.DataFrame({"x": generator.random(500_000)}) for _ in range(14))
    found = store.files.info(f"{store.bucket}/new/stream.parquet")
    assert found["size"] > store.files.default_block_size
    assert sum(len(frame) for frame in stored.load()) == 7_000_000
