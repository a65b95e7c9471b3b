import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wine_quality.drift import log_engines
from wine_quality.drift.log_reader import DatabaseReader, LakeReader, LogReader
from wine_quality.drift.profiles import HOUR_S, LARGEST_ERROR, Profile, count
from wine_quality.drift.reference import FAULTS, LOWEST, Fault, Reference
from wine_quality.drift.settings import window_length
from wine_quality.drift.sources import Sources
from wine_quality.errors import WineQualityError
from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.log_schema import (
    GROUND_TRUTH,
    METADATA,
    PREDICTIONS,
    labelled_predictions,
)
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES

FIRST = pd.Timestamp("1969-12-30", tz="UTC")
MEASURED = (*MEASUREMENT_NAMES, "prediction")
GRAINS = (HOUR_S, 900, 1)


def assert_identical(ours: Profile, expected: Profile) -> None:
    assert ours.starts.tolist() == expected.starts.tolist()
    assert (ours.counts != expected.counts).nnz == 0
    np.testing.assert_array_equal(ours.lows, expected.lows)
    np.testing.assert_array_equal(ours.highs, expected.highs)
    # sums that cancel out are as exact as the largest of them allows
    size = np.abs(expected.sums).max(axis=1, initial=1.0, keepdims=True)
    assert (np.abs(ours.sums - expected.sums) <= 1e-9 * size).all()


def nasty_log(held_out: pd.DataFrame, reference: Reference, rows: int) -> pd.DataFrame:
    """Wines of two versions in ten days around 1970, with every value that goes wrong somewhere."""
    rng = np.random.default_rng(5)
    log = held_out.sample(rows, replace=True, random_state=5).reset_index(drop=True)
    for bins in reference.columns:
        if bins.is_category or bins.name not in MEASURED:
            continue
        ties = np.array(
            [y for x in bins.edges for y in (x, np.nextafter(x, 1e9), np.nextafter(x, -1e9))]
            + [y for x in bins.plausible or () for y in (x, x + 1e-9, x - 1e-9)]
            + [np.inf, -np.inf, -0.0, 1e300, -1e300, 5e-324]
        )
        struck = rng.random(rows) < 0.2
        log.loc[struck, bins.name] = rng.choice(ties, struck.sum())
    log.loc[rng.random(rows) < 0.03, "type"] = "rosé"
    for name in MEASUREMENT_NAMES:
        log.loc[rng.random(rows) < 0.05, name] = np.nan
    micros = rng.integers(0, 10 * 86_400_000_000, rows)
    # the last microseconds before and the first after midnight
    micros[: rows // 4] = micros[: rows // 4] // 86_400_000_000 * 86_400_000_000 + rng.choice(
        [0, 1, -1, 499, -500, -499_999, 999_999], rows // 4
    )
    moments = pd.Series(FIRST + pd.to_timedelta(micros, unit="us")).dt.as_unit("us")
    labelled = rng.random(rows) < 0.6
    return log.assign(
        event_time=moments,
        model_version=rng.choice(["1", "2"], rows),
        source=rng.choice(["shop", "simulation", "load"], rows),
        quality=log["quality"].where(labelled),
        labelled_at=(moments + pd.Timedelta("2D")).where(labelled),
    )


@pytest.fixture(scope="module")
def nasty(held_out: pd.DataFrame, reference: Reference) -> pd.DataFrame:
    return nasty_log(held_out, reference, 6000)


def write_lake(folder: Path, log: pd.DataFrame) -> str:
    for day, part in log.groupby(log["event_time"].dt.strftime("%Y-%m-%d")):
        target = folder / f"day={day}"
        target.mkdir(parents=True)
        part.to_parquet(target / "part-0.parquet", index=False)
    return str(folder)


@pytest.fixture(scope="module")
def lake(nasty: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> str:
    # NaN, not null: both are missing
    return write_lake(tmp_path_factory.mktemp("lake"), nasty)


def write_database(url: str, log: pd.DataFrame) -> None:
    """Fill the inference log's own tables: superseded labels come before the newest ones."""
    ids = uuid7_batch(len(log))
    rows = log.assign(prediction_id=ids, received_at=datetime.now(UTC), latency_ms=1.0)
    columns = ["prediction_id", "event_time", "received_at", "model_version", "source"]
    columns += [*INPUTS, "prediction", "latency_ms"]
    labels = rows.dropna(subset="quality")[["prediction_id", "quality", "labelled_at"]]
    labels = labels.astype({"quality": int})
    older = labels.iloc[::3].assign(quality=1)
    older["labelled_at"] -= pd.Timedelta("1h")
    engine = sa.create_engine(url)
    METADATA.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(PREDICTIONS), records(rows[columns]))
        connection.execute(sa.insert(GROUND_TRUTH), records(pd.concat([labels, older])))
    engine.dispose()


