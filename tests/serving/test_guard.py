"""What the table of routes does not hold is refused, and headers say a thing once."""

import asyncio
import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.serving.in_process import WINE, ask, keyed, logged
from wine_quality.serving.answers import json_answer
from wine_quality.serving.routes import ROUTES
from wine_quality.serving.routing import ReceivedRequest, Route, RouteTable

JSON = {"Content-Type": "application/json"}


# Routes


@pytest.mark.parametrize("keys", [True, False])
def test_what_nobody_declared_is_not_answered(registered, settings, tmp_path, keys: bool) -> None:
    registered.add()
    (tmp_path / "secret.txt").write_text("wines and models")
    guarded, key = keyed(settings, "read", "write")
    headers = {"X-API-Key": key} if keys else {}

    async def leak(_: Request) -> PlainTextResponse:
        return PlainTextResponse("wines and models")

    async def work(client: httpx.AsyncClient) -> None:
        app = client.app  # type: ignore[attr-defined]
        app.add_api_route("/added", leak, methods=["GET", "POST"])
        app.add_route("/bare", leak)
        app.mount("/mounted", PlainTextResponse("wines and models"))
        app.mount("/files", StaticFiles(directory=tmp_path))
        app.router.routes.insert(0, app.router.routes.pop())
        for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT"):
            for path in ("/added", "/bare", "/mounted", "/mounted/x", "/files/secret.txt"):
                answer = await client.request(method, path, headers=headers)
                assert answer.status_code == 404, (method, path)
                assert "wines and models" not in answer.text
        assert "/added" not in (await client.get("/openapi.json")).json()["paths"]

    ask(guarded if keys else settings, work)


def test_a_path_has_one_spelling(registered, settings) -> None:
    registered.add()
    guarded, _ = keyed(settings, "read", "write")

    async def work(client: httpx.AsyncClient) -> None:
        others = (
            "/model/ //model /Model /model;x /model%2f /./model /live/..%2fmodel "
            "/model%00 /predict/ /PREDICT /docs/"
        )
        for path in others.split():
            answer = await client.get(f"http://127.0.0.1{path}")
            assert answer.status_code in (401, 404), path
        # the same path, written otherwise, demands the same
        assert (await client.get("/%6dodel")).status_code == 401
        for method in ("HEAD", "OPTIONS", "POST", "DELETE", "get"):
            answer = await client.request(method, "/model")
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET")

    ask(guarded, work)


