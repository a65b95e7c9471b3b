"""Our service over HTTP: a real one, and a stub that misbehaves."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

from wine_quality.errors import RefusedBatchError, WineQualityError
from wine_quality.serving.access import new_key
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.settings import ServiceSettings
from wine_quality.traffic.backend_contract import NOON, BackendContract, contract_wines
from wine_quality.traffic.backends import (
    Backend,
    BackendContext,
    BackendUnavailableError,
    create_backend,
)
from wine_quality.traffic.sender import queue_traffic
from wine_quality.traffic.sender import send as send_traffic

ALONE = BackendContext()
WINES = 6_000


def connect(url: str, **config: Any) -> Backend:
    return create_backend("service", {"url": url, **config}, ALONE)


def send(backend: Backend, wines: pd.DataFrame, request_id: str) -> pd.DataFrame:
    return backend.predict(wines, event_time=NOON, source="test", request_id=request_id)


class TestService(BackendContract):
    @pytest.fixture
    def backend(self, service: Any) -> Backend:
        return connect(service.url)

    @pytest.fixture
    def logged(self, service_log: InferenceLog) -> Callable[[], pd.DataFrame]:
        return service_log.read


# A real service


def test_a_large_batch_goes_in_parts(service: Any, service_log: InferenceLog) -> None:
    wines = contract_wines(100)
    before = len(service_log.read())
    backend = connect(service.url, rows_per_request=30)
    answer = send(backend, wines, "parts")
    assert answer.index.equals(wines.index)
    pd.testing.assert_frame_equal(send(backend, wines, "parts"), answer)
    pd.testing.assert_frame_equal(send(backend, wines.head(30), "parts"), answer.head(30))
    assert len(service_log.read()) == before + 100
    labels = answer[["prediction_id"]].assign(quality=5, labelled_at=NOON)
    assert backend.submit_ground_truth(labels) == 100
    with pytest.raises(WineQualityError, match="'parts' was used before for other wines"):
        send(backend, wines.head(29), "parts")


def test_a_batch_above_the_services_limit_says_what_to_do(service: Any) -> None:
    wines = contract_wines(501)
    with pytest.raises(WineQualityError, match=r"501 rows are more than the 500.*rows_per_request"):
        send(connect(service.url), wines, "large")
    assert len(send(connect(service.url, rows_per_request=500), wines, "large")) == 501


@pytest.mark.slow
def test_a_key_is_needed_where_keys_are(
    service_settings: ServiceSettings,
    start_services: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer, written = new_key("writer", ["write"])
    reader, read = new_key("reader", ["read"])
    keys = "\n".join(key.line() for key in (written, read))
    with start_services() as start:
        url = start(service_settings.model_copy(update={"api_keys": keys})).url
        for name, key in (("WRITER", writer), ("READER", reader), ("WRONG", "wq_" + "0" * 43)):
            monkeypatch.setenv(name, key)
        good = connect(url, api_key_variable="WRITER")
        assert good.check_health().ready
        assert len(send(good, contract_wines(2), "keyed")) == 2
        for wrong in (connect(url), connect(url, api_key_variable="WRONG")):
            health = wrong.check_health()
            assert not health.ready
            assert "does not know the API key" in health.reason
            with pytest.raises(WineQualityError, match="does not know the API key") as caught:
                send(wrong, contract_wines(2), "keyless")
            assert "wq_" not in str(caught.value)
        with pytest.raises(WineQualityError, match="does not allow this"):
            send(connect(url, api_key_variable="READER"), contract_wines(2), "reader")


@pytest.mark.slow
def test_killed_in_mid_traffic_each_wine_is_in_the_log_once(
    hosted: Any,
    tmp_path: Path,
    start_services: Callable[[], Any],
) -> None:
    log_url = f"sqlite:///{tmp_path}/killed.db"
    moments = pd.date_range("2026-01-31", periods=WINES, freq="1min", unit="us", tz="UTC")
    wines = contract_wines(WINES).reset_index(drop=True).assign(event_time=moments)
    traffic = queue_traffic([], [wines], batch_size=20, request_prefix="killed")
    with start_services() as start, InferenceLog(log_url) as log:
        server = start(ServiceSettings(tracking_uri=hosted.tracking_uri, log_url=log_url))

        def restart() -> None:
            deadline = time.monotonic() + 60
            while log.counts().predictions < WINES // 4 and time.monotonic() < deadline:
                time.sleep(0.01)
            server.stop(signal.SIGKILL)
            server.start()

        with ThreadPoolExecutor(1) as accident:
            restarted = accident.submit(restart)
            backend = connect(server.url)
            (receipts,) = send_traffic(backend, traffic, concurrency=4, patience_seconds=120)
            restarted.result()
        logged = log.read()
    assert receipts["acknowledged"].all()
    assert (receipts["attempts"] > 1).any()
    assert len(logged) == len(receipts) == WINES
    assert sorted(logged["prediction_id"]) == sorted(receipts["prediction_id"])
    np.testing.assert_allclose(receipts["prediction"], hosted.champion.predict(wines), atol=1e-6)


# What a server may say


def test_nobody_is_there(free_port: Callable[[], int]) -> None:
    backend = connect(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(BackendUnavailableError, match="Nothing answers at http://127") as caught:
        send(backend, contract_wines(1), "r")
    assert "\n" not in str(caught.value)
    assert caught.value.retry_after is None
    health = backend.check_health()
    assert not health.ready
    assert health.reason == str(caught.value)


@pytest.mark.parametrize("body", [None, 60.0])
def test_an_answer_that_does_not_come_may_come_later(stub: Any, body: float | None) -> None:
    stub.answer = (200, {}, body)
    backend = connect(stub.url, timeout_s=0.2)
    with pytest.raises(BackendUnavailableError, match=r"broke off|did not answer within 0.2"):
        send(backend, contract_wines(1), "r")


@pytest.mark.parametrize("status", [429, 503, 502])
@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        (None, None),
        ("?", None),
        ("nan", None),
        ("inf", None),
        ("-1", None),
    ],
)
def test_a_busy_server_says_when_to_come_back(
    stub: Any, status: int, given: str | None, seconds: float | None
) -> None:
    problem = {"Content-Type": "application/problem+json"}
    headers = problem if given is None else {**problem, "Retry-After": given}
    stub.answer = (status, headers, orjson.dumps({"detail": "Not\nnow."}))
    with pytest.raises(BackendUnavailableError, match=f"answered {status} .*: Not now") as caught:
        send(connect(stub.url), contract_wines(1), "r")
    assert caught.value.retry_after == seconds


def test_a_date_to_come_back_at(stub: Any) -> None:
    for distance, low, high in ((60, 50, 60), (-60, 0, 0)):
        moment = datetime.now(UTC) + timedelta(seconds=distance)
        stub.answer = (503, {"Retry-After": format_datetime(moment, usegmt=True)}, b"")
        with pytest.raises(BackendUnavailableError) as caught:
            send(connect(stub.url), contract_wines(1), "r")
        assert caught.value.retry_after is not None
        assert low <= caught.value.retry_after <= high


@pytest.mark.parametrize(
    ("status", "content_type", "body", "message"),
    [
        (
            500,
            "application/problem+json",
            b'{"title": "t", "status": 500, "detail": "Odd.", "errors": 5}',
            "is no wine-quality service",
        ),
        (404, "text/html", b"<h1>Nothing here</h1>", "is no wine-quality service"),
        (200, "text/html", b"<h1>Hello</h1>", "is no wine-quality service"),
        (200, "application/json", b'{"predictions": []}', "is no wine-quality service"),
        (301, "text/html", b"elsewhere", "is no wine-quality service"),
        (
            422,
            "application/problem+json",
            b'{"title": "t", "status": 422, "detail": "1 value.", "errors": '
            b'[{"field": "wines.0.pH", "message": "too low"}]}',
            "answered 422 .*1 value.; wines.0.pH: too low",
        ),
        (
            500,
            "application/problem+json",
            b'{"title": "t", "status": 500, "detail": "Broken."}',
            "answered 500 .*Broken",
        ),
    ],
)
def test_other_answers_are_final(
    stub: Any, status: int, content_type: str, body: bytes, message: str
) -> None:
    stub.answer = (status, {"Content-Type": content_type}, body)
    backend = connect(stub.url)
    with pytest.raises(WineQualityError, match=message) as caught:
        send(backend, contract_wines(1), "r")
    assert not isinstance(caught.value, BackendUnavailableError)
    # only what is said of the wines themselves is a reason to drop them
    assert isinstance(caught.value, RefusedBatchError) == (status == 422)
    assert "\n" not in str(caught.value)
    assert not backend.check_health().ready


@pytest.mark.parametrize(
    ("url", "trusts"),
    [("http://[::1]:8000", False), ("http://localhost", False), ("http://[2001:db8::1]", True)],
)
def test_no_proxy_is_asked_for_what_runs_here(
    url: str, trusts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {}
    monkeypatch.setattr("httpx.Client", lambda **options: made.update(options))
    connect(url)
    assert made["trust_env"] == trusts


def test_what_is_asked(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLAR_KEY", "secret")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    backend = connect(stub.url + "/", api_key_variable="CELLAR_KEY")
    with pytest.raises(WineQualityError):
        send(backend, contract_wines(1).assign(pH=None), "order-17")
    ((method, path, headers, body),) = stub.asked
    assert (method, path) == ("POST", "/predict/batch")
    assert headers["idempotency-key"] == "order-17"
    assert headers["x-api-key"] == "secret"
    content = orjson.loads(body)
    assert content["source"] == "test"
    assert content["wines"][0]["pH"] is None
    assert content["wines"][0]["event_time"] == "2026-01-31T12:00:00+00:00"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"url": "127.0.0.1:8000"}, "url: "),
        ({"url": "ftp://localhost"}, "url: "),
        ({"rows_per_request": 0}, "rows_per_request: "),
        ({"api_key": "wq_secret"}, "api_key: Extra inputs"),
        ({"api_key_variable": "NO_SUCH_VARIABLE"}, "NO_SUCH_VARIABLE holds no API key"),
    ],
)
def test_its_mistakes_are_told(config: dict[str, Any], message: str) -> None:
    with pytest.raises(WineQualityError, match=message) as caught:
        create_backend("service", config, ALONE)
    assert "\n" not in str(caught.value)
    assert "wq_secret" not in str(caught.value)
