"""The inference log: what was acknowledged is found again, once, and as it was."""

import dataclasses
import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from wine_quality.errors import RefusedBatchError, WineQualityError
from wine_quality.serving import log_writing
from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.inference_log import InferenceLog, LogCounts
from wine_quality.serving.labels import UnknownPredictionsError
from wine_quality.serving.log_schema import LOG_DTYPES, PREDICTIONS, SHADOW_DTYPES
from wine_quality.serving.log_writing import ShadowAnswers
from wine_quality.serving.prediction_batch import LoggedBatch, PredictionBatch, RequestConflictError
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, MEASUREMENTS, WINE_EXAMPLE

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

MakeWines = Callable[..., pd.DataFrame]
MakeBatch = Callable[..., PredictionBatch]


def labels(ids: list[str], quality: object = 6, **more: object) -> pd.DataFrame:
    return pd.DataFrame({"prediction_id": ids, "quality": quality, **more})


def append(log: InferenceLog, batch: PredictionBatch) -> list[str]:
    return [str(i) for i in log.append_predictions(batch).prediction_ids]


def qualities(log: InferenceLog) -> dict[str, float]:
    frame = log.read().dropna(subset="quality")
    return dict(zip(frame["prediction_id"], frame["quality"], strict=True))


# What is written is read again


def test_what_is_appended_is_read_again(
    log: InferenceLog, make_batch: MakeBatch, make_wines: MakeWines
) -> None:
    wines = make_wines(20)
    batch = make_batch(
        wines,
        event_time=pd.Series(pd.date_range(NOON, periods=20, freq="90s")),
        received_at=NOON + HOUR,
        model_version="7",
        latency_ms=12.25,
    )

    logged = log.append_predictions(batch)

    read = log.read()
    assert read.dtypes.astype(str).to_dict() == LOG_DTYPES
    assert read["prediction_id"].tolist() == [str(i) for i in logged.prediction_ids]
    pd.testing.assert_frame_equal(read[list(INPUTS)], wines.astype({"type": "str"}))
    assert read["event_time"].tolist() == [NOON + i * timedelta(seconds=90) for i in range(20)]
    assert set(read["received_at"]) == {pd.Timestamp(NOON + HOUR)}
    assert read["prediction"].tolist() == np.linspace(3, 8, 20).tolist()
    assert set(zip(read["model_version"], read["source"], read["latency_ms"], strict=True)) == {
        ("7", "test", 12.25)
    }
    assert read["quality"].isna().all()
    assert read["labelled_at"].isna().all()


def test_another_log_on_the_same_database_reads_it(
    log: InferenceLog, log_url: str, make_batch: MakeBatch
) -> None:
    log.append_predictions(make_batch(3))
    log.close()
    with InferenceLog(log_url) as other:
        assert other.exists()
        assert len(other.read()) == 3


def test_a_closed_log_opens_again(log: InferenceLog, make_batch: MakeBatch) -> None:
    log.append_predictions(make_batch(1))
    log.close()
    log.append_predictions(make_batch(1))
    assert log.counts().predictions == 2


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 1),
        pd.NaT,
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-14))),
    ],
)
@pytest.mark.parametrize("column", ["event_times", "received_at"])
def test_a_moment_that_could_not_be_read_back_is_not_written(
    log: InferenceLog, make_batch: MakeBatch, moment: Any, column: str
) -> None:
    moments: Any = moment if column == "received_at" else [NOON, moment]
    odd = dataclasses.replace(make_batch(2), **{column: moments})
    with pytest.raises((ValueError, OverflowError)):
        log.append_predictions(odd)
    log.append_predictions(make_batch(3))
    assert len(log.read()) == 3


@pytest.mark.parametrize("value", ["a\0b", object()])
def test_a_value_that_the_database_does_not_take_is_no_outage(
    log: InferenceLog, make_batch: MakeBatch, value: Any
) -> None:
    if value == "a\0b" and "sqlite" in repr(log):
        pytest.skip("SQLite takes every text")
    odd = dataclasses.replace(make_batch(1), source=value)
    with pytest.raises((RefusedBatchError, TypeError)):
        log.append_predictions(odd)
    log.append_predictions(make_batch(3))
    assert len(log.read()) == 3


