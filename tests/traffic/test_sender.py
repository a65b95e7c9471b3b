"""The sender: the same plan for the same seed, every wine accounted for, none sent twice."""

import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wine_quality.errors import WineQualityError
from wine_quality.serving.inference_log import InferenceLog, LogCounts
from wine_quality.serving.predictor import PredictionService, Predictor
from wine_quality.traffic.backends import InProcessBackend
from wine_quality.traffic.sender import (
    GroundTruthSummary,
    plan_traffic,
    send,
    submit_ground_truth,
)
from wine_quality.wines import INPUTS, MEASUREMENTS, WINE_TYPES

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def make_wines(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "type": rng.choice(WINE_TYPES, n),
            **{m.name: rng.uniform(*m.plausible, n) for m in MEASUREMENTS},
            "quality": rng.integers(3, 9, n),
        },
        index=range(1000, 1000 + n),
    )


def plan(samples: int = 95, wines: int = 200, **changes: Any) -> pd.DataFrame:
    arguments = {"samples": samples, "start": NOON, "duration": DAY, "seed": 1, **changes}
    return plan_traffic(make_wines(wines), **arguments)


class HalfOfAlcohol:
    def predict(self, wines: pd.DataFrame) -> np.ndarray:
        return wines["alcohol"].to_numpy() / 2


@pytest.fixture
def log(tmp_path: Path) -> InferenceLog:
    return InferenceLog(f"sqlite:///{tmp_path}/inference.db")


@pytest.fixture
def backend(log: InferenceLog) -> InProcessBackend:
    return InProcessBackend(PredictionService(Predictor(HalfOfAlcohol(), "wine-quality", "3"), log))


class Unreliable(InProcessBackend):
    """Fails before or after the work on the calls it is told."""

    def __init__(self, backend: InProcessBackend, fail: dict[int, str]) -> None:
        super().__init__(backend._service)
        self.fail = fail
        self.calls = 0

    def predict(self, wines: pd.DataFrame, **arguments: Any) -> pd.DataFrame:
        self.calls += 1
        how = self.fail.get(self.calls)
        if how == "refuses":
            raise WineQualityError("The service is not there: start it.")
        if how == "crashes":
            raise ConnectionResetError("reset by peer")
        answer = super().predict(wines, **arguments)
        if how == "loses the answer":
            raise TimeoutError("no answer in time")
        return answer.head(1) if how == "answers one" else answer


# Planning


@given(
    samples=st.integers(1, 60),
    wines=st.integers(1, 40),
    seed=st.integers(0, 2**32),
    duration=st.timedeltas(timedelta(microseconds=1), timedelta(days=400)),
)
def test_a_plan_holds_what_was_asked_for(
    samples: int, wines: int, seed: int, duration: timedelta
) -> None:
    pool = make_wines(wines)
    planned = plan_traffic(pool, samples=samples, start=NOON, duration=duration, seed=seed)

    assert list(planned) == [*pool, "event_time"]
    assert planned.index.tolist() == list(range(samples))
    assert str(planned["event_time"].dtype) == "datetime64[us, UTC]"
    assert planned["event_time"].is_monotonic_increasing
    assert planned["event_time"].between(NOON, NOON + duration, inclusive="left").all()
    drawn = planned.drop(columns="event_time")
    assert len(drawn.merge(pool)) == samples
    if samples <= wines:
        assert not drawn.duplicated().any()
    pd.testing.assert_frame_equal(
        planned,
        plan_traffic(pool, samples=samples, start=NOON, duration=duration, seed=seed),
    )


def test_event_times_fill_the_duration_evenly() -> None:
    hours = (plan(samples=2_400)["event_time"] - NOON) // timedelta(hours=1)
    per_hour = hours.value_counts()
    assert len(per_hour) == 24
    assert per_hour.between(60, 140).all()


def test_the_seed_says_which_wines_and_when() -> None:
    one, other = plan(seed=1), plan(seed=2)
    assert not one[list(INPUTS)].equals(other[list(INPUTS)])
    assert not one["event_time"].equals(other["event_time"])


def test_the_start_may_be_given_in_any_timezone() -> None:
    local = plan(start=NOON.astimezone(timezone(timedelta(hours=9))))
    pd.testing.assert_frame_equal(local, plan())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 0}, "samples must be 1 or more, not 0"),
        ({"wines": 0}, "no wines to send"),
        ({"duration": timedelta(0)}, "duration of the traffic must be above 0"),
        ({"duration": -DAY}, "duration of the traffic must be above 0"),
        ({"start": datetime(2026, 1, 31)}, "start needs a date with a timezone"),
    ],
)
def test_an_impossible_plan_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(WineQualityError, match=message):
        plan(**changes)


