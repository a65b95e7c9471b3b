"""The guard before the routes: keys, limits, headers, request ids, one line a request.

Plain ASGI: it costs microseconds where a framework's middleware class costs a tenth of a
millisecond.
"""

import asyncio
import logging
import os
import re
import time
from collections import OrderedDict
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wine_quality.serving.access import ApiKeys
from wine_quality.serving.access import Scope as AccessScope
from wine_quality.serving.problems import ProblemError, unavailable
from wine_quality.serving.settings import LOOPBACK, ServiceSettings
from wine_quality.serving.telemetry import Metrics

logger = logging.getLogger(__name__)

CALLER = "wine_quality.caller"
"""Key of the ASGI scope: the name of the API key that asks; not there without keys."""
STARTED = "wine_quality.started"
"""Key of the ASGI scope: `time.perf_counter()` at the request's arrival."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_PAGE_SECURITY = (
    "default-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PREDICTING = frozenset({"/predict", "/predict/batch", "/invocations"})
_LONGEST_WAITED_FOR = 10_000


class RateLimit:
    """Token buckets, one a caller: so many requests a second, and a second's worth at once.

    Args:
        per_second: Requests a second; 0 lets everything pass.
    """

    def __init__(self, per_second: float) -> None:
        self._rate = per_second
        self._burst = max(1.0, per_second)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def seconds_to_wait(self, caller: str, now: float) -> float:
        """Take one token of a caller's; 0 if there was one, otherwise how long until there is."""
        if not self._rate:
            return 0.0
        tokens, then = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[caller] = (tokens - (not wait), now)
        if len(self._buckets) > _LONGEST_WAITED_FOR:
            # whoever asked longest ago has a full bucket, or all but
            self._buckets.popitem(last=False)
        return wait


class Guard:
    """Lets through what may pass, and answers the rest itself.

    Args:
        app: What is guarded.
        settings: Limits.
        keys: Who may ask.
        metrics: Where requests are counted.
        scopes: What each path demands, by method and path; others demand nothing.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServiceSettings,
        keys: ApiKeys,
        metrics: Metrics,
        scopes: Mapping[tuple[str, str], AccessScope | None],
    ) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._metrics = metrics
        self._scopes = scopes
        self._paths = {path for _, path in scopes}
        self._rate = RateLimit(settings.rate_limit / settings.workers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection's event."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[STARTED] = start = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = os.urandom(8).hex().encode()
        answer = _Answer(scope, send, request_id)
        try:
            async with asyncio.timeout(self._settings.time_limit_s):
                self._admit(scope, headers)
                body = await self._body(headers, receive, (scope["method"], scope["path"]))
                await self._app(scope, _replay(body, receive), answer.send)
        except ProblemError as problem:
            await answer.finish(problem)
        except TimeoutError:
            await answer.finish(
                unavailable("The request took longer than the service allows: try again.")
            )
        except Exception:
            logger.exception("A request failed", extra={"request_id": request_id.decode()})
            await answer.finish(
                ProblemError(
                    500, "Something went wrong here; the log has it under this request's id."
                )
            )
        seconds = time.perf_counter() - start
        path = scope["path"] if scope["path"] in self._paths else "other"
        self._metrics.answered(path, answer.status, seconds)
        if answer.status != 200 or path not in _PREDICTING or self._settings.log_all_requests:
            self._log(scope, answer, path, seconds)

    def _log(self, scope: Scope, answer: "_Answer", path: str, seconds: float) -> None:
        level = logging.DEBUG if path.startswith(("/health", "/live", "/metrics")) else logging.INFO
        if logger.isEnabledFor(level):
            logger.log(
                level,
                "request",
                extra={
                    "request_id": answer.request_id.decode(),
                    "method": scope["method"],
                    "path": path,
                    "status": answer.status,
                    "ms": round(1000 * seconds, 2),
                    "caller": scope.get(CALLER, ""),
                },
            )

    def _admit(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        demanded = self._scopes.get((scope["method"], scope["path"]))
        if demanded is None:
            return
        caller = scope["client"][0] if scope.get("client") else ""
        if self._keys:
            caller = scope[CALLER] = self._identify(headers, demanded)
        elif _host(headers) not in LOOPBACK:
            # another machine, or a page in a browser that was led to believe its own name is ours
            raise ProblemError(403, "Without API keys the service answers to localhost alone.")
        wait = self._rate.seconds_to_wait(caller, time.monotonic())
        if wait:
            raise ProblemError(
                429,
                f"More than {self._settings.rate_limit:g} requests a second: slow down.",
                headers={"Retry-After": str(max(1, round(wait + 0.5)))},
            )

    def _identify(self, headers: Mapping[bytes, bytes], demanded: AccessScope) -> str:
        presented = headers.get(b"x-api-key", b"").decode("latin-1")
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if not presented and scheme.lower() == "bearer":
            presented = token.strip()
        key = self._keys.find(presented) if presented else None
        if key is None:
            raise ProblemError(
                401,
                "Give an API key: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if demanded not in key.scopes:
            raise ProblemError(403, f"This API key has no scope {demanded}.")
        return key.name

    async def _body(
        self, headers: Mapping[bytes, bytes], receive: Receive, target: tuple[str, str]
    ) -> bytes:
        """Take the whole body, within its limit, before anything works on it."""
        if target not in self._scopes or target[0] == "GET":
            # the routes will say that there is no such path or method
            return b""
        limit = self._settings.body_limit
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        media_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        # A page elsewhere can make a browser post text or forms to us, but not JSON.
        if media_type != b"application/json":
            raise ProblemError(415, "Send JSON, with 'Content-Type: application/json'.")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise ProblemError(415, "Send the body as it is, without a content encoding.")
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ProblemError(400, "The body broke off.")
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)


class _Answer:
    """Sends an answer with the headers that all answers have, and remembers its status."""

    def __init__(self, scope: Scope, send: Send, request_id: bytes) -> None:
        self._scope = scope
        self._send = send
        self.request_id = request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", ()),
                (b"x-request-id", self.request_id),
                (b"x-content-type-options", b"nosniff"),
                *_page_headers(message),
            ]
        await self._send(message)

    async def finish(self, problem: ProblemError) -> None:
        """Say what is wrong, unless an answer has begun."""
        if not self.status:
            await problem.response()(self._scope, _nothing, self.send)


def _page_headers(message: Message) -> list[tuple[bytes, bytes]]:
    for name, value in message["headers"]:
        if name == b"content-type":
            if value.startswith(b"text/html"):
                break
            return [(b"cache-control", b"no-store")]
    else:
        return []
    return [
        (b"content-security-policy", _PAGE_SECURITY.encode()),
        (b"referrer-policy", b"no-referrer"),
        (b"x-frame-options", b"DENY"),
        (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cache-control", b"no-store"),
    ]


def _host(headers: Mapping[bytes, bytes]) -> str:
    host = headers.get(b"host", b"").decode("latin-1").lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _too_large(limit: int) -> ProblemError:
    return ProblemError(413, f"The body is larger than {limit} bytes: send fewer wines at once.")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand out a body that has been received already."""
    pending = True

    async def replay() -> Message:
        nonlocal pending
        if pending:
            pending = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