def test_the_same_requests_in_another_order_do_not_wait_for_each_other(
    log: InferenceLog, log_url: str, make_batch: MakeBatch
) -> None:
    log.open()
    failures: list[Exception] = []

    def append(
        mine: InferenceLog, batches: list[PredictionBatch], ready: threading.Barrier
    ) -> None:
        ready.wait(20)
        try:
            mine.append_many(batches)
        except Exception as error:
            failures.append(error)

    with InferenceLog(log_url) as other:
        for round_ in range(5):
            batches = [make_batch(1, request_id=f"{round_}-{n}") for n in range(150)]
            ready = threading.Barrier(2)
            threads = [
                threading.Thread(target=append, args=(log, batches, ready)),
                threading.Thread(target=append, args=(other, batches[::-1], ready)),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
    assert failures == []
    assert len(log.read()) == 750


measured = st.fixed_dictionaries(
    {
        m.name: st.none() | st.just(math.nan) | st.floats(*m.possible, allow_subnormal=False)
        for m in MEASUREMENTS
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(measured, min_size=1, max_size=5))
def test_measurements_survive_and_what_is_missing_is_null(
    log: InferenceLog, make_batch: MakeBatch, rows: list[dict[str, float | None]]
) -> None:
    names = list(MEASUREMENT_NAMES)
    wines = pd.DataFrame(rows).astype("float64").assign(type="red")
    source = uuid4().hex
    batch = make_batch(wines, source=source, latency_ms=math.nan)
    log.append_predictions(batch)

    read = log.read(source=source)

    pd.testing.assert_frame_equal(read[names], wines[names])
    assert read["latency_ms"].isna().all()
    with log._database.transaction(writing=False) as connection:
        missing = ", ".join(f'count(*) - count("{name}")' for name in names)
        query = sa.text(f"SELECT {missing} FROM predictions WHERE source = :source")
        nulls = connection.execute(query, {"source": source}).one()
    assert list(nulls) == wines[names].isna().sum().tolist()


def test_a_prediction_must_be_there(log: InferenceLog, make_batch: MakeBatch) -> None:
    spoilt = dataclasses.replace(make_batch(2), predictions=np.array([6.0, math.nan]))
    with pytest.raises(IntegrityError):
        log.append_predictions(spoilt)
    assert log.counts().predictions == 0


# Nothing was ever logged


def test_asking_an_unwritten_log_answers_and_creates_nothing(log: InferenceLog, tmp_path) -> None:
    assert not log.exists()
    read = log.read(since=NOON, model_version="1")
    assert read.empty
    assert read.dtypes.astype(str).to_dict() == LOG_DTYPES
    assert log.last_event_time() is None
    assert log.counts() == LogCounts(predictions=0, labels=0, labelled=0)
    assert log.append_ground_truth(labels([])) == 0
    with pytest.raises(UnknownPredictionsError):
        log.append_ground_truth(labels([str(uuid4())]))
    assert not log.exists()
    assert list(tmp_path.iterdir()) == []


def test_an_opened_log_exists_and_is_empty(log: InferenceLog) -> None:
    log.open()
    assert log.exists()
    assert log.read().dtypes.astype(str).to_dict() == LOG_DTYPES
    assert log.counts() == LogCounts(predictions=0, labels=0, labelled=0)


# Time


def test_moments_come_back_in_utc(log: InferenceLog, make_batch: MakeBatch) -> None:
    tokyo, new_york = timezone(9 * HOUR), timezone(-5 * HOUR)
    morning = datetime(2026, 1, 31, 21, 0, 0, 123456, tzinfo=tokyo)
    batch = make_batch(1, received_at=NOON.astimezone(new_york))
    # as the web service makes its batches, without a frame
    (prediction_id,) = append(log, dataclasses.replace(batch, event_times=[morning]))
    judged = datetime(2026, 1, 31, 23, 30, tzinfo=new_york)
    log.append_ground_truth(labels([prediction_id], labelled_at=[judged]))

    (row,) = log.read().to_dict("records")

    assert row["event_time"].isoformat() == "2026-01-31T12:00:00.123456+00:00"
    assert row["received_at"].isoformat() == "2026-01-31T12:00:00+00:00"
    assert row["labelled_at"].isoformat() == "2026-02-01T04:30:00+00:00"
    assert log.last_event_time() == morning
    assert log.last_event_time().utcoffset() == timedelta(0)


@pytest.mark.parametrize("missing", [datetime(2026, 1, 31), pd.NaT, None, "2026-01-31"])
def test_a_moment_without_timezone_is_refused(
    log: InferenceLog, make_batch: MakeBatch, missing: object
) -> None:
    with pytest.raises(WineQualityError, match="event_time needs a date with a timezone"):
        make_batch(2, event_time=[NOON, missing])
    (prediction_id,) = append(log, make_batch(1))
    with pytest.raises(WineQualityError, match="labelled_at needs a date with a timezone"):
        log.append_ground_truth(labels([prediction_id], labelled_at=pd.Series([missing])))
    assert log.counts().labels == 0


def test_limits_without_timezone_are_refused(log: InferenceLog) -> None:
    with pytest.raises(WineQualityError, match="since needs a date with a timezone"):
        log.read(since=datetime(2026, 1, 31))
    with pytest.raises(WineQualityError, match="until needs a date with a timezone"):
        log.read(until=datetime(2026, 1, 31))


def test_there_is_one_moment_for_all_or_one_each(make_batch: MakeBatch) -> None:
    with pytest.raises(WineQualityError, match="3 rows came with 2 values of event_time"):
        make_batch(3, event_time=[NOON, NOON])


# Reading a part


def test_a_part_of_the_log_can_be_read(log: InferenceLog, make_batch: MakeBatch) -> None:
    for hour, version, source in [(0, "1", "a"), (1, "1", "b"), (2, "2", "a"), (3, "2", "b")]:
        log.append_predictions(
            make_batch(1, event_time=NOON + hour * HOUR, model_version=version, source=source)
        )

    def hours(**wanted: object) -> list[int]:
        return [(t - NOON) // HOUR for t in log.read(**wanted)["event_time"]]

    assert hours() == [0, 1, 2, 3]
    assert hours(since=NOON + HOUR) == [1, 2, 3]
    assert hours(until=NOON + HOUR) == [0]
    assert hours(since=NOON + HOUR, until=NOON + 3 * HOUR) == [1, 2]
    assert hours(since=(NOON + HOUR).astimezone(timezone(5 * HOUR))) == [1, 2, 3]
    assert hours(model_version="2") == [2, 3]
    assert hours(source="a", model_version="2") == [2]
    assert hours(source="nobody") == []
    assert log.last_event_time() == NOON + 3 * HOUR
    assert log.last_event_time(source="a") == NOON + 2 * HOUR
    assert log.last_event_time(source="nobody") is None


def test_rows_come_in_order_of_event_time(log: InferenceLog, make_batch: MakeBatch) -> None:
    for hour in (5, 1, 3):
        log.append_predictions(make_batch(2, event_time=NOON + hour * HOUR))
    read = log.read()
    assert read["event_time"].is_monotonic_increasing
    assert read.groupby("event_time")["prediction_id"].is_monotonic_increasing.all()


# The same request again


def test_a_repeated_request_is_answered_as_the_first_time(
    log: InferenceLog, make_batch: MakeBatch, make_wines: MakeWines
) -> None:
    wines = make_wines(5)
    wines.loc[1, "pH"] = np.nan
    first = log.append_predictions(make_batch(wines, request_id="r", model_version="1"))
    log.append_predictions(make_batch(3, request_id="between"))

    again = log.append_predictions(
        make_batch(wines, request_id="r", model_version="2", event_time=NOON + HOUR)
    )

    assert not first.repeated
    assert again == LoggedBatch(first.prediction_ids, first.predictions, ("1",) * 5, repeated=True)
    assert log.counts().predictions == 8


def test_a_request_id_belongs_to_its_wines(
    log: InferenceLog, make_batch: MakeBatch, make_wines: MakeWines
) -> None:
    wines = make_wines(5)
    log.append_predictions(make_batch(wines, request_id="r"))
    for others in (
        make_wines(5, seed=1),
        wines.head(4),
        wines.assign(pH=wines["pH"].mask(wines.index == 2)),
        wines.assign(type=wines["type"].map({"red": "white", "white": "red"})),
        wines.sort_values("alcohol"),
    ):
        with pytest.raises(RequestConflictError, match="'r' was used before for other wines"):
            log.append_predictions(make_batch(others, request_id="r"))
    assert log.counts().predictions == 5


def test_the_fingerprint_of_wines_stays(make_batch: MakeBatch) -> None:
    odd = {**WINE_EXAMPLE, "type": "white", "pH": math.nan, "alcohol": -0.0}
    wines = pd.DataFrame([WINE_EXAMPLE, odd])
    # as version 0.1.0 wrote it: requests that it logged are known again
    assert make_batch(wines).digest().hex() == "cdb954079f46740be184c806f139bf89"
    # not every NaN has the same bits
    wines.loc[1, "pH"] = np.frombuffer(b"\x01\0\0\0\0\0\xf8\xff", dtype="<f8")[0]
    assert make_batch(wines).digest().hex() == "cdb954079f46740be184c806f139bf89"


def test_every_column_of_the_table_is_written() -> None:
    assert set(log_writing._COLUMNS) == set(PREDICTIONS.columns.keys())


@pytest.mark.parametrize("column", ["event_times", "types", "predictions", "measurements"])
def test_the_columns_of_a_batch_are_equally_long(make_batch: MakeBatch, column: str) -> None:
    batch = make_batch(3)
    with pytest.raises(ValueError, match="equally long"):
        dataclasses.replace(batch, **{column: getattr(batch, column)[:2]})


def test_a_request_can_be_looked_up(
    log: InferenceLog, make_batch: MakeBatch, make_wines: MakeWines
) -> None:
    wines = make_wines(3)
    wines.loc[1, "alcohol"] = np.nan
    assert log.find_request("r", wines) is None
    logged = log.append_predictions(make_batch(wines, request_id="r"))
    found = log.find_request("r", wines)
    assert found is not None
    assert found.repeated
    assert found.prediction_ids == logged.prediction_ids
    assert found.predictions == logged.predictions
    assert log.find_request("s", wines) is None
    for others in (wines.head(2), wines.assign(pH=3.3), wines.iloc[::-1]):
        with pytest.raises(RequestConflictError, match="'r' was used before for other wines"):
            log.find_request("r", others)


def test_requests_whose_ids_interleave_keep_their_own(
    log: InferenceLog, make_batch: MakeBatch
) -> None:
    ids = uuid7_batch(8)
    odd = make_batch(4, request_id="odd", prediction_ids=ids[0::2])
    even = make_batch(4, request_id="even", prediction_ids=ids[1::2])
    log.append_many([odd, even])
    assert log.append_predictions(odd).prediction_ids == tuple(ids[0::2])
    assert log.append_predictions(even).prediction_ids == tuple(ids[1::2])


def test_requests_without_an_id_are_all_written(log: InferenceLog, make_batch: MakeBatch) -> None:
    log.append_many([make_batch(2), make_batch(2)])
    log.append_many([make_batch(2)])
    assert log.counts().predictions == 6


def test_many_requests_share_a_transaction_and_keep_their_answers(
    log: InferenceLog, make_batch: MakeBatch, make_wines: MakeWines
) -> None:
    stored = log.append_predictions(make_batch(2, request_id="stored"))
    new, keyless = make_batch(3, request_id="new"), make_batch(1)

    results = log.append_many(
        [
            make_batch(2, request_id="stored"),
            new,
            make_batch(make_wines(2, seed=9), request_id="stored"),
            keyless,
            make_batch(3, request_id="new"),
            make_batch(4, request_id="new"),
        ]
    )

    ids = [r.prediction_ids if isinstance(r, LoggedBatch) else type(r) for r in results]
    new_ids = tuple(new.prediction_ids)
    assert ids == [
        stored.prediction_ids,
        new_ids,
        RequestConflictError,
        tuple(keyless.prediction_ids),
        new_ids,
        RequestConflictError,
    ]
    repeated = [r.repeated for r in results if isinstance(r, LoggedBatch)]
    assert repeated == [True, False, False, True]
    assert log.counts().predictions == 2 + 3 + 1
    assert log.append_many([]) == []


def test_a_transaction_is_written_whole_or_not_at_all(
    log: InferenceLog, make_batch: MakeBatch
) -> None:
    there = make_batch(2)
    log.append_predictions(there)
    with pytest.raises(IntegrityError):
        log.append_many([make_batch(3, request_id="good"), there])
    assert log.counts().predictions == 2
    assert not log.append_predictions(make_batch(3, request_id="good")).repeated


def test_more_requests_than_a_query_takes(log: InferenceLog, make_batch: MakeBatch) -> None:
    ids = uuid7_batch(2_500)
    batches = [make_batch(1, request_id=f"r{i}", prediction_ids=[ids[i]]) for i in range(2_500)]
    log.append_many(batches)
    again = log.append_many(batches[::-1])
    assert [r.prediction_ids[0] for r in again if r.repeated] == ids[::-1]
    assert log.counts().predictions == 2_500


@pytest.mark.parametrize("request_id", ["", "x" * 256, "line\nbreak", "Wein\u00fc", "nul\0"])
def test_a_request_id_is_short_printable_ascii(make_batch: MakeBatch, request_id: str) -> None:
    with pytest.raises(WineQualityError, match=r"request id .* cannot be used"):
        make_batch(1, request_id=request_id)


def test_a_batch_needs_rows_in_order(make_batch: MakeBatch) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        make_batch(0)
    with pytest.raises(ValueError, match="must ascend"):
        make_batch(2, prediction_ids=uuid7_batch(2)[::-1])


def test_two_writers_of_one_request_write_it_once(
    log: InferenceLog, log_url: str, make_batch: MakeBatch
) -> None:
    log.open()
    for attempt in range(10):
        barrier = threading.Barrier(4)
        answers: list[LoggedBatch] = []

        def write(
            request_id: str = f"r{attempt}",
            barrier: threading.Barrier = barrier,
            answers: list[LoggedBatch] = answers,
        ) -> None:
            with InferenceLog(log_url) as mine:
                mine.open()
                batch = make_batch(20, request_id=request_id)
                barrier.wait()
                answers.append(mine.append_predictions(batch))

        run_together([write] * 4)

        assert len({a.prediction_ids for a in answers}) == 1
        assert sorted(a.repeated for a in answers) == [False, True, True, True]
    assert log.counts().predictions == 10 * 20


def test_threads_share_a_log(log: InferenceLog, make_batch: MakeBatch) -> None:
    acknowledged: list[str] = []

    def write() -> None:
        for _ in range(10):
            acknowledged.extend(append(log, make_batch(5)))
            assert len(log.read()) >= 5

    run_together([write] * 4)
    assert len(acknowledged) == 4 * 10 * 5
    assert sorted(acknowledged) == sorted(log.read()["prediction_id"])


def run_together(functions: list[Callable[[], None]]) -> None:
    failures: list[BaseException] = []

    def guarded(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# Ground truth


def test_labels_join_their_predictions(log: InferenceLog, make_batch: MakeBatch) -> None:
    ids = append(log, make_batch(4))
    before = datetime.now(UTC)

    assert log.append_ground_truth(labels([ids[0], ids[2]], [5, 7])) == 2

    read = log.read()
    assert read["quality"].tolist()[::2] == [5, 7]
    assert read["quality"].isna().tolist() == [False, True, False, True]
    assert before <= read["labelled_at"].iloc[0] <= datetime.now(UTC)
    assert log.counts() == LogCounts(predictions=4, labels=2, labelled=2)


def test_the_newest_label_counts_whenever_it_comes(
    log: InferenceLog, make_batch: MakeBatch
) -> None:
    (one, other) = append(log, make_batch(2))
    for quality, hour in [(5, 2), (8, 9), (3, 1), (4, 5)]:
        log.append_ground_truth(labels([one], quality, labelled_at=[NOON + hour * HOUR]))
    log.append_ground_truth(
        labels([other] * 3, [1, 2, 3], labelled_at=[NOON + h * HOUR for h in (1, 7, 3)])
    )

    read = log.read().set_index("prediction_id")

    assert read["quality"].to_dict() == {one: 8, other: 2}
    assert read["labelled_at"].to_dict() == {one: NOON + 9 * HOUR, other: NOON + 7 * HOUR}
    assert len(read) == 2
    assert log.counts() == LogCounts(predictions=2, labels=7, labelled=2)


def test_of_labels_of_the_same_moment_the_last_to_arrive_counts(
    log: InferenceLog, make_batch: MakeBatch
) -> None:
    (prediction_id,) = append(log, make_batch(1))
    for quality in (5, 9, 2):
        log.append_ground_truth(labels([prediction_id], quality, labelled_at=[NOON]))
    assert qualities(log) == {prediction_id: 2}


def test_repeating_labels_changes_nothing(log: InferenceLog, make_batch: MakeBatch) -> None:
    ids = append(log, make_batch(3))
    first = labels(ids, [5, 6, 7], labelled_at=[NOON] * 3)
    assert log.append_ground_truth(first) == 3
    assert log.append_ground_truth(labels(ids[:1], 9, labelled_at=[NOON])) == 1

    assert log.append_ground_truth(pd.concat([first, first])) == 0

    assert qualities(log) == {ids[0]: 9, ids[1]: 6, ids[2]: 7}
    assert log.counts() == LogCounts(predictions=3, labels=4, labelled=3)


def test_unknown_predictions_are_named_and_nothing_is_written(
    log: InferenceLog, make_batch: MakeBatch
) -> None:
    known = append(log, make_batch(2))
    unknown = [str(uuid4()) for _ in range(7)]

    with pytest.raises(UnknownPredictionsError) as few:
        log.append_ground_truth(labels([known[0], unknown[0], "not-an-id", known[1]]))
    with pytest.raises(UnknownPredictionsError) as many:
        log.append_ground_truth(labels([*known, *unknown]))

    assert "2 of 4 labels" in str(few.value)
    assert unknown[0] in str(few.value)
    assert "not-an-id" in str(few.value)
    assert "7 of 9 labels" in str(many.value)
    assert [u in str(many.value) for u in unknown] == [True] * 5 + [False] * 2
    assert not any(k in str(e.value) for k in known for e in (few, many))
    assert "\n" not in str(many.value)
    assert log.counts().labels == 0


@pytest.mark.parametrize("quality", [-1, 11, 5.5, math.nan, math.inf, None, pd.NA, "5"])
def test_a_quality_is_an_integer_from_0_to_10(
    log: InferenceLog, make_batch: MakeBatch, quality: object
) -> None:
    ids = append(log, make_batch(2))
    wrong = labels(ids, pd.Series([5, quality], dtype=object))
    with pytest.raises(WineQualityError, match=rf"prediction {ids[1]} is none: give an integer"):
        log.append_ground_truth(wrong)
    assert log.counts().labels == 0


@pytest.mark.parametrize("kind", ["int64", "float64", "Int64", "float32", "int8"])
def test_a_quality_may_be_of_any_numeric_type(
    log: InferenceLog, make_batch: MakeBatch, kind: str
) -> None:
    ids = append(log, make_batch(2))
    log.append_ground_truth(labels(ids, pd.Series([0, 10], dtype=kind)))
    assert list(qualities(log).values()) == [0, 10]


def test_ground_truth_needs_its_columns(log: InferenceLog) -> None:
    with pytest.raises(WineQualityError, match=r"lacks the column\(s\) prediction_id, quality"):
        log.append_ground_truth(pd.DataFrame({"labelled_at": [NOON]}))


def test_more_labels_than_a_query_takes(log: InferenceLog, make_batch: MakeBatch) -> None:
    ids = append(log, make_batch(2_500))
    assert log.append_ground_truth(labels(ids[::-1])) == 2_500
    assert len(qualities(log)) == 2_500


# Speed


def test_a_large_batch_is_written_whole(log: InferenceLog, make_batch: MakeBatch) -> None:
    batch = make_batch(10_000, request_id="large")
    logged = log.append_predictions(batch)
    assert sorted(map(str, logged.prediction_ids)) == sorted(log.read()["prediction_id"])
    assert log.append_predictions(batch) == dataclasses.replace(logged, repeated=True)


# What a challenger said


def say(ids: list[str], version: str, answers: object) -> ShadowAnswers:
    predictions = np.broadcast_to(np.asarray(answers, dtype=np.float64), len(ids))
    return ShadowAnswers([UUID(i) for i in ids], version, predictions, NOON + HOUR)


def test_shadow_answers_stand_beside_their_predictions(
    log: InferenceLog, make_batch: MakeBatch
) -> None:
    assert log.read_shadowed().empty
    ids = append(log, make_batch(300))
    early = append(log, make_batch(3, event_time=NOON - HOUR, model_version="0"))
    before = log.read()
    log.append_shadows([say(ids[:250], "2", np.linspace(4, 7, 250)), say(ids[:2], "3", 5.5)])
    log.append_shadows([say(early, "2", 6.25)])
    log.append_ground_truth(labels(ids[:1], 4, labelled_at=NOON))
    log.append_ground_truth(labels(ids[:1], 7, labelled_at=NOON + HOUR))

    # nothing of it is among the predictions
    assert log.counts() == LogCounts(303, 2, 1)
    pd.testing.assert_frame_equal(
        log.read().drop(columns=["quality", "labelled_at"]),
        before.drop(columns=["quality", "labelled_at"]),
    )
    found = log.read_shadowed(shadow_version="2")
    assert found.dtypes.astype(str).to_dict() == LOG_DTYPES | SHADOW_DTYPES
    assert found["prediction_id"].tolist() == early + ids[:250]
    assert found["shadow_prediction"].tolist() == [6.25] * 3 + np.linspace(4, 7, 250).tolist()
    assert found["prediction"].tolist()[3:] == before["prediction"].tolist()[3:253]
    # the newest label counts
    assert found.set_index("prediction_id").loc[ids[0], "quality"] == 7
    assert found["quality"].notna().sum() == 1
    assert len(log.read_shadowed()) == 255
    assert log.read_shadowed(since=NOON)["shadow_version"].value_counts().to_dict() == {
        "2": 250, "3": 2,
    }  # fmt: skip
    assert len(log.read_shadowed(until=NOON, model_version="0", shadow_version="2")) == 3
    assert log.read_shadowed(model_version="0", shadow_version="3").empty


def test_a_shadow_answer_without_its_prediction_is_refused(
    log: InferenceLog, make_batch: MakeBatch
) -> None:
    ids = append(log, make_batch(2))
    with pytest.raises(IntegrityError):
        log.append_shadows([say([*ids, str(uuid4())], "2", 5)])
    assert log.read_shadowed().empty
    log.append_shadows([say(ids, "2", 5)])
    with pytest.raises(IntegrityError):
        log.append_shadows([say(ids[:1], "2", 6)])
    assert log.read_shadowed()["shadow_prediction"].tolist() == [5, 5]


def test_the_newest_rows_have_the_challengers_answers_too(
    log: InferenceLog, make_batch: MakeBatch
) -> None:
    ids = append(log, make_batch(5))
    log.append_shadows([say(ids[1:3], "2", 5), say(ids, "3", 4)])
    log.append_ground_truth(labels(ids[:2]))
    since = datetime.now(UTC) - HOUR
    for frame, n in ((log.newest(since, 9, "2"), 5), (log.newest_labelled(9, "2"), 2)):
        said = frame["shadow_prediction"]
        assert len(frame) == n
        assert said[1] == 5
        assert said.notna().sum() == min(2, n - 1)
    for frame in (log.newest(since, 9), log.newest_labelled(9), log.newest(since, 9, "4")):
        assert frame["shadow_prediction"].isna().all()
        assert str(frame["shadow_prediction"].dtype) == "float64"