# Sending


def test_every_wine_gets_its_receipt(backend: InProcessBackend, log: InferenceLog) -> None:
    traffic = plan()

    receipts, summary = send(backend, traffic, batch_size=20, request_prefix="run-1")

    assert receipts.index.equals(traffic.index)
    assert receipts["acknowledged"].all()
    assert receipts["error"].isna().all()
    assert receipts["prediction"].tolist() == (traffic["alcohol"] / 2).tolist()
    assert receipts["event_time"].equals(traffic["event_time"])
    assert receipts["quality"].equals(traffic["quality"])
    assert receipts.groupby(receipts.index // 20)["latency_ms"].nunique().tolist() == [1] * 5
    logged = log.read()
    assert logged["prediction_id"].tolist() == receipts["prediction_id"].tolist()
    assert logged["event_time"].tolist() == traffic["event_time"].tolist()
    assert set(logged["source"]) == {"simulation"}

    assert (summary.sent, summary.acknowledged, summary.failed) == (95, 95, 0)
    assert summary.rows_per_second == pytest.approx(95 / summary.seconds)
    latencies = receipts["latency_ms"]
    assert summary.latency_p50_ms == pytest.approx(latencies.quantile(0.5))
    assert summary.latency_p95_ms == pytest.approx(latencies.quantile(0.95))
    assert latencies.drop_duplicates().sum() / 1000 < summary.seconds


def test_sending_again_logs_nothing_twice(backend: InProcessBackend, log: InferenceLog) -> None:
    traffic = plan()
    first, _ = send(backend, traffic, batch_size=20, request_prefix="run-1")
    again, summary = send(backend, traffic, batch_size=20, request_prefix="run-1")
    assert again["prediction_id"].equals(first["prediction_id"])
    assert summary.acknowledged == 95
    assert log.counts().predictions == 95

    send(backend, traffic, batch_size=20, request_prefix="run-2")
    assert log.counts().predictions == 2 * 95
    # Other wines under the same prefix are other requests, not conflicts.
    _, other = send(backend, plan(seed=2), batch_size=20, request_prefix="run-1")
    assert other.failed == 0
    # And so are the same wines at other times.
    later = traffic.assign(event_time=traffic["event_time"] + DAY)
    assert send(backend, later, batch_size=20, request_prefix="run-1").summary.failed == 0
    assert log.counts().predictions == 4 * 95


def test_a_batch_that_fails_does_not_stop_the_others(
    backend: InProcessBackend, log: InferenceLog, caplog: pytest.LogCaptureFixture
) -> None:
    unreliable = Unreliable(
        backend, {1: "refuses", 2: "crashes", 4: "answers one", 5: "loses the answer"}
    )
    traffic = plan()

    receipts, summary = send(unreliable, traffic, batch_size=20, request_prefix="run-1")

    assert unreliable.calls == 5
    assert (summary.sent, summary.acknowledged, summary.failed) == (95, 20, 75)
    assert receipts.index.equals(traffic.index)
    ok = receipts["acknowledged"]
    assert ok[ok].index.tolist() == list(range(40, 60))
    assert receipts.loc[~ok, ["prediction_id", "prediction", "model_version"]].isna().all(axis=None)
    assert receipts.groupby(receipts.index // 20)["error"].first().fillna("").tolist() == [
        "The service is not there: start it.",
        "ConnectionResetError('reset by peer')",
        "",
        "the backend answered 1 of 20 wines",
        "TimeoutError('no answer in time')",
    ]
    assert summary.latency_p50_ms == receipts.loc[40, "latency_ms"]
    assert "75 of 95 wines were not acknowledged: The service is not there" in caplog.text

    # Sending again brings the rest, and what was logged without an answer is not logged twice.
    again, summary = send(backend, traffic, batch_size=20, request_prefix="run-1")
    assert (summary.acknowledged, summary.failed) == (95, 0)
    assert again.loc[ok, "prediction_id"].equals(receipts.loc[ok, "prediction_id"])
    assert sorted(log.read()["prediction_id"]) == sorted(again["prediction_id"])


def test_when_all_fails_the_summary_says_so(backend: InProcessBackend) -> None:
    unreliable = Unreliable(backend, dict.fromkeys(range(1, 99), "refuses"))
    receipts, summary = send(unreliable, plan(), batch_size=50, request_prefix="run-1")
    assert (summary.sent, summary.acknowledged, summary.failed) == (95, 0, 95)
    assert summary.rows_per_second == 0
    assert summary.latency_p50_ms is None
    assert summary.latency_p95_ms is None
    assert receipts["prediction"].dtype == "float64"


def test_an_impossible_wine_fails_its_batch_alone(backend: InProcessBackend) -> None:
    traffic = plan()
    traffic.loc[33, "alcohol"] = 300.0
    receipts, summary = send(backend, traffic, batch_size=20, request_prefix="run-1")
    assert summary.failed == 20
    assert "row 33, alcohol" in receipts.loc[20, "error"]


def test_wines_without_quality_can_be_sent(backend: InProcessBackend) -> None:
    receipts, summary = send(
        backend, plan().drop(columns="quality"), batch_size=50, request_prefix="run-1"
    )
    assert summary.acknowledged == 95
    assert "quality" not in receipts


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_has_wines(backend: InProcessBackend, batch_size: int) -> None:
    with pytest.raises(WineQualityError, match="batch_size must be 1 or more"):
        send(backend, plan(), batch_size=batch_size, request_prefix="run-1")


def test_there_must_be_traffic(backend: InProcessBackend) -> None:
    with pytest.raises(WineQualityError, match="no traffic to send"):
        send(backend, plan().head(0), batch_size=10, request_prefix="run-1")


def test_the_progress_bar_stays_away_from_files(
    backend: InProcessBackend, capfd: pytest.CaptureFixture[str]
) -> None:
    send(backend, plan(), batch_size=10, request_prefix="run-1")
    assert capfd.readouterr() == ("", "")


# Ground truth


def label(backend: InProcessBackend, receipts: pd.DataFrame, **changes: Any) -> GroundTruthSummary:
    arguments = {"share": 1.0, "delay": timedelta(0), "seed": 1, "batch_size": 30, **changes}
    return submit_ground_truth(backend, receipts, **arguments)


def test_ground_truth_comes_for_a_share_and_later(
    backend: InProcessBackend, log: InferenceLog
) -> None:
    receipts, _ = send(backend, plan(), batch_size=20, request_prefix="run-1")

    summary = label(backend, receipts, share=0.4, delay=2 * DAY)

    assert summary == GroundTruthSummary(eligible=95, submitted=38, new=38)
    labelled = log.read().dropna(subset="quality").set_index("prediction_id")
    sent = receipts.set_index("prediction_id").loc[labelled.index]
    assert (labelled["quality"] == sent["quality"]).all()
    assert (labelled["labelled_at"] - labelled["event_time"] == 2 * DAY).all()
    assert label(backend, receipts, share=0.4, delay=2 * DAY).new == 0
    assert label(backend, receipts, share=0.4, delay=2 * DAY, seed=2).new > 0


def test_only_acknowledged_wines_with_a_quality_are_judged(
    backend: InProcessBackend, log: InferenceLog
) -> None:
    unreliable = Unreliable(backend, {2: "refuses"})
    traffic = plan().astype({"quality": "float64"})
    traffic.loc[:4, "quality"] = math.nan
    receipts, _ = send(unreliable, traffic, batch_size=20, request_prefix="run-1")
    assert label(backend, receipts) == GroundTruthSummary(eligible=70, submitted=70, new=70)
    assert log.counts() == LogCounts(predictions=75, labels=70, labelled=70)


def test_a_share_of_nothing_is_nothing(backend: InProcessBackend) -> None:
    receipts, _ = send(backend, plan(), batch_size=50, request_prefix="run-1")
    assert label(backend, receipts, share=0.0) == GroundTruthSummary(95, 0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 1.1}, "share of labelled wines must be from 0 to 1, not 1.1"),
        ({"share": -0.1}, "share of labelled wines must be from 0 to 1"),
        ({"share": math.nan}, "share of labelled wines must be from 0 to 1"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
    ],
)
def test_impossible_ground_truth_is_refused(
    backend: InProcessBackend, changes: dict[str, Any], message: str
) -> None:
    receipts, _ = send(backend, plan(), batch_size=50, request_prefix="run-1")
    with pytest.raises(WineQualityError, match=message):
        label(backend, receipts, **changes)


def test_ground_truth_needs_a_quality(backend: InProcessBackend) -> None:
    receipts, _ = send(
        backend, plan().drop(columns="quality"), batch_size=50, request_prefix="run-1"
    )
    with pytest.raises(WineQualityError, match="no quality, so there is no ground truth"):
        label(backend, receipts)