def records(frame: pd.DataFrame) -> list[dict]:
    plain = {name: frame[name].tolist() for name in frame}
    for name, values in plain.items():
        if name.endswith(("_at", "_time")):
            plain[name] = [v.to_pydatetime() for v in values]
    return [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]


@pytest.fixture(scope="module")
def postgres_url(postgres_schema) -> Iterator[str]:
    with postgres_schema("compute profiles on PostgreSQL too") as url:
        yield url


@pytest.fixture(scope="module")
def session():
    pytest.importorskip("pyspark")
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").appName("profiles")
    options = {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
    }
    for name, value in options.items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
    except (PySparkException, OSError) as error:
        pytest.skip(f"no Spark here: {error}")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def duckdb_log(lake: str) -> Iterator[LogReader]:
    with closing(LakeReader(lake, "duckdb")) as reader:
        yield reader


@pytest.fixture(scope="module")
def sqlite_log(
    nasty: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LogReader]:
    url = f"sqlite:///{tmp_path_factory.mktemp('log')}/log.db"
    write_database(url, nasty)
    with closing(DatabaseReader(url, labelled_predictions())) as reader:
        yield reader


@pytest.fixture(scope="module")
def postgres_log(nasty: pd.DataFrame, postgres_url: str) -> Iterator[LogReader]:
    write_database(postgres_url, nasty)
    # the session's time zone is not UTC
    elsewhere = postgres_url.replace("options=", "options=-cTimeZone%3DAsia/Kathmandu%20")
    assert "Kathmandu" in elsewhere
    with closing(DatabaseReader(elsewhere, labelled_predictions())) as reader:
        yield reader


@pytest.fixture(scope="module")
def spark_log(lake: str, session) -> Iterator[LogReader]:
    session.conf.set("spark.sql.session.timeZone", "Asia/Kathmandu")
    with closing(LakeReader(lake, "spark")) as reader:
        yield reader
    # the session is not the reader's to close
    assert session.range(3).count() == 3


ENGINES = [
    "duckdb_log",
    "sqlite_log",
    "postgres_log",
    pytest.param("spark_log", marks=pytest.mark.slow),
]


@pytest.fixture(params=ENGINES)
def reader(request: pytest.FixtureRequest) -> LogReader:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("grain", [HOUR_S, 900])
def test_every_engine_counts_as_pandas_does(reader, grain, nasty, reference):
    expected = count(nasty, reference, grain)
    whole = expected.regroup(np.zeros(len(expected), np.int64)).by_segment(0, reference)
    found = sum(whole[:, place][:, :FAULTS].sum(axis=0) for place in reference.cells.values())
    faults = {fault for fault in Fault if found[fault - LOWEST]}
    assert faults == {*Fault} - {Fault.ABSENT}
    assert_identical(reader.profile(reference, grain), expected)


def test_a_span_and_a_version_are_counted_alone(reader, nasty, reference):
    since, until = FIRST + timedelta(days=1), FIRST + timedelta(days=4)
    own = nasty["event_time"].between(since, until, inclusive="left")
    expected = count(nasty[own & (nasty["model_version"] == "2")], reference)
    elsewhere = timezone(timedelta(hours=-9))
    found = reader.profile(
        reference, HOUR_S, since.astimezone(elsewhere), until.astimezone(elsewhere), "2"
    )
    assert_identical(found, expected)
    with pytest.raises(ValueError, match="time zone"):
        reader.profile(reference, HOUR_S, datetime(2026, 1, 1))


DIVIDED = Sources(apart=("simulation",), left_out=("load",))


