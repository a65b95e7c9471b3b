"""What a route is, and what follows from a table of them: dispatch and the OpenAPI document."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from wine_quality.serving.access import Scope as AccessScope
from wine_quality.serving.answers import Answer
from wine_quality.serving.problems import PROBLEM_MEDIA_TYPE, Problem

JSON_MEDIA_TYPE = "application/json"


class ReceivedRequest(Request):
    """A request that may be answered, with its body.

    Attributes:
        content: The body, unpacked.
        started: `time.perf_counter()` at its arrival.
        caller: Name of the API key that asks; empty without keys.
    """

    def __init__(
        self, scope: Scope, content: bytes, started: float, caller: str, sent: Mapping[bytes, bytes]
    ) -> None:
        super().__init__(scope)
        self.content = content
        self.started = started
        self.caller = caller
        self._sent = sent

    def header(self, name: bytes) -> str | None:
        """A header that can be given once, by its name in small letters; None if it was not."""
        value = self._sent.get(name)
        return None if value is None else value.decode("latin-1")


Handler = Callable[[ReceivedRequest], Awaitable[Answer]]
Purpose = Literal["prediction", "labels", "information", "monitoring", "page"]
"""What a route is there for: predictions stand in the inference log, so that answered ones need no
line; monitoring and pages ask again and again, so that they are no traffic of their own."""

_PROBLEMS = {
    400: "A body that broke off, or a header given twice",
    401: "No valid API key",
    403: "The API key lacks the scope",
    404: "Predictions that the log does not hold",
    409: "The idempotency key was used for other wines",
    413: "Too many bytes or rows",
    415: "A media type or content encoding that is not supported",
    422: "Values that cannot be, by name",
    429: "Too many requests",
    500: "The log cannot be used as it stands, or something else is broken here",
    503: "No model, or the log cannot be written to; see Retry-After",
}


@dataclass(frozen=True)
class Document:
    """What the OpenAPI document says of a route, beside what follows from it.

    Attributes:
        summary: Its title.
        answer: What it answers.
        media_type: In which media type.
        bodies: Names of the schemas of its body, by media type.
        problems: Statuses of its own problems, beside those of all routes of its kind.
        keyed: Whether it takes an idempotency key and the id of a client.
    """

    summary: str
    answer: type[BaseModel] | None
    media_type: str = JSON_MEDIA_TYPE
    bodies: Mapping[str, str] | None = None
    problems: Sequence[int] = ()
    keyed: bool = False


@dataclass(frozen=True)
class Route:
    """One thing that the service answers.

    Attributes:
        method: HTTP method.
        path: The one path; no other spelling is answered.
        scope: What it demands of an API key; None for what everybody may see.
        handler: What answers. It may raise `ProblemError`.
        purpose: What it is there for.
        document: What the OpenAPI document says of it; None for what does not stand there.
    """

    method: Literal["GET", "POST"]
    path: str
    scope: AccessScope | None
    handler: Handler
    purpose: Purpose
    document: Document | None = None

    @property
    def media_types(self) -> Sequence[str]:
        """Media types that its body may have; none for a route without one."""
        return tuple(self.document.bodies or ()) if self.document else ()


class RouteTable:
    """All that the service answers; what does not stand here is refused.

    Args:
        routes: The routes.

    Raises:
        ValueError: If two of them have the same method and path.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._found: dict[tuple[str, str], Route] = {
            (route.method, route.path): route for route in self.routes
        }
        if len(self._found) < len(self.routes):
            raise ValueError("two routes have the same method and path")

    def find(self, method: str, path: str) -> Route | None:
        """The route of a method and a path, if there is one."""
        return self._found.get((method, path))

    def methods(self, path: str) -> Sequence[str]:
        """The methods that a path has; none, if it is not known at all."""
        return [route.method for route in self.routes if route.path == path]

    def paths(self, *purposes: Purpose) -> frozenset[str]:
        """The paths of all routes for these purposes."""
        return frozenset(route.path for route in self.routes if route.purpose in purposes)

    def openapi(
        self, *, title: str, version: str, description: str,
        models: Sequence[type[BaseModel]], schemas: Mapping[str, Any],
    ) -> dict[str, Any]:  # fmt: skip
        """Write the OpenAPI document.

        Args:
            title: Of the service.
            version: Of its interface.
            description: Of the service.
            models: Models of request bodies.
            schemas: Further schemas of request bodies, by name.
        """
        # FastAPI writes down what its own routes answer; requests never get there
        router = APIRouter()
        for route in self.routes:
            if route.document is not None:
                router.add_api_route(
                    route.path,
                    route.handler,
                    methods=[route.method],
                    summary=route.document.summary,
                    response_model=route.document.answer,
                    response_class=JSONResponse if route.document.answer else Response,
                    responses=_responses(route, route.document),
                    openapi_extra=_extra(route, route.document),
                )
        document = get_openapi(
            title=title, version=version, description=description, routes=router.routes,
            # where the document is found, whatever prefix a proxy has put before it
            servers=[{"url": "."}],
        )  # fmt: skip
        bodies: list[type[BaseModel]] = [*models, Problem]
        _, found = models_json_schema(
            [(model, "validation") for model in bodies],
            ref_template="#/components/schemas/{model}",
        )
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update({**found["$defs"], **schemas})
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        return document


def _responses(route: Route, document: Document) -> dict[int | str, dict[str, Any]]:
    statuses = {*document.problems}
    if route.scope:
        statuses |= {400, 401, 403, 429}
    if route.media_types:
        statuses |= {400, 413, 415, 422, 500, 503}
    content = {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": _PROBLEMS[status], "content": content}
        for status in sorted(statuses)
    }
    if document.answer is None:
        found = {document.media_type: {"schema": {"type": "string"}}}
        responses[200] = {"description": document.summary, "content": found}
    return responses


def _extra(route: Route, document: Document) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if route.scope:
        # without keys configured, none is needed
        extra["security"] = [{"bearer": []}, {"header": []}, {}]
    if document.bodies:
        content = {
            media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}
            for media_type, schema in document.bodies.items()
        }
        extra["requestBody"] = {"required": True, "content": content}
    if document.keyed:
        extra["parameters"] = [
            {
                "name": "X-Client-Id",
                "in": "header",
                "required": False,
                "description": (
                    "Whose request this is: while a challenger answers a share of the clients, one "
                    "version answers all requests of a client"
                ),
                "schema": {"type": "string"},
            },
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": (
                    "Repeating a request under its key writes nothing twice, and is answered as it "
                    "was the first time; 1 to 255 printable ASCII characters"
                ),
                "schema": {
                    "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"
                },
            },
        ]  # fmt: skip
    return extra
