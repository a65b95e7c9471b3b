from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from pandas.testing import assert_frame_equal

from wine_quality.drift.log_reader import (
    LABELLED_DTYPES,
    LOT_DIGITS,
    DatabaseReader,
    LakeReader,
    LogReader,
)
from wine_quality.errors import WineQualityError
from wine_quality.serving.log_schema import (
    GROUND_TRUTH,
    METADATA,
    PREDICTIONS,
    labelled_predictions,
)
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, PREDICTION, QUALITY

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
LABELLED = list(LABELLED_DTYPES)
COLUMNS = ("event_time", "model_version", *INPUTS, PREDICTION, QUALITY, "labelled_at")


@pytest.fixture(scope="module")
def log(draw_wines) -> pd.DataFrame:
    """Three days of 200 wines in no order; half of them labelled a day later."""
    rng = np.random.default_rng(4)
    wines = draw_wines(600, 8)
    wines.loc[rng.random(600) < 0.05, "alcohol"] = np.nan
    moments = pd.Timestamp(START) + pd.to_timedelta(rng.permutation(600) * 432 + 1, unit="s")
    labelled = rng.random(600) < 0.5
    return wines.assign(
        prediction_id=[str(UUID(bytes=rng.bytes(16), version=4)) for _ in range(600)],
        event_time=pd.Series(moments).dt.as_unit("us"),
        source=np.where(rng.random(600) < 0.5, "shop", "lab"),
        model_version=np.where(rng.random(600) < 0.8, "10", "9"),
        quality=wines["quality"].where(labelled),
        labelled_at=pd.Series(moments).dt.as_unit("us").where(labelled) + DAY,
    )


def write_database(url: str, log: pd.DataFrame) -> None:
    rows = log.assign(
        prediction_id=log["prediction_id"].map(UUID),
        received_at=START,
        latency_ms=1.0,
    )
    labels = rows.dropna(subset=QUALITY)[["prediction_id", QUALITY, "labelled_at"]]
    engine = sa.create_engine(url)
    METADATA.create_all(engine)
    with engine.begin() as connection:
        for table, frame in (
            (PREDICTIONS, rows.drop(columns=[QUALITY, "labelled_at"])),
            (GROUND_TRUTH, labels.astype({QUALITY: int})),
        ):
            plain = frame.astype(object).where(frame.notna(), None)
            connection.execute(sa.insert(table), plain.to_dict(orient="records"))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql", "duckdb"])
def reader(request, log, tmp_path: Path, postgres_schema) -> Iterator[LogReader]:
    if request.param == "postgresql":
        with postgres_schema("read the log in PostgreSQL too") as url:
            write_database(url, log)
            opened = DatabaseReader(url, labelled_predictions())
            yield opened
            opened.close()
        return
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/log.db"
        write_database(url, log)
        opened = DatabaseReader(url, labelled_predictions())
    else:
        for day, part in log.groupby(log["event_time"].dt.strftime("%Y-%m-%d")):
            (tmp_path / f"day={day}").mkdir()
            part.to_parquet(tmp_path / f"day={day}" / "part-0.parquet", index=False)
        opened = LakeReader(str(tmp_path), "duckdb")
    yield opened
    opened.close()


def test_the_versions_are_those_that_predicted(reader):
    assert reader.versions() == ("10", "9")


def test_rows_are_read_in_the_order_of_event_time(reader, log):
    expected = log.sort_values("event_time", ignore_index=True)[list(COLUMNS)]
    found = reader.read(columns=COLUMNS)
    assert_frame_equal(found, expected, check_dtype=False)
    assert str(found["event_time"].dt.tz) == "UTC"


def test_rows_are_chosen_by_event_time_and_version(reader, log):
    found = reader.read(START + DAY, START + 2 * DAY, version="9")
    own = log[(log["event_time"].dt.day == 2) & (log["model_version"] == "9")]
    assert len(own) > 10
    assert sorted(found["event_time"]) == sorted(own["event_time"])
    assert set(found["model_version"]) == {"9"}