def test_sources_are_set_apart_and_left_out_on_every_engine(reader, nasty, reference):
    divided = reader.divided(DIVIDED)
    names = ("1", "1 (simulation)", "2", "2 (simulation)")
    assert divided.versions() == names
    states = divided.states("3600s", names)
    assert set(states["model_version"]) == set(names)
    # a state says how the log was divided
    assert states["state"].map(DIVIDED.have_marked).all()
    assert not states["state"].map(Sources().have_marked).any()
    for version, source in (("1", "shop"), ("2", "simulation")):
        own = (nasty["model_version"] == version) & (nasty["source"] == source)
        name = version if source == "shop" else f"{version} ({source})"
        expected = count(nasty[own], reference)
        assert_identical(divided.profile(reference, version=name), expected)
        rows = divided.read(version=name, columns=["model_version"])
        assert rows["model_version"].tolist() == [name] * own.sum()
        starts = states.loc[states["model_version"] == name, "window_start"]
        assert set(expected.starts) <= set(starts.astype("int64") // 10**6)
    # who asked for the division has it, the others have not
    assert reader.versions() == ("1", "2")


@pytest.mark.parametrize("reader", ["sqlite_log"], indirect=True)
def test_a_log_of_sources_left_out_says_so(reader):
    everything = Sources(left_out=("shop", "simulation", "load"))
    with pytest.raises(WineQualityError, match=r"but wines of sources left out \(shop, "):
        reader.divided(everything).versions()


def test_a_log_without_sources_has_none_to_set_apart(nasty, reference, tmp_path):
    folder = write_lake(tmp_path, nasty.drop(columns="source"))
    with closing(LakeReader(folder, "duckdb")) as bare:
        divided = bare.divided(DIVIDED)
        assert divided.versions() == ("1", "2")
        assert_identical(divided.profile(reference), count(nasty, reference))


@pytest.mark.parametrize("reader", ["duckdb_log", "sqlite_log", "postgres_log"], indirect=True)
def test_rows_are_read_in_parts(reader, nasty, monkeypatch):
    # DuckDB hands over multiples of 2,048 rows
    monkeypatch.setattr(log_engines, "BATCH", 2048)
    monkeypatch.setattr(log_engines, "FETCHED", 2048)
    monkeypatch.setattr(log_engines, "BATCH_BYTES", 2048 * 120)
    sizes = [len(batch) for batch in reader.batches(["event_time", *INPUTS, "prediction"])]
    assert sum(sizes) == len(nasty)
    assert len(sizes) >= 3
    assert max(sizes) <= 2100


def test_parts_of_a_log_add_up(reader, nasty, reference):
    middle = FIRST + timedelta(days=5)
    parts = [
        reader.profile(reference, HOUR_S, None, middle),
        reader.profile(reference, HOUR_S, middle, None),
    ]
    assert_identical(parts[0].merge(parts[1]), count(nasty, reference))


@pytest.mark.parametrize("window", ["1D", "6h"])
@pytest.mark.parametrize("reader", ["sqlite_log", "postgres_log"], indirect=True)
def test_states_of_a_database_tell_its_rows(reader, window, nasty):
    own = nasty.assign(window_start=nasty["event_time"].dt.floor(window_length(window)))
    own["seconds"] = own["labelled_at"].astype("int64").where(own["quality"].notna()) // 1_000_000
    expected = [
        f"{len(rows)}:{rows['quality'].count()}:{rows['quality'].sum():.0f}"
        f":{(rows['quality'] ** 2).sum():.0f}:{rows['seconds'].sum():.0f}"
        for _, rows in own.groupby(["window_start", "model_version"])
    ]
    states = reader.states(window, ("1", "2"))
    assert states["state"].tolist() == expected
    keys = own[["window_start", "model_version"]].drop_duplicates()
    keys = keys.sort_values(["window_start", "model_version"], ignore_index=True)
    pd.testing.assert_frame_equal(states[["window_start", "model_version"]], keys)


RELABELLED = {
    "a first label": ([None, 5], [None, 1]),
    "a newer label": ([5, 6], [1, 2]),
    "another label of the same moment": ([5, 6], [1, 1]),
    "the same label again, later": ([5, 5], [1, 2]),
}


@pytest.mark.parametrize("case", RELABELLED)
def test_labels_change_the_state_of_their_window_alone(case, nasty, tmp_path):
    states = []
    for number, (label, hour) in enumerate(zip(*RELABELLED[case], strict=True)):
        changed = nasty.head(200).copy()
        moment = changed.loc[35, "event_time"]
        changed.loc[35, "quality"] = label
        changed.loc[35, "labelled_at"] = hour and moment + pd.Timedelta(hours=hour)
        url = f"sqlite:///{tmp_path}/{number}.db"
        write_database(url, changed)
        with closing(DatabaseReader(url, labelled_predictions())) as reader:
            states.append(reader.states("1D", ("1", "2")))
    different = states[0]["state"] != states[1]["state"]
    window = states[0][different]
    assert window["window_start"].tolist() == [moment.normalize()]
    assert window["model_version"].tolist() == [changed.loc[35, "model_version"]]


def lake_of(folder: Path, log: pd.DataFrame) -> LakeReader:
    """A lake of one file, whatever is in its columns."""
    (folder / "day=1970-01-01").mkdir(exist_ok=True)
    log.to_parquet(folder / "day=1970-01-01" / "part-0.parquet", index=False)
    return LakeReader(str(folder), "duckdb")


moments = st.datetimes(datetime(1969, 12, 31, 23), datetime(1970, 1, 1, 1))
wines = st.fixed_dictionaries(
    {
        "event_time": moments,
        "model_version": st.sampled_from(["1", "2"]),
        "type": st.sampled_from(["red", "white", "rosé", None]),
        "pH": st.none() | st.floats() | st.floats(2, 5),
        "alcohol": st.none() | st.integers(-5, 30),
        "sulphates": st.booleans(),
        "chlorides": st.none() | st.text(max_size=3),
        "prediction": st.floats(3, 9),
        "quality": st.none() | st.integers(3, 9),
    }
)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(wines, min_size=1, max_size=30), grain=st.sampled_from(GRAINS))
def test_columns_of_any_type_are_counted_as_pandas_counts_them(reference, tmp_path, rows, grain):
    # a column of nothing but None has no type that DuckDB could read
    types = {"type": "str", "pH": "float64", "alcohol": "Int64", "chlorides": "str"}
    log = pd.DataFrame(rows).astype(types | {"quality": "float64"})
    log["event_time"] = pd.to_datetime(log["event_time"]).dt.as_unit("us")
    with closing(lake_of(tmp_path, log)) as reader:
        assert_identical(reader.profile(reference, grain), count(log, reference, grain))