def test_websockets_are_refused(settings) -> None:
    from wine_quality.serving.app import create_app

    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    app = create_app(settings)
    app.add_api_websocket_route("/socket", lambda socket: socket.accept())
    asyncio.run(app({"type": "websocket", "path": "/socket", "headers": []}, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_every_route_that_tells_of_wines_demands_a_scope() -> None:
    open_to_all = {route.path for route in ROUTES.routes if route.scope is None}
    assert open_to_all == {
        "/", "/health", "/health/live", "/health/ready", "/ping", "/version", "/openapi.json",
        "/live", "/live/live.js", "/live/live.css",
        "/docs", "/docs/docs.js", "/docs/swagger-ui.js", "/docs/swagger-ui.css",
    }  # fmt: skip
    assert {route.scope for route in ROUTES.routes if route.method == "POST"} == {"write"}


def test_the_document_says_what_the_table_says(registered, settings) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        paths = (await client.get("/openapi.json")).json()["paths"]
        told = {(method.upper(), path) for path, found in paths.items() for method in found}
        assert told == {(r.method, r.path) for r in ROUTES.routes if r.document}
        for route in ROUTES.routes:
            if route.document:
                operation = paths[route.path][route.method.lower()]
                assert ("security" in operation) == (route.scope is not None)
                bodies = operation.get("requestBody", {}).get("content", {})
                assert tuple(bodies) == tuple(route.media_types)

    ask(settings, work)


def test_a_path_and_method_stand_once_in_a_table() -> None:
    async def answer(_: ReceivedRequest) -> Any:
        return json_answer({})

    route = Route("GET", "/", None, answer, "information")
    with pytest.raises(ValueError, match="same method and path"):
        RouteTable([route, route])


def test_middleware_that_a_team_adds_is_used(settings) -> None:
    class Stamp:
        def __init__(self, app: ASGIApp, mark: str) -> None:
            self.app, self.mark = app, mark

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def stamped(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message["headers"].append((b"x-mark", self.mark.encode()))
                await send(message)

            await self.app(scope, receive, stamped)

    async def work(client: httpx.AsyncClient) -> None:
        app = client.app  # type: ignore[attr-defined]
        app.user_middleware.append(Middleware(Stamp, mark="ours"))
        app.middleware_stack = None
        assert (await client.get("/health/live")).headers["x-mark"] == "ours"

    ask(settings, work)


# Headers


@pytest.mark.parametrize(
    "twice",
    [
        [("Idempotency-Key", "a"), ("Idempotency-Key", "b")],
        [("X-API-Key", "{key}"), ("X-API-Key", "wq_other")],
        [("X-API-Key", "{key}"), ("Authorization", "Bearer wq_other")],
        [("Authorization", "Bearer {key}"), ("Authorization", "Bearer wq_other")],
        [("Content-Type", "application/json"), ("content-type", "text/csv")],
        [("Host", "127.0.0.1"), ("Host", "elsewhere")],
        [("Content-Encoding", "identity"), ("Content-Encoding", "gzip")],
        [("X-Request-Id", "a"), ("X-Request-Id", "b")],
    ],
    ids=lambda twice: " and ".join(name for name, _ in twice),
)
def test_a_header_that_says_a_thing_twice_is_refused(registered, settings, twice) -> None:
    registered.add()
    guarded, key = keyed(settings, "read", "write")
    given = [(name, value.format(key=key)) for name, value in twice]
    names = {name.lower() for name, _ in given}
    if not names & {"x-api-key", "authorization"}:
        given.append(("X-API-Key", key))
    if "content-type" not in names:
        given.append(("Content-Type", "application/json"))

    async def work(client: httpx.AsyncClient) -> None:
        answer = await client.post("/predict", content=json.dumps(WINE), headers=given)
        assert answer.status_code == 400, answer.text
        assert all(name in answer.text.lower() for name in names)
        several = [*JSON.items(), ("X-API-Key", key), ("Accept", "text/html"), ("Accept", "*/*")]
        answer = await client.post("/predict", content=json.dumps(WINE), headers=several)
        assert answer.status_code == 200
        both = {**JSON, "X-API-Key": key, "Authorization": f"Bearer {key}"}
        answer = await client.post("/predict", content=json.dumps(WINE), headers=both)
        assert answer.status_code == 200

    ask(guarded, work)
    assert len(logged(settings)) == 2


# Bodies


def test_a_packed_body_is_unpacked(registered, settings) -> None:
    registered.add()
    body = json.dumps({"wines": [WINE] * 50}).encode()

    async def work(client: httpx.AsyncClient) -> None:
        for encoding in ("gzip", "GZIP"):
            answer = await client.post(
                "/predict/batch", content=gzip.compress(body),
                headers={**JSON, "Content-Encoding": encoding},
            )  # fmt: skip
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["predictions"]) == 50
        other = await client.post(
            "/predict/batch", content=zlib.compress(body),
            headers={**JSON, "Content-Encoding": "deflate"},
        )  # fmt: skip
        assert (other.status_code, other.headers["accept-encoding"]) == (415, "identity, gzip")

    ask(settings, work)
    assert len(logged(settings)) == 100


def _bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(b" " * 1_000_000) for _ in range(size // 1_000_000)]
    return b"".join([*parts, packer.flush()])


GOOD = gzip.compress(json.dumps(WINE).encode())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (_bomb(400_000_000), 413),
        (gzip.compress(_bomb(400_000_000)), 422),
        (gzip.compress(b" " * 1_000_001), 413),
        (GOOD[:-3], 400),
        (GOOD[:-8] + b"\0" * 8, 400),
        (GOOD + GOOD, 400),
        (GOOD + b"\0", 400),
        (b"", 400),
        (b"{}", 400),
        (zlib.compress(b"{}"), 400),
    ],
    ids=["bomb", "bomb in a bomb", "a byte too much", "cut", "wrong sum", "two members", "a rest",
         "nothing", "plain", "zlib"],
)  # fmt: skip
def test_a_bad_packing_costs_neither_memory_nor_time(
    registered, settings, body: bytes, status: int
) -> None:
    small = settings.model_copy(update={"body_limit": 1_000_000})

    async def work(client: httpx.AsyncClient) -> None:
        headers = {**JSON, "Content-Encoding": "gzip"}
        tracemalloc.start()
        try:
            answer = await client.post("/predict", content=body, headers=headers)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert answer.status_code == status, answer.text
        assert most < 12_000_000

    ask(small, work)


def test_a_body_that_never_ends_is_cut_off(registered, settings) -> None:
    small = settings.model_copy(update={"body_limit": 2048})
    sent = 0

    async def work(client: httpx.AsyncClient) -> None:
        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while sent < 10_000_000:
                sent += 1000
                yield b" " * 1000

        answer = await client.post("/predict", content=endless(), headers=JSON)
        assert answer.status_code == 413

    ask(small, work)


# Prefixes


@pytest.mark.parametrize(
    ("root_path", "headers", "prefix"),
    [
        ("", {}, ""),
        ("/wines", {}, "/wines"),
        ("", {"X-Forwarded-Prefix": "/cellar/wines/"}, "/cellar/wines"),
        ("/wines", {"X-Forwarded-Prefix": "/cellar"}, "/cellar"),
        ("", {"X-Forwarded-Prefix": "//evil.example"}, ""),
        ("", {"X-Forwarded-Prefix": "https://evil.example"}, ""),
    ],
)
def test_links_have_the_prefix_under_which_they_are_found(
    registered, settings, root_path: str, headers: dict[str, str], prefix: str
) -> None:
    registered.add()

    async def work(client: httpx.AsyncClient) -> None:
        links = (await client.get("/", headers=headers)).json()["links"]
        assert links["predict"] == f"{prefix}/predict"
        if root_path:
            for path in (root_path, f"{root_path}/", f"{root_path}/health/ready", "/model"):
                assert (await client.get(path)).status_code == 200, path
            assert (await client.get(f"{root_path}x/model")).status_code == 404
            assert (await client.get(f"{root_path}{root_path}/model")).status_code == 404

    ask(settings.model_copy(update={"root_path": root_path}), work)


def test_a_prefix_is_no_way_past_the_keys(registered, settings) -> None:
    registered.add()
    guarded, _ = keyed(settings, "read")

    async def work(client: httpx.AsyncClient) -> None:
        for path in ("/model", "/wines/model", "/wines/live/data"):
            assert (await client.get(path)).status_code == 401

    ask(guarded.model_copy(update={"root_path": "/wines"}), work)
