"""A server that `just serve-mlflow` started, and a stub that misbehaves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

from wine_quality.errors import WineQualityError
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.predictor import ModelDescription, Predictor
from wine_quality.traffic.backend_contract import NOON, BackendContract, contract_wines
from wine_quality.traffic.backends import (
    Backend,
    BackendContext,
    BackendUnavailableError,
    create_backend,
)


def connect(url: str, context: BackendContext, **config: Any) -> Backend:
    return create_backend("mlflow_server", {"url": url, **config}, context)


def send(backend: Backend, wines: pd.DataFrame, request_id: str = "r") -> pd.DataFrame:
    return backend.predict(wines, event_time=NOON, source="test", request_id=request_id)


@pytest.mark.slow
class TestMlflowServer(BackendContract):
    @pytest.fixture
    def backend(self, mlflow_server: str, context: BackendContext) -> Backend:
        return connect(mlflow_server, context)


class Constant:
    def predict(self, wines: pd.DataFrame) -> np.ndarray:
        return np.full(len(wines), 5.0)


@pytest.mark.slow
def test_a_server_of_another_version_is_not_taken_for_the_champion(
    mlflow_server: str, log: InferenceLog
) -> None:
    other = BackendContext(Predictor(Constant(), "wine-quality", "2"), log)
    health = connect(mlflow_server, other).check_health()
    assert not health.ready
    assert "answers otherwise than the champion, version 2" in health.reason
    named = connect(mlflow_server, other, version=1, registered_model="ours")
    assert named.check_health().ready
    assert named.describe_model() == ModelDescription("ours", "1")


def answers(*predictions: float) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, orjson.dumps({"predictions": predictions})


def test_a_repeated_request_does_not_ask_again(stub: Any, log: InferenceLog) -> None:
    backend = connect(stub.url, BackendContext(log=log), version="1")
    stub.answer = answers(5.0, 6.0)
    first = send(backend, contract_wines(2))
    stub.answer = (500, {}, b"")
    pd.testing.assert_frame_equal(send(backend, contract_wines(2)), first)
    ((method, path, _, body),) = stub.asked
    assert (method, path) == ("POST", "/invocations")
    table = orjson.loads(body)["dataframe_split"]
    assert table["columns"][:2] == ["type", "fixed_acidity"]
    assert len(table["data"]) == 2


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((503, {"Retry-After": "3"}, b""), BackendUnavailableError, "answered 503"),
        ((200, {}, None), BackendUnavailableError, "broke off"),
        (answers(5.0), WineQualityError, "did not answer 2 wines"),
        (
            answers(5.0, float("nan")),
            WineQualityError,
            "does not answer with predictions|one finite",
        ),
        ((200, {}, b'{"predictions": ["a", "b"]}'), WineQualityError, "does not answer with"),
        ((200, {}, b"[]"), WineQualityError, "does not answer with predictions"),
        ((200, {}, b"<html>"), WineQualityError, "does not answer with predictions"),
        (
            (
                400,
                {"Content-Type": "application/json"},
                b'{"error_code": "BAD_REQUEST", "message": "no\\nschema"}',
            ),
            WineQualityError,
            "answered 400 Bad Request: no schema",
        ),
    ],
)
def test_nothing_is_logged_of_what_is_no_answer(
    stub: Any, log: InferenceLog, answer: Any, error: type[WineQualityError], message: str
) -> None:
    stub.answer = answer
    backend = connect(stub.url, BackendContext(log=log), version="1")
    with pytest.raises(WineQualityError, match=message) as caught:
        send(backend, contract_wines(2))
    assert isinstance(caught.value, BackendUnavailableError) == (error is BackendUnavailableError)
    assert "\n" not in str(caught.value)
    assert log.read().empty


def test_something_else_answers(stub: Any, log: InferenceLog) -> None:
    backend = connect(stub.url, BackendContext(log=log), version="1")
    for answer in ((200, {}, b"<html>"), (404, {}, b"")):
        stub.answer = answer
        health = backend.check_health()
        assert not health.ready
        assert "is no MLflow model server" in health.reason


def test_nobody_is_there(free_port: Callable[[], int], context: BackendContext) -> None:
    health = connect(f"http://127.0.0.1:{free_port()}", context).check_health()
    assert not health.ready
    assert "start the server ('just serve-mlflow')" in health.reason


def test_its_mistakes_are_told(context: BackendContext, log: InferenceLog) -> None:
    with pytest.raises(WineQualityError, match="cannot say which model version answers"):
        create_backend("mlflow_server", {}, BackendContext(log=log))
    with pytest.raises(WineQualityError, match="needs an inference log"):
        create_backend("mlflow_server", {}, BackendContext(predictor=context.predictor))
    with pytest.raises(WineQualityError, match="prot: Extra inputs"):
        create_backend("mlflow_server", {"prot": 1}, context)