@pytest.mark.parametrize(
    "change",
    [
        {"alcohol": "text"},
        {"alcohol": None},
        {"alcohol": Decimal("10.5")},
        {"type": 3},
        {"type": 2.5},
        {"prediction": "text"},
        {"quality": None},
        {"pH": pd.Timestamp("2026-01-01")},
    ],
    ids=str,
)
def test_a_bad_column_leaves_the_others_alone(change, nasty, reference, tmp_path):
    log = nasty.head(200).assign(**change)
    log = log.astype({name: "float64" for name, value in change.items() if value is None})
    with closing(lake_of(tmp_path, log)) as reader:
        assert_identical(reader.profile(reference), count(log, reference))


@pytest.mark.parametrize("absent", ["alcohol", "type", "prediction", "quality"])
def test_an_absent_column_is_counted_as_absent(absent, nasty, reference, tmp_path):
    log = nasty.drop(columns=absent)
    with closing(lake_of(tmp_path, log)) as reader:
        assert_identical(reader.profile(reference), count(log, reference))


@pytest.mark.parametrize("kind", ["text", "moments without a zone"])
@pytest.mark.parametrize("engine", ["duckdb", pytest.param("spark", marks=pytest.mark.slow)])
def test_event_times_of_a_lake_may_be(kind, engine, nasty, reference, tmp_path, request):
    if engine == "spark":
        request.getfixturevalue("session")
    zoneless = nasty["event_time"].dt.tz_localize(None)
    times = zoneless.astype("str") if kind == "text" else zoneless
    lake_of(tmp_path, nasty.assign(event_time=times, model_version=2))
    # they all lie in the folder of this day
    since, until = FIRST + timedelta(days=2, hours=3), FIRST + timedelta(days=2, hours=20)
    own = nasty[nasty["event_time"].between(since, until, inclusive="left")]
    with closing(LakeReader(str(tmp_path), engine)) as reader:
        assert reader.versions() == ("2",)
        found = reader.profile(reference, HOUR_S, since, until, "2")
    assert_identical(found, count(own, reference))


