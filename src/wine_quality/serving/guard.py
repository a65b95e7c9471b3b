"""The way in: what does not stand in the table of routes, or may not pass, is refused here.

Plain ASGI, for it costs microseconds where a framework's layers cost a tenth of a millisecond.
"""

import logging
import os
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping

from starlette.types import Receive, Scope, Send

from wine_quality.serving.access import ApiKeys
from wine_quality.serving.access import Scope as AccessScope
from wine_quality.serving.answers import Answer
from wine_quality.serving.bodies import ENCODINGS, too_large, unpack
from wine_quality.serving.problems import ProblemError, unavailable
from wine_quality.serving.routing import JSON_MEDIA_TYPE, ReceivedRequest, Route, RouteTable
from wine_quality.serving.settings import LOOPBACK, ServiceSettings
from wine_quality.serving.telemetry import Metrics
from wine_quality.serving.time_limit import TimeLimit

logger = logging.getLogger(__name__)

OTHER = "other"
"""What metrics and log lines call all that does not stand in the table."""
_CALLER = "wine_quality.caller"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_ONCE = frozenset(
    {
        b"authorization", b"content-encoding", b"content-length", b"content-type", b"host",
        b"idempotency-key", b"x-api-key", b"x-client-id", b"x-forwarded-prefix", b"x-request-id",
    }
)  # fmt: skip
"""Headers that say one thing; given twice, they leave open which one."""
_HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
_PAGE_SECURITY = (
    "default-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = [
    *_HEADERS,
    (b"content-security-policy", _PAGE_SECURITY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
_CHARSETS = ("", "utf-8", "utf8", "us-ascii")
_LONGEST_WAITED_FOR = 10_000
_Headers = Mapping[bytes, bytes]


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
    """Answers what stands in the table and may pass, and refuses everything else.

    Args:
        table: All that is answered.
        settings: Limits.
        keys: Who may ask.
        metrics: Where requests are counted.
    """

    def __init__(
        self, table: RouteTable, settings: ServiceSettings, keys: ApiKeys, metrics: Metrics
    ) -> None:
        self._table = table
        self._settings = settings
        self._keys = keys
        self._metrics = metrics
        self._rate = RateLimit(settings.rate_limit / settings.workers)
        self._time_limit = TimeLimit(settings.time_limit_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection's event."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            # before it is accepted, which clients see as a 403
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = os.urandom(8).hex().encode()
        path = self._path(scope)
        route = self._table.find(scope["method"], path)
        try:
            with self._time_limit:
                answer = await self._respond(route, path, scope, receive, headers, started)
        except ProblemError as problem:
            answer = problem.response()
        except TimeoutError:
            answer = unavailable(
                "The request took longer than the service allows: try again."
            ).response()
        except Exception:
            logger.exception("A request failed", extra={"request_id": request_id.decode()})
            answer = ProblemError(
                500, "Something went wrong here; the log has it under this request's id."
            ).response()
        await _send(answer, request_id, send)
        seconds = time.perf_counter() - started
        name = route.path if route else OTHER
        self._metrics.answered(name, answer.status_code, seconds)
        if answer.status_code != 200 or self._has_a_line(route):
            _log(scope, route, name, answer.status_code, seconds, request_id)

    async def _respond(
        self,
        route: Route | None,
        path: str,
        scope: Scope,
        receive: Receive,
        headers: _Headers,
        started: float,
    ) -> Answer:
        _check_once(scope, headers)
        if route is None:
            raise self._unknown(scope["method"], path)
        caller = scope[_CALLER] = self._admit(scope, headers, route.scope)
        content = await self._body(headers, receive, route)
        return await route.handler(ReceivedRequest(scope, content, started, caller, headers))

    def _has_a_line(self, route: Route | None) -> bool:
        """Whether a request that went well has a line of its own in the log of the process."""
        return route is None or route.purpose != "prediction" or self._settings.log_all_requests

    def _path(self, scope: Scope) -> str:
        """The path as the table knows it: without the prefix that a proxy has left before it."""
        path: str = scope["path"]
        for prefix in (scope.get("root_path", ""), self._settings.root_path):
            if prefix and (path == prefix or path.startswith(f"{prefix}/")):
                return path.removeprefix(prefix) or "/"
        return path

    def _unknown(self, method: str, path: str) -> ProblemError:
        methods = self._table.methods(path)
        if methods:
            return ProblemError(405, "Method Not Allowed", headers={"Allow": ", ".join(methods)})
        return ProblemError(404, "Not Found")

    def _admit(self, scope: Scope, headers: _Headers, demanded: AccessScope | None) -> str:
        """Check who asks, and how often; the name of their key."""
        if demanded is None:
            return ""
        name = ""
        if self._keys:
            name = self._identify(headers, demanded)
        elif _host(headers) not in LOOPBACK:
            # another machine, or a page in a browser that was led to believe its own name is ours
            raise ProblemError(403, "Without API keys the service answers to localhost alone.")
        address = scope["client"][0] if scope.get("client") else ""
        wait = self._rate.seconds_to_wait(name or address, time.monotonic())
        if wait:
            raise ProblemError(
                429,
                f"More than {self._settings.rate_limit:g} requests a second: slow down.",
                headers={"Retry-After": str(max(1, round(wait + 0.5)))},
            )
        return name

    def _identify(self, headers: _Headers, demanded: AccessScope) -> str:
        presented = headers.get(b"x-api-key", b"").decode("latin-1")
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() == "bearer":
            token = token.strip()
            if presented and token != presented:
                raise ProblemError(
                    400, "Authorization and X-API-Key name two different keys: send one."
                )
            presented = token
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

    async def _body(self, headers: _Headers, receive: Receive, route: Route) -> bytes:
        """Take the whole body, within its limit, before anything works on it."""
        if not route.media_types:
            return b""
        limit = self._settings.body_limit
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            raise too_large(limit)
        _check_media_type(headers.get(b"content-type", b""), route)
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in ENCODINGS:
            known = ", ".join(name.decode() for name in ENCODINGS)
            raise ProblemError(
                415, f"Send the body with one of these content encodings: {known}.",
                headers={"Accept-Encoding": known},
            )  # fmt: skip
        return unpack(await _receive(receive, limit), encoding, limit)


def _check_once(scope: Scope, headers: _Headers) -> None:
    """Refuse headers that were given twice where they can say only one thing."""
    if len(headers) == len(scope["headers"]):
        return
    times = Counter(name for name, _ in scope["headers"])
    twice = sorted(name.decode() for name in _ONCE if times[name] > 1)
    if twice:
        raise ProblemError(400, f"Headers given more than once: {', '.join(twice)}; keep one each.")


def _check_media_type(header: bytes, route: Route) -> None:
    media_type, *parameters = (part.strip().lower() for part in header.decode("latin-1").split(";"))
    # A page elsewhere can make a browser post plain text or forms to us, but none of these.
    if media_type not in route.media_types:
        known = " or ".join(f"'Content-Type: {known}'" for known in route.media_types)
        raise ProblemError(415, f"Send the body as it says it is, with {known}.")
    charset = next((p for p in parameters if p.startswith("charset=")), "")
    # JSON is UTF-8, whatever a client's library writes there
    if media_type != JSON_MEDIA_TYPE and charset.partition("=")[2].strip('"') not in _CHARSETS:
        raise ProblemError(415, "Send the body encoded in UTF-8.")


async def _receive(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ProblemError(400, "The body broke off.")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def _send(answer: Answer, request_id: bytes, send: Send) -> None:
    media_type = answer.raw_headers[0][1]
    more = _PAGE_HEADERS if media_type.startswith(b"text/html") else _HEADERS
    headers = [*answer.raw_headers, (b"x-request-id", request_id), *more]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _log(
    scope: Scope, route: Route | None, path: str, status: int, seconds: float, request_id: bytes
) -> None:
    quiet = route is not None and route.purpose in ("monitoring", "page")
    level = logging.DEBUG if quiet else logging.INFO
    if logger.isEnabledFor(level):
        logger.log(
            level,
            "request",
            extra={
                "request_id": request_id.decode(),
                "method": scope["method"],
                "path": path,
                "status": status,
                "ms": round(1000 * seconds, 2),
                "caller": scope.get(_CALLER, ""),
            },
        )


def _host(headers: _Headers) -> str:
    host = headers.get(b"host", b"").decode("latin-1").lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
