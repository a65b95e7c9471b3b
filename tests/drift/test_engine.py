from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wine_quality.drift.profiles import (
    LARGEST_ERROR,
    Fault,
    Profile,
    Reference,
    profile_batches,
    profile_windows,
)
from wine_quality.errors import WineQualityError
from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.log_schema import (
    GROUND_TRUTH,
    METADATA,
    PREDICTIONS,
    labelled_predictions,
)
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES

pytest.importorskip("ibis", reason="the engines come with wine-quality[spark]")
import ibis

from wine_quality.drift import engine
from wine_quality.drift.engine import (
    database_log,
    lake_log,
    profile_table,
    spark_log,
    window_states,
)

FIRST = pd.Timestamp("1969-12-30", tz="UTC")
MEASURED = (*MEASUREMENT_NAMES, "prediction")
WINDOWS = ("1D", "6h", "7D", "15min", "1s")


def assert_identical(ours: Profile, expected: Profile) -> None:
    pd.testing.assert_frame_equal(ours.counts, expected.counts, check_exact=True)
    keys = ["window_start", "model_version", "segment", "labelled", "within_half", "within_one"]
    pd.testing.assert_frame_equal(ours.errors[keys], expected.errors[keys], check_exact=True)
    for name in ("error", "absolute_error", "squared_error", "fourth_power"):
        # errors that cancel out are as exact as their sizes allow
        size = expected.errors["absolute_error" if name == "error" else name]
        found, wanted = ours.errors[name], expected.errors[name]
        assert ((found == wanted) | ((found - wanted).abs() <= 1e-9 * size)).all(), name


def nasty_log(held_out: pd.DataFrame, reference: Reference, rows: int) -> pd.DataFrame:
    """Wines of two versions in ten days around 1970, with every value that goes wrong somewhere."""
    rng = np.random.default_rng(5)
    log = held_out.sample(rows, replace=True, random_state=5).reset_index(drop=True)
    for column in reference.columns:
        bins = column.bins
        if bins.is_category:
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
    rows = log.assign(
        prediction_id=ids, received_at=datetime.now(UTC), source="test", latency_ms=1.0
    )
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
def duckdb_table(lake: str):
    table = lake_log(lake)
    yield table
    table.get_backend().disconnect()


@pytest.fixture(scope="module")
def sqlite_table(nasty: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory):
    url = f"sqlite:///{tmp_path_factory.mktemp('log')}/log.db"
    write_database(url, nasty)
    table = database_log(url, labelled_predictions())
    yield table
    table.get_backend().disconnect()


@pytest.fixture(scope="module")
def postgres_table(nasty: pd.DataFrame, postgres_url: str):
    write_database(postgres_url, nasty)
    table = database_log(postgres_url, labelled_predictions())
    yield table
    table.get_backend().disconnect()


@pytest.fixture(scope="module")
def spark_table(lake: str, session):
    return spark_log(lake, session)


TIME_ZONES = {
    "duckdb": "SET TimeZone = 'Asia/Kathmandu'",
    "postgres": "SET TIMEZONE = 'Asia/Kathmandu'",
    "pyspark": "SET spark.sql.session.timeZone = Asia/Kathmandu",
}
ENGINES = [
    "duckdb_table",
    "sqlite_table",
    "postgres_table",
    pytest.param("spark_table", marks=pytest.mark.slow),
]


@pytest.fixture(params=ENGINES)
def table(request: pytest.FixtureRequest):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("window", ["1D", "6h"])
def test_every_engine_counts_as_pandas_does(table, window, nasty, reference):
    expected = profile_windows(nasty, reference, window)
    faults = set(expected.counts["bin"][expected.counts["bin"] < 0])
    assert faults == {*Fault} - {Fault.ABSENT}
    assert_identical(profile_table(table, reference, window), expected)


def test_the_sessions_time_zone_changes_nothing(table, nasty, reference):
    backend = table.get_backend()
    since, until = FIRST + timedelta(days=1), FIRST + timedelta(days=4)
    part = nasty[(nasty["event_time"] >= since) & (nasty["event_time"] < until)]
    if elsewhere := TIME_ZONES.get(backend.name):
        backend.raw_sql(elsewhere)
    try:
        profile = profile_table(table, reference, "1D", since, until)
        states = window_states(table, "1D", since, until)
    finally:
        if elsewhere:
            backend.raw_sql(elsewhere.replace("Asia/Kathmandu", "UTC"))
    assert_identical(profile, profile_windows(part, reference, "1D"))
    pd.testing.assert_frame_equal(states, window_states(table, "1D", since, until))


