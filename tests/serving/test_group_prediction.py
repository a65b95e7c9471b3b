"""Requests that wait together are answered in one call, and one's fault is not the others'."""

import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from wine_quality.modelling.loading import BrokenVersionError
from wine_quality.serving.group_prediction import UnpredictedBatch, predict_together
from wine_quality.serving.prediction_batch import PredictionBatch
from wine_quality.serving.served_model import ServedModel
from wine_quality.serving.wine_requests import Wines
from wine_quality.wines import MEASUREMENT_NAMES

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
YESTERDAY = datetime(2026, 1, 30, 12, tzinfo=UTC)


class Engine:
    """Answers the alcohol, and nothing for wines without pH."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, types: Any, measurements: Any) -> Any:
        self.calls.append(len(types))
        answers = measurements[:, MEASUREMENT_NAMES.index("alcohol")].copy()
        answers[measurements[:, MEASUREMENT_NAMES.index("pH")] == 0] = np.nan
        return answers


def batch(model: ServedModel, *alcohol: float, ph: float = 3, key: str | None = None) -> Any:
    measurements = np.ones((len(alcohol), len(MEASUREMENT_NAMES)))
    measurements[:, MEASUREMENT_NAMES.index("alcohol")] = alcohol
    measurements[:, MEASUREMENT_NAMES.index("pH")] = ph
    moments = [None, YESTERDAY, None][: len(alcohol)]
    wines = Wines(["red"] * len(alcohol), measurements, moments, None, ())
    return UnpredictedBatch(model, wines, NOON, time.perf_counter(), "tests", key)


def test_a_group_is_one_call_for_each_model() -> None:
    engines = Engine(), Engine()
    one, two = (
        ServedModel("wine", version, engine, "onnx")
        for version, engine in zip("12", engines, strict=True)
    )
    done = batch(one, 9).predict()
    engines[0].calls.clear()
    asked = [batch(one, 8), batch(two, 9, 10), done, batch(one, 11, 12, 13), batch(two, 14)]
    found = predict_together(asked)
    assert [f.predictions.tolist() for f in found if isinstance(f, PredictionBatch)] == [
        [8], [9, 10], [9], [11, 12, 13], [14],
    ]  # fmt: skip
    assert found[2] is done
    assert [engine.calls for engine in engines] == [[4], [3]]
    last = found[3]
    assert isinstance(last, PredictionBatch)
    assert list(last.event_times) == [NOON, YESTERDAY, NOON]
    assert (last.model_version, last.source, last.latency_ms > 0) == ("1", "tests", True)


def test_what_one_request_breaks_the_others_do_not_notice() -> None:
    engine = Engine()
    model = ServedModel("wine", "1", engine, "onnx")
    asked = [batch(model, 8), batch(model, 9, ph=0), batch(model, 10, key=""), batch(model, 11)]
    good, broken, unusable, other = predict_together(asked)
    assert isinstance(good, PredictionBatch)
    assert isinstance(other, PredictionBatch)
    assert (good.predictions.tolist(), other.predictions.tolist()) == ([8], [11])
    assert isinstance(broken, BrokenVersionError)
    assert "request id" in str(unusable)


@pytest.mark.parametrize("n", [0, 1])
def test_no_call_for_nothing(n: int) -> None:
    engine = Engine()
    asked = [batch(ServedModel("wine", "1", engine, "onnx"), 8) for _ in range(n)]
    assert len(predict_together(asked)) == n
    assert engine.calls == [1] * n