@pytest.mark.parametrize("most", [1, 70, 1000])
def test_the_newest_labelled_predictions_are_read_alike_from_every_engine(reader, log, most):
    labelled = log.dropna(subset=QUALITY).sort_values("event_time", ignore_index=True)
    expected = labelled.tail(most).reset_index(drop=True)[LABELLED].astype(LABELLED_DTYPES)
    found = reader.labelled(most)
    # SQLite keeps sixteen bytes
    plain = found["prediction_id"].str.replace("-", "")
    assert plain.tolist() == expected["prediction_id"].str.replace("-", "").tolist()
    assert_frame_equal(found.drop(columns="prediction_id"), expected.drop(columns="prediction_id"))
    since = START + DAY
    late = expected[expected["event_time"] >= since]
    assert reader.labelled(most, since=since)[QUALITY].tolist() == late[QUALITY].tolist()


def test_a_lake_without_labels_identifiers_and_sources_has_no_labelled_predictions(tmp_path, log):
    (tmp_path / "day=2026-03-01").mkdir()
    bare = log.head(5).drop(columns=["prediction_id", "source"])
    place = tmp_path / "day=2026-03-01" / "part-0.parquet"
    with closing(LakeReader(str(tmp_path), "duckdb")) as lake:
        bare.drop(columns=[QUALITY, "labelled_at"]).to_parquet(place)
        assert lake.labelled(10).empty
    bare.assign(quality=5.0).to_parquet(place)
    with closing(LakeReader(str(tmp_path), "duckdb")) as lake:
        found = lake.labelled(10)
    assert found.dtypes.astype(str).to_dict() == LABELLED_DTYPES
    assert set(found["source"]) == set(found["prediction_id"]) == {""}
    assert len(found) == 5


def test_a_sample_is_drawn_by_lot_and_the_same_from_every_engine(reader, log):
    """A wine's lot is the end of its identifier; the first one drawn is the seed's."""
    lots = log["prediction_id"].str[-LOT_DIGITS:]
    drawn = []
    for seed in range(8):
        first = f"{np.random.default_rng(seed).integers(16**LOT_DIGITS):08x}"
        by_lot = log.assign(before=lots < first, lot=lots).sort_values(["before", "lot"])
        expected = by_lot.head(250).sort_values("event_time", ignore_index=True)
        found = reader.read(limit=250, seed=seed, columns=[*MEASUREMENT_NAMES, PREDICTION])
        assert_frame_equal(found, expected[list(found)], check_dtype=False)
        drawn.append(expected)
    # some draws went on from the last lot to the first, and none is like another
    assert any(sample["before"].any() for sample in drawn)
    assert len({tuple(sample["prediction_id"]) for sample in drawn}) == 8
    assert len(reader.read(limit=600)) == 600


def test_a_sample_of_a_log_without_identifiers_is_refused(tmp_path, log):
    (tmp_path / "day=2026-03-01").mkdir()
    log.drop(columns="prediction_id").to_parquet(tmp_path / "day=2026-03-01" / "part-0.parquet")
    with (
        closing(LakeReader(str(tmp_path), "duckdb")) as reader,
        pytest.raises(WineQualityError, match="no column prediction_id"),
    ):
        reader.read(limit=100)


def test_the_states_tell_windows_apart(reader, log):
    versions = reader.versions()
    states = reader.states("1D", versions)
    assert list(states) == ["window_start", "model_version", "state"]
    days = {START + n * DAY for n in range(3)}
    assert {(row.window_start, row.model_version) for row in states.itertuples()} == {
        (pd.Timestamp(day), version) for day in days for version in versions
    }
    assert_frame_equal(reader.states("1D", versions), states)


def test_a_closed_reader_can_be_used_again(reader):
    before = reader.versions()
    reader.close()
    assert reader.versions() == before


def test_a_reader_may_be_used_and_closed_by_other_threads_than_opened_it(reader, log):
    with ThreadPoolExecutor(1) as other:
        assert other.submit(reader.versions).result() == ("10", "9")
    assert len(reader.read()) == len(log)
    reader.close()


def test_a_log_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WineQualityError, match=r"nowhere\.db is not there"):
        DatabaseReader(f"sqlite:///{tmp_path}/nowhere.db", labelled_predictions()).versions()
    with pytest.raises(WineQualityError, match="There is no log in"):
        LakeReader(str(tmp_path), "duckdb").versions()