@pytest.mark.parametrize("table", ["duckdb_table", "sqlite_table"], indirect=True)
def test_rows_are_read_in_parts(table, nasty, reference, monkeypatch):
    sizes = []

    def counted(batches, *arguments):
        batches = list(batches)
        sizes.extend(len(batch) for batch in batches)
        return profile_batches(batches, *arguments)

    # DuckDB hands over multiples of 2,048 rows
    monkeypatch.setattr(engine, "_BATCH", 2048)
    monkeypatch.setattr(engine, "_FETCHED", 2048)
    monkeypatch.setattr(engine, "profile_batches", counted)
    profile = profile_table(table, reference)
    assert sum(sizes) == len(nasty)
    assert len(sizes) >= 3
    assert max(sizes) <= 2048
    whole = profile_windows(nasty, reference)
    pd.testing.assert_frame_equal(profile.counts, whole.counts)


def test_parts_of_a_log_add_up(table, nasty, reference):
    middle = FIRST + timedelta(days=5)
    parts = [
        profile_table(table, reference, "1D", None, middle),
        profile_table(table, reference, "1D", middle, None),
    ]
    assert_identical(parts[0].merge(parts[1]), profile_windows(nasty, reference, "1D"))


def test_states_are_the_same_in_every_engine(table, nasty, duckdb_table):
    states = window_states(table, "1D")
    pd.testing.assert_frame_equal(states, window_states(duckdb_table, "1D"))
    rows = [int(state.split(":")[0]) for state in states["state"]]
    labels = [int(state.split(":")[1]) for state in states["state"]]
    assert sum(rows) == len(nasty)
    assert sum(labels) == nasty["quality"].notna().sum()


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
@given(rows=st.lists(wines, min_size=1, max_size=30), window=st.sampled_from(WINDOWS))
def test_columns_of_any_type_are_counted_as_pandas_counts_them(reference, rows, window):
    # a column of nothing but None has no type that DuckDB could make
    types = {"type": "str", "pH": "float64", "alcohol": "Int64", "chlorides": "str"}
    log = pd.DataFrame(rows).astype(types | {"quality": "float64"})
    log["event_time"] = pd.to_datetime(log["event_time"]).dt.as_unit("us")
    connection = ibis.duckdb.connect()
    try:
        table = connection.create_table("log", log)
        assert_identical(
            profile_table(table, reference, window), profile_windows(log, reference, window)
        )
    finally:
        connection.disconnect()


@pytest.mark.parametrize(
    "change",
    [
        {"alcohol": "text"},
        {"alcohol": None},
        {"type": 3},
        {"type": 2.5},
        {"prediction": "text"},
        {"quality": None},
        {"pH": pd.Timestamp("2026-01-01")},
    ],
    ids=str,
)
def test_a_bad_column_leaves_the_others_alone(change, nasty, reference):
    log = nasty.head(200).assign(**change)
    log = log.astype({name: "float64" for name, value in change.items() if value is None})
    connection = ibis.duckdb.connect()
    table = connection.create_table("log", log)
    assert_identical(profile_table(table, reference), profile_windows(log, reference))
    connection.disconnect()


@pytest.mark.parametrize("absent", ["alcohol", "type", "prediction", "quality"])
def test_an_absent_column_is_counted_as_absent(absent, duckdb_table, nasty, reference):
    profile = profile_table(duckdb_table.drop(absent), reference)
    assert_identical(profile, profile_windows(nasty.drop(columns=absent), reference))


def test_an_empty_log_has_an_empty_profile(table, nasty, reference):
    later = FIRST + timedelta(days=1000)
    profile = profile_table(table, reference, "1D", since=later)
    assert_identical(profile, profile_windows(nasty.head(0), reference))
    assert window_states(table, "1D", since=later).empty


@pytest.mark.parametrize("key", ["event_time", "model_version"])
def test_a_prediction_without_its_keys_is_refused(key, nasty, reference):
    log = nasty.head(50).copy()
    log.loc[log.index[:3], key] = None
    connection = ibis.duckdb.connect()
    table = connection.create_table("log", log)
    with pytest.raises(WineQualityError, match=f"3 predictions have no {key.replace('_', ' ')}"):
        profile_table(table, reference)
    with pytest.raises(WineQualityError, match=f"no column {key}"):
        profile_table(table.drop(key), reference)
    connection.disconnect()


def test_an_absurd_prediction_does_not_take_its_window_down(table, nasty, reference):
    # 1e300 stands in the log: PostgreSQL would refuse to square it
    errors = profile_table(table, reference).errors
    assert (errors["fourth_power"] > LARGEST_ERROR**3).any()
    assert np.isfinite(errors.select_dtypes("number")).all(axis=None)
    assert (errors["labelled"] > 0).all()


def test_a_log_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(WineQualityError, match="is not there"):
        database_log(f"sqlite:///{tmp_path}/none.db", labelled_predictions())
    assert not list(tmp_path.iterdir())
    with pytest.raises(WineQualityError, match="no log in"):
        lake_log(str(tmp_path))
    with pytest.raises(WineQualityError, match="cannot be computed in mysql"):
        database_log("mysql://host/log", labelled_predictions())
