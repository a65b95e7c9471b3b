"""Bodies that nobody means: no 500, and every refusal is a problem in JSON."""

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from wine_quality.serving.app import create_app
from wine_quality.wines import WINE_EXAMPLE as WINE

PATHS = ("/predict", "/predict/batch", "/invocations", "/ground-truth")
JSON = {"Content-Type": "application/json"}


class Sender:
    """Sends to a service that lives in an event loop of its own."""

    def __init__(self, settings: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self.app = create_app(settings)
        self._lifespan = self.app.router.lifespan_context(self.app)
        self._loop.run_until_complete(self._lifespan.__aenter__())
        transport = httpx.ASGITransport(app=self.app)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")

    def post(
        self, path: str, content: bytes, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        return self._loop.run_until_complete(
            self._client.post(path, content=content, headers={**JSON, **(headers or {})})
        )

    def close(self) -> None:
        self._loop.run_until_complete(self._client.aclose())
        self._loop.run_until_complete(self._lifespan.__aexit__(None, None, None))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@pytest.fixture
def sender(registered: Any, settings: Any) -> Any:
    registered.add()
    sender = Sender(settings)
    yield sender
    sender.close()


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        assert "Traceback" not in answer.text


def frames(value: Any) -> list[bytes]:
    """A value at every place where a wine's measurement or a label's quality may stand."""
    text = value if isinstance(value, str) else json.dumps(value)
    wine = json.dumps(WINE)[:-1].replace('"pH": 3.51', f'"pH": {text}') + "}"
    return [
        wine.encode("utf-8", "surrogatepass"),
        f'{{"wines": [{wine}]}}'.encode("utf-8", "surrogatepass"),
        f'{{"inputs": [{wine}]}}'.encode("utf-8", "surrogatepass"),
        f'{{"labels": [{{"prediction_id": {text}, "quality": {text}}}]}}'.encode(
            "utf-8", "surrogatepass"
        ),
        text.encode("utf-8", "surrogatepass"),
    ]


HAND_MADE = [
    "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" * 5000, "1e-400", "-0", "0x10", "1_000",
    "true", '"3.5"', '"\\ud800"', '"\\u0000"', "[]", "{}", "[" * 50_000, "[" * 50 + "]" * 50,
    '{"a":' * 5_000 + "1" + "}" * 5_000, "nul", "", " ", "'3'", "3.5,", "[1,2", "//", "\ufeff1",
]  # fmt: skip


def test_hand_made_bodies(sender: Sender) -> None:
    for value in HAND_MADE:
        for body in frames(value):
            for path in PATHS:
                check(sender.post(path, body))


def test_encodings_and_truncations(sender: Sender) -> None:
    good = json.dumps({**WINE, "event_time": "2026-01-31T12:00:00+01:00"}).encode()
    rng = random.Random(0)
    bodies = [good.decode().encode(code) for code in ("utf-16", "utf-32", "utf-8-sig")]
    bodies += [good[:n] for n in range(0, len(good), 7)]
    bodies += [b"\xff\xfe" + good, b"\x00" * 100, b"\x80", good + b"\x00", good * 2]
    for _ in range(200):
        flipped = bytearray(good)
        flipped[rng.randrange(len(good))] = rng.randrange(256)
        bodies.append(bytes(flipped))
    for body in bodies:
        for path in PATHS:
            check(sender.post(path, body))


@pytest.mark.parametrize(
    "moment",
    ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-31T12:00:00", "1e18", "",
     "2026-02-30T00:00:00Z", "99999-01-01T00:00:00Z", "2026-01-01T00:00:00+99:00"],
)  # fmt: skip
def test_moments_that_are_none(sender: Sender, moment: str) -> None:
    answer = sender.post("/predict", json.dumps({**WINE, "event_time": moment}).encode())
    assert answer.status_code == 422
    table = {"inputs": [WINE], "params": {"event_time": moment}}
    assert sender.post("/invocations", json.dumps(table).encode()).status_code == 422


def test_headers_nobody_means(sender: Sender) -> None:
    body = json.dumps(WINE).encode()
    for value in ("", " ", "x" * 10_000, "é", "a\tb", "\x7f"):
        for name in ("Idempotency-Key", "X-Request-Id", "X-API-Key", "Authorization"):
            check(sender.post("/predict", body, {name: value.encode("latin-1")}))  # type: ignore[dict-item]
    for length in ("-1", "99999999999999999999", "many", "²"):
        check(sender.post("/predict", body, {"Content-Length": length.encode("utf-8")}))  # type: ignore[dict-item]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from([*WINE, "wines", "labels", "inputs", "instances", "dataframe_split",
                         "dataframe_records", "columns", "data", "params", "prediction_id"])
        | st.text(max_size=4),
        inner, max_size=6,
    ),
    max_leaves=25,
)  # fmt: skip


@hypothesis_settings(
    max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(value=ANYTHING, path=st.sampled_from(PATHS))
def test_any_json_at_all(sender: Sender, value: Any, path: str) -> None:
    body = json.dumps(value).encode("utf-8", "surrogatepass")
    check(sender.post(path, body))


@pytest.mark.slow
def test_schemathesis_finds_nothing(registered: Any, settings: Any, serve: Any) -> None:
    """Requests made from the document: no 500, no answer that it does not know, no lenience."""
    command = Path(sys.executable).with_name("schemathesis")
    if not command.exists():
        pytest.skip("pip install schemathesis to probe the OpenAPI document")
    registered.add()
    server = serve(settings)
    checks = (
        "not_a_server_error,status_code_conformance,content_type_conformance,"
        "response_headers_conformance,response_schema_conformance,negative_data_rejection,"
        "unsupported_method"
    )
    done = subprocess.run(
        [command, "--no-color", "run", f"{server.url}/openapi.json", "--checks", checks,
         "--max-examples", "40", "--phases", "examples,coverage,fuzzing", "--seed", "2009",
         "--generation-database", "none"],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