@pytest.mark.parametrize("engine", ["duckdb", pytest.param("spark", marks=pytest.mark.slow)])
def test_days_outside_a_span_are_not_read(engine, lake, nasty, reference, tmp_path, request):
    if engine == "spark":
        request.getfixturevalue("session")
    shutil.copytree(lake, tmp_path / "lake")
    # wines of the span in the folder of a day that is not in it
    shutil.copytree(tmp_path / "lake" / "day=1970-01-01", tmp_path / "lake" / "day=1980-01-01")
    until = FIRST + timedelta(days=4)
    with closing(LakeReader(str(tmp_path / "lake"), engine)) as reader:
        found = reader.profile(reference, HOUR_S, FIRST, until)
    own = nasty[nasty["event_time"].between(FIRST, until, inclusive="left")]
    assert_identical(found, count(own, reference))


def test_an_empty_log_has_an_empty_profile(reader, nasty, reference):
    later = FIRST + timedelta(days=1000)
    profile = reader.profile(reference, HOUR_S, since=later)
    assert_identical(profile, count(nasty.head(0), reference))
    assert reader.read(later, columns=["pH", "event_time"]).empty


@pytest.mark.parametrize("key", ["event_time", "model_version"])
def test_a_prediction_without_its_keys_is_refused(key, nasty, reference, tmp_path):
    log = nasty.head(50).copy()
    log.loc[log.index[:3], key] = None
    if key == "event_time":
        with (
            closing(lake_of(tmp_path, log)) as reader,
            pytest.raises(WineQualityError, match="3 predictions have no event time"),
        ):
            reader.profile(reference)
    with (
        closing(lake_of(tmp_path, log)) as reader,
        pytest.raises(WineQualityError, match=f"predictions have no {key}"),
    ):
        reader.versions()
    with (
        closing(lake_of(tmp_path, log.drop(columns=key))) as reader,
        pytest.raises(WineQualityError, match=f"no column {key}"),
    ):
        reader.profile(reference)


def test_days_are_no_moments(nasty, reference, tmp_path):
    log = nasty.head(50).assign(event_time=nasty["event_time"].dt.date)
    with (
        closing(lake_of(tmp_path, log)) as reader,
        pytest.raises(WineQualityError, match="event_time in the inference log is date: write it"),
    ):
        reader.profile(reference)


def test_an_absurd_prediction_does_not_take_its_window_down(reader, reference):
    # 1e300 stands in the log
    sums = reader.profile(reference).sums
    assert (sums > LARGEST_ERROR).any()
    assert np.isfinite(sums).all()


def test_text_in_a_measurement_of_sqlite_is_counted_as_invalid(nasty, reference, tmp_path):
    url = f"sqlite:///{tmp_path}/log.db"
    write_database(url, nasty.head(50))
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection, connection:
        connection.execute("UPDATE predictions SET alcohol = 'strong' WHERE model_version = '1'")
    with closing(DatabaseReader(url, labelled_predictions())) as reader:
        profile = reader.profile(reference, version="1")
    whole = profile.regroup(np.zeros(len(profile), np.int64)).by_segment(0, reference)
    cells = whole.sum(axis=0)[reference.cells["alcohol"]]
    assert np.flatnonzero(cells).tolist() == [Fault.INVALID - LOWEST]


def test_a_log_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(WineQualityError, match="is not there"):
        DatabaseReader(f"sqlite:///{tmp_path}/none.db", labelled_predictions()).versions()
    assert not list(tmp_path.iterdir())
    with pytest.raises(WineQualityError, match="no log in"):
        LakeReader(str(tmp_path), "duckdb").versions()
    with pytest.raises(WineQualityError, match="cannot be computed in mysql"):
        DatabaseReader("mysql://host/log", labelled_predictions()).versions()


def test_a_postgresql_that_is_not_there_may_be_tried_again():
    pytest.importorskip("adbc_driver_postgresql")
    reader = DatabaseReader("postgresql://wine@127.0.0.1:1/log", labelled_predictions())
    with pytest.raises(ConnectionError, match="does not hand over the log"):
        reader.versions()


def test_a_driver_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql.dbapi", None)
    with pytest.raises(WineQualityError, match=r"wine-quality\[postgres\]"):
        DatabaseReader("postgresql://wine@127.0.0.1:1/log", labelled_predictions()).versions()
