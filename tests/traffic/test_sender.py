"""The sender: every wine accounted for, none logged twice, whatever the backend does."""

import logging
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from wine_quality.database.errors import DatabaseError
from wine_quality.errors import RefusedBatchError, WineQualityError
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.prediction_batch import RequestConflictError
from wine_quality.serving.predictor import Predictor
from wine_quality.system import retrying
from wine_quality.traffic import sender
from wine_quality.traffic.backends import BackendUnavailableError, InProcessBackend
from wine_quality.traffic.planning import plan_traffic
from wine_quality.traffic.sender import (
    Batches,
    Pace,
    TrafficSummary,
    chunk_rows,
    not_delivered,
    queue_traffic,
    send,
    summarise,
)
from wine_quality.traffic.streams import Stream

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def plan(make_wines):
    """Plans 95 wines, or as many as asked for."""

    def made(samples: int = 95, seed: int = 1, frame_rows: int = 50_000) -> list[pd.DataFrame]:
        asked = {"samples": samples, "start": NOON, "duration": DAY, "seed": seed}
        return list(plan_traffic(make_wines(200), **asked, chunk_rows=frame_rows))

    return made


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Pauses between tries take no time."""
    monkeypatch.setattr(sender, "_FIRST_PAUSE", 1e-4)
    monkeypatch.setattr(sender, "_LONGEST_PAUSE", 1e-3)


def queue(frames, prefix="run-1", batch_size=20, undelivered=()):
    return list(queue_traffic(undelivered, frames, batch_size=batch_size, request_prefix=prefix))


def deliver(backend, frames, **more: Any) -> tuple[pd.DataFrame, TrafficSummary]:
    parts = list(send(backend, frames, **more))
    return pd.concat(parts), summarise(Batches.of(parts))


class Unreliable(InProcessBackend):
    """Does not do what it should, on the calls it is told; a list of ways for each request."""

    def __init__(self, backend: InProcessBackend, *ways: str) -> None:
        super().__init__(backend._predictor, backend._log)
        self.ways = list(ways)
        self.calls = 0
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def predict(self, wines: pd.DataFrame, **arguments: Any) -> pd.DataFrame:
        with self._lock:
            self.calls += 1
            self.asked[arguments["request_id"]] += 1
            way = self.ways.pop(0) if self.ways else ""
        if way == "refuses":
            raise RefusedBatchError("These cannot be wines.")
        if way == "crashes":
            raise ConnectionResetError("reset by peer")
        if way == "is away":
            raise BackendUnavailableError("The service is not there: start it.")
        answer = super().predict(wines, **arguments)
        if way == "loses the answer":
            raise BackendUnavailableError("no answer in time", retry_after=0.001)
        return answer.head(1) if way == "answers one" else answer


# Queueing


@settings(max_examples=40)
@given(
    samples=st.integers(1, 120),
    batch_size=st.integers(1, 50),
    batches=st.integers(1, 4),
    seed=st.integers(0, 100),
)
def test_every_wine_is_in_one_batch(make_wines, samples, batch_size, batches, seed):
    asked = {"samples": samples, "start": NOON, "duration": DAY, "seed": seed}
    frames = list(plan_traffic(make_wines(200), **asked, chunk_rows=batches * batch_size))
    queued = queue(frames, batch_size=batch_size)
    whole = pd.concat(queued)
    assert set(whole["source"]) == {"simulation"}
    sent = whole.drop(columns=["request_id", "source"])
    assert_frame_equal(sent, pd.concat(frames), check_index_type=False)
    sizes = whole.groupby("request_id", sort=False).size().tolist()
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert len(sizes) == -(-samples // batch_size)
    # however the traffic is cut, its batches are the same
    at_once = queue(list(plan_traffic(make_wines(200), **asked)), batch_size=batch_size)
    assert_frame_equal(pd.concat(at_once), whole, check_index_type=False)


def test_a_frame_holds_whole_batches():
    assert chunk_rows(50) == 50_000
    assert chunk_rows(7) % 7 == 0
    assert chunk_rows(1_000_000) == 1_000_000
    with pytest.raises(WineQualityError, match="batch_size must be 1 or more"):
        chunk_rows(0)


def test_requests_are_told_apart_by_prefix_number_content_and_time(plan):
    def ids(frames, prefix="run-1"):
        return set(pd.concat(queue(frames, prefix))["request_id"])

    first = ids(plan())
    assert len(first) == 5
    assert ids(plan()) == first
    assert not ids(plan(), "run-2") & first
    assert not ids(plan(seed=2)) & first
    assert not ids([plan()[0].assign(event_time=lambda f: f["event_time"] + DAY)]) & first


def test_a_batch_is_of_one_source(backend, log, plan):
    frames = [
        frame.assign(source=pd.Series("partner", frame.index).where(frame.index % 3 == 0))
        for frame in plan()
    ]
    queued = pd.concat(queue(frames))
    assert queued.index.tolist() == list(range(95))
    batches = queued.groupby("request_id", sort=False)
    assert queued.drop_duplicates(["request_id", "source"])["request_id"].is_unique
    assert batches.size().max() <= 20
    deliver(backend, [queued])
    assert log.read()["source"].value_counts().to_dict() == {"simulation": 63, "partner": 32}


def test_what_an_earlier_version_could_not_deliver_names_no_source(plan):
    left = queue(plan(20), "run-0")[0].drop(columns="source")
    (queued,) = queue([], undelivered=[left])
    assert set(queued["source"]) == {"simulation"}


def test_what_was_not_delivered_comes_first_in_its_batches(plan):
    left = queue(plan(40), "run-0")[0].iloc[20:]
    queued = pd.concat(queue(plan(), undelivered=[left]))
    assert queued.index.tolist() == list(range(20 + 95))
    assert_frame_equal(queued.iloc[:20], left.set_axis(pd.RangeIndex(20)), check_index_type=False)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_has_wines(plan, batch_size):
    with pytest.raises(WineQualityError, match="batch_size must be 1 or more"):
        queue(plan(), batch_size=batch_size)


# Sending


@pytest.mark.parametrize("concurrency", [1, 4])
def test_every_wine_gets_its_receipt(backend, log, plan, concurrency):
    frames = queue(plan(frame_rows=40))
    traffic = pd.concat(frames)

    receipts, summary = deliver(backend, frames, concurrency=concurrency)

    assert receipts.index.tolist() == traffic.index.tolist()
    assert receipts["acknowledged"].all()
    assert receipts["error"].isna().all()
    assert set(receipts["attempts"]) == {1}
    assert receipts["prediction"].tolist() == (traffic["alcohol"] / 2).tolist()
    for column in ("event_time", "quality", "request_id"):
        assert receipts[column].equals(traffic[column])
    assert receipts.groupby(receipts.index // 20)["latency_ms"].nunique().tolist() == [1] * 5
    logged = log.read()
    assert logged["prediction_id"].nunique() == 95
    assert set(logged["prediction_id"]) == set(receipts["prediction_id"])
    assert logged["event_time"].tolist() == traffic["event_time"].tolist()
    assert set(logged["source"]) == {"simulation"}

    assert (summary.sent, summary.acknowledged, summary.retried) == (95, 95, 0)
    assert (summary.refused, summary.undelivered) == (0, 0)
    assert summary.rows_per_second == pytest.approx(95 / summary.seconds)
    assert summary.error == ""
    assert summary.last_sent == traffic["event_time"].max().isoformat()


def test_percentiles_are_those_of_the_wines_not_of_the_batches():
    latency = [5.0, 1.0, 3.0]
    rows = [1, 98, 1]
    batches = Batches(
        rows=np.array(rows),
        sent_at=np.array([10.0, 10.5, 11.0]),
        latency_ms=np.array(latency),
        attempts=np.array([1, 2, 1]),
        acknowledged=np.array([True, True, True]),
        refused=np.array([False, False, False]),
        last_event=pd.Series(pd.date_range(NOON, periods=3, unit="us")),
        error="",
    )
    summary = summarise(batches)
    by_wine = np.repeat(latency, rows)
    for share, told in ((50, summary.latency_p50_ms), (99, summary.latency_p99_ms)):
        assert told == np.percentile(by_wine, share, method="inverted_cdf")
    assert summary.latency_p95_ms == 1.0
    assert summary.retried == 98
    assert summary.seconds == pytest.approx(1.003)
    assert summary.rows_per_second == pytest.approx(100 / 1.003)


def test_sending_again_logs_nothing_twice(backend, log, plan):
    frames = queue(plan())
    first, _ = deliver(backend, frames)
    again, summary = deliver(backend, frames)
    assert again["prediction_id"].equals(first["prediction_id"])
    assert summary.acknowledged == 95
    assert log.counts().predictions == 95

    deliver(backend, queue(plan(), "run-2"))
    assert log.counts().predictions == 2 * 95
    # Other wines under the same prefix are other requests, not conflicts.
    _, other = deliver(backend, queue(plan(seed=2)))
    assert other.acknowledged == 95
    assert log.counts().predictions == 3 * 95


def test_a_batch_that_fails_does_not_stop_the_others(backend, log, plan):
    unreliable = Unreliable(backend, "refuses", "crashes", "", "answers one")
    frames = queue(plan())

    receipts, summary = deliver(unreliable, frames, patience_seconds=60)

    assert unreliable.calls == 5
    assert (summary.sent, summary.acknowledged) == (95, 35)
    assert (summary.refused, summary.undelivered) == (20, 40)
    ok = receipts["acknowledged"]
    assert ok[ok].index.tolist() == [*range(40, 60), *range(80, 95)]
    assert receipts.loc[~ok, ["prediction_id", "prediction", "model_version"]].isna().all(axis=None)
    assert receipts.groupby(receipts.index // 20)["error"].first().fillna("").tolist() == [
        "These cannot be wines.",
        "ConnectionResetError('reset by peer')",
        "",
        "the backend answered 1 of 20 wines",
        "",
    ]
    assert summary.error.split("; ")[0] == "These cannot be wines."

    # what was refused for good would be refused again; the others may be corrected
    rest = list(not_delivered(frames, [receipts]))
    again, summary = deliver(backend, rest)
    assert (summary.sent, summary.acknowledged) == (40, 40)
    ids = frames[0]["request_id"]
    assert set(again["request_id"]) == {ids.iloc[20], ids.iloc[60]}


@pytest.mark.parametrize(
    ("failure", "refused"),
    [
        (DatabaseError("The disk is full."), 0),
        (WineQualityError("The service does not know the API key."), 0),
        (RuntimeError("a mistake of the backend's"), 0),
        (RequestConflictError("r"), 95),
        (RefusedBatchError("These cannot be wines."), 95),
    ],
)
def test_wines_are_dropped_only_where_they_are_what_is_wrong(backend, plan, failure, refused):
    class Failing(InProcessBackend):
        calls = 0

        def predict(self, wines, **arguments):
            Failing.calls += 1
            raise failure

    frames = queue(plan())
    receipts, summary = deliver(
        Failing(backend._predictor, backend._log), frames, patience_seconds=60
    )
    assert Failing.calls == 5
    assert (summary.refused, summary.undelivered) == (refused, 95 - refused)
    assert sum(map(len, not_delivered(frames, [receipts]))) == 95 - refused


def test_a_server_that_asks_for_more_patience_than_there_is_is_given_up(backend, plan, monkeypatch):
    clock = SimpleNamespace(sleep=lambda _: pytest.fail("it waits"), monotonic=time.monotonic)
    monkeypatch.setattr(retrying, "time", clock)

    class Busy(InProcessBackend):
        calls = 0

        def predict(self, wines, **arguments):
            Busy.calls += 1
            raise BackendUnavailableError("busy", retry_after=3600)

    _, summary = deliver(Busy(backend._predictor, backend._log), queue(plan()), patience_seconds=60)
    assert (Busy.calls, summary.undelivered) == (1, 95)


def test_what_was_logged_without_an_answer_is_not_logged_twice(backend, log, plan):
    frames = queue(plan())
    receipts, summary = deliver(Unreliable(backend, "loses the answer"), frames)
    assert (summary.acknowledged, summary.undelivered) == (0, 95)
    assert log.counts().predictions == 20
    again, summary = deliver(backend, list(not_delivered(frames, [receipts])))
    assert summary.acknowledged == 95
    assert sorted(log.read()["prediction_id"]) == sorted(again["prediction_id"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12)
@given(
    ways=st.lists(st.sampled_from(["is away", "loses the answer", ""]), max_size=12),
    concurrency=st.integers(1, 4),
)
def test_a_backend_that_comes_back_costs_no_wine_and_doubles_none(
    tmp_path_factory, make_wines, ways, concurrency
):
    class Model:
        def predict(self, wines):
            return wines["alcohol"].to_numpy() / 2

    log = InferenceLog(f"sqlite:///{tmp_path_factory.mktemp('log')}/inference.db")
    hosted = InProcessBackend(Predictor(Model(), "wine-quality", "3"), log)
    unreliable = Unreliable(hosted, *ways)
    asked = {"samples": 60, "start": NOON, "duration": DAY, "seed": 1}
    frames = queue(list(plan_traffic(make_wines(80), **asked)), batch_size=10)

    receipts, summary = deliver(unreliable, frames, patience_seconds=60, concurrency=concurrency)

    # what it was told for calls that never came does not count
    stumbles = sum(bool(way) for way in ways) - sum(bool(way) for way in unreliable.ways)
    assert unreliable.calls == 6 + stumbles
    assert summary.acknowledged == 60
    assert receipts.drop_duplicates("request_id")["attempts"].sum() == 6 + stumbles
    assert (summary.retried > 0) == (stumbles > 0)
    assert sorted(log.read()["prediction_id"]) == sorted(receipts["prediction_id"])
    log.close()


def test_a_backend_that_is_away_is_told_of_once(backend, plan, caplog):
    with caplog.at_level(logging.WARNING):
        unreliable = Unreliable(backend, *["is away"] * 5)
        deliver(unreliable, queue(plan()), patience_seconds=60)
    assert [record.getMessage() for record in caplog.records] == [
        "The backend is away, trying again: The service is not there: start it."
    ]


def test_a_backend_that_stays_away_is_given_up_once_for_all(backend, log, plan):
    unreliable = Unreliable(backend, "", *["is away"] * 10_000)
    frames = queue(plan(frame_rows=40))
    parts = list(send(unreliable, frames, patience_seconds=0.05))
    summary = summarise(Batches.of(parts))
    assert (summary.acknowledged, summary.undelivered) == (20, 75)
    assert summary.error == "The service is not there: start it."
    receipts = pd.concat(parts).drop_duplicates("request_id")
    assert receipts["attempts"].tolist()[2:] == [0, 0, 0]
    assert unreliable.asked.total() == receipts["attempts"].sum()

    # what is kept comes in the batches in which it was sent, and alone
    left = list(not_delivered(frames, parts))
    kept = pd.concat(left)
    assert kept.index.tolist() == list(range(75))
    assert set(kept["request_id"]) == set(receipts["request_id"][1:])
    _, summary = deliver(backend, left)
    assert summary.acknowledged == 75
    assert log.counts().predictions == 95


def test_a_backend_that_answers_others_meanwhile_is_not_given_up(backend, plan):
    frames = queue(plan())
    unlucky = frames[0]["request_id"].iloc[0]
    is_tried, others, has_answered = threading.Event(), [], threading.Event()

    class Choosy(InProcessBackend):
        def predict(self, wines, **arguments):
            if arguments["request_id"] == unlucky:
                is_tried.set()
                assert has_answered.wait(60)
                raise BackendUnavailableError("busy")
            assert is_tried.wait(60)
            others.append(arguments["request_id"])
            # who comes with the next batch has got the answer to the one before
            if len(others) > 1:
                has_answered.set()
            return super().predict(wines, **arguments)

    receipts, summary = deliver(Choosy(backend._predictor, backend._log), frames, concurrency=2)
    assert (summary.acknowledged, summary.undelivered) == (75, 20)
    assert set(receipts.loc[~receipts["acknowledged"], "request_id"]) == {unlucky}


def test_a_longer_time_that_the_server_names_is_heeded(backend, plan, monkeypatch):
    pauses = []
    # not the module's own function: threads of the libraries sleep as well
    clock = SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic)
    monkeypatch.setattr(retrying, "time", clock)

    class Busy(Unreliable):
        def predict(self, wines, **arguments):
            if not pauses:
                raise BackendUnavailableError("busy", retry_after=7.5)
            return super().predict(wines, **arguments)

    _, summary = deliver(Busy(backend), queue(plan(10)), patience_seconds=60)
    assert pauses == [7.5]
    assert summary.acknowledged == 10


def test_when_all_fails_the_summary_says_so(backend, plan):
    unreliable = Unreliable(backend, *["refuses"] * 99)
    receipts, summary = deliver(unreliable, queue(plan()))
    assert (summary.sent, summary.acknowledged, summary.refused) == (95, 0, 95)
    assert summary.rows_per_second == 0
    assert summary.latency_p50_ms is None
    assert summary.latency_p99_ms is None
    # what was refused was measured as well
    assert summary.last_sent == receipts["event_time"].max().isoformat()
    assert receipts["prediction"].dtype == "float64"


def test_nothing_sent_is_summed_up_too(backend):
    assert list(send(backend, [])) == []
    summary = summarise(Batches.of([]))
    assert (summary.sent, summary.seconds, summary.rows_per_second) == (0, 0, 0)
    assert summary.last_sent == ""


def test_an_impossible_wine_fails_its_batch_alone(backend, plan):
    (frame,) = queue(plan())
    frame.loc[33, "alcohol"] = 300.0
    receipts, summary = deliver(backend, [frame])
    assert summary.refused == 20
    assert "row 33, alcohol" in receipts.loc[20, "error"]


def test_wines_without_quality_can_be_sent(backend, plan):
    receipts, summary = deliver(backend, queue([plan()[0].drop(columns="quality")]))
    assert summary.acknowledged == 95
    assert "quality" not in receipts


def test_several_batches_are_under_way_at_a_time(backend, plan):
    meeting = threading.Barrier(3, timeout=30)

    class Meeting(InProcessBackend):
        def predict(self, wines, **arguments):
            meeting.wait()
            return super().predict(wines, **arguments)

    _, summary = deliver(Meeting(backend._predictor, backend._log), queue(plan(60)), concurrency=3)
    assert summary.acknowledged == 60


def test_no_more_wines_than_the_rate_allows():
    now = [100.0]

    def sleep(seconds):
        now[0] += seconds

    pace = Pace(50, clock=lambda: now[0], sleep=sleep)
    begun = []
    for _ in range(4):
        pace.wait(20)
        begun.append(now[0])
    assert begun == pytest.approx([100, 100.4, 100.8, 101.2])
    # whoever comes late does not make up for it
    now[0] = 200.0
    pace.wait(20)
    pace.wait(20)
    assert now[0] == pytest.approx(200.4)
    free = Pace(None, clock=lambda: now[0], sleep=sleep)
    free.wait(10**9)
    assert now[0] == pytest.approx(200.4)


def test_the_progress_bar_stays_away_from_files(backend, plan, capfd):
    frames = queue(plan())
    list(send(backend, Stream(lambda: iter(frames), rows=95)))
    assert capfd.readouterr() == ("", "")
