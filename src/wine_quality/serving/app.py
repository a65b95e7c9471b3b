"""The application factory of the prediction service."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

import orjson
from fastapi import FastAPI, Request
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from wine_quality.serving.access import ApiKeys
from wine_quality.serving.guard import Guard
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.invocations import INVOCATION_SCHEMA, Params
from wine_quality.serving.live import LiveView
from wine_quality.serving.log_queue import LogQueue
from wine_quality.serving.model_watcher import ModelEvent, ModelWatcher
from wine_quality.serving.problems import Problem, ProblemError
from wine_quality.serving.routes import DEMANDED, POSTED, Service, describe, router
from wine_quality.serving.schemas import REQUESTS
from wine_quality.serving.served_model import ModelLoader
from wine_quality.serving.settings import ServiceSettings
from wine_quality.serving.telemetry import Metrics

Endpoint = Callable[[Request], Awaitable[Response]]

_PAGES = files("wine_quality.serving") / "page"
_FILES = {
    "/live": _PAGES / "live.html",
    "/live/live.js": _PAGES / "live.js",
    "/live/live.css": _PAGES / "live.css",
    "/docs": _PAGES / "docs.html",
    "/docs/docs.js": _PAGES / "docs.js",
    # that package is wanted for these files alone: FastAPI's own page takes them from a CDN
    "/docs/swagger-ui.js": files("fastapi_offline") / "static" / "swagger-ui-bundle.js",
    "/docs/swagger-ui.css": files("fastapi_offline") / "static" / "swagger-ui.css",
}
_MEDIA_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
_DESCRIPTION = (
    "Predicts the quality of wines and loses no prediction: an answer is in the inference log when "
    "it is given. Measurements outside of what is possible are refused by name; those that no real "
    "wine is known to have are answered with a warning."
)


def create_app(
    settings: ServiceSettings | None = None,
    *,
    loader: ModelLoader | None = None,
    on_loaded: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Make the service.

    Args:
        settings: Its settings; from the environment, if not given.
        loader: Finds and loads model versions; from the settings' registry, if not given.
        on_loaded: Called in a thread whenever a version has been loaded and answers.

    Returns:
        The application; its lifespan opens the log and loads the model.

    Raises:
        WineQualityError: If a setting or an API key cannot be used.
    """
    settings = settings or ServiceSettings.from_environment()
    keys = ApiKeys.read(settings.api_keys, settings.api_keys_file)
    # a request should not be written after it was refused for taking too long
    log = InferenceLog(settings.log_url, busy_timeout_s=settings.time_limit_s / 2)
    loader = loader or ModelLoader.of(settings)
    metrics = Metrics()

    def tell(event: ModelEvent) -> None:
        metrics.model_event(event)
        if event.kind == "loaded":
            on_loaded()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        queue = LogQueue(log, settings.queue_rows, metrics.committed)
        watcher = ModelWatcher(loader, settings.reload_s, settings.retry_refused_s, tell)
        app.state.service = Service(settings, log, queue, watcher, metrics, LiveView(log, metrics))
        try:
            queue.start()
            await watcher.start()
            yield
        finally:
            await watcher.close()
            app.state.service.label_writers.shutdown(wait=False)
            # a commit that hangs has its connection, which cannot be closed
            if await queue.close():
                log.close()

    app = FastAPI(
        title="wine-quality",
        description=_DESCRIPTION,
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        exception_handlers={ProblemError: _say_problem, HTTPException: _say_status},
    )
    app.include_router(router)
    _add_pages(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    app.add_middleware(ShortCut, endpoints=POSTED)
    app.add_middleware(Guard, settings=settings, keys=keys, metrics=metrics, scopes=DEMANDED)
    return app


class ShortCut:
    """Calls the endpoints of plain POST requests without FastAPI's routing.

    They read their bodies and write their answers themselves, so that its dependencies and models
    have nothing to add for them; a third of a request's time does.

    Args:
        app: What answers everything else.
        endpoints: By path; those of `POST` requests.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection's event."""
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self._endpoints.get(scope["path"])
            if endpoint is not None:
                answer = await endpoint(Request(scope, receive))
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _say_problem(_: Request, error: Exception) -> Response:
    if not isinstance(error, ProblemError):
        raise error
    return error.response()


async def _say_status(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return ProblemError(error.status_code, str(error.detail), headers=error.headers).response()


def _add_pages(app: FastAPI) -> None:
    for path, file in _FILES.items():
        media_type = f"{_MEDIA_TYPES[file.name.rpartition('.')[2]]}; charset=utf-8"
        app.add_api_route(path, _fixed(file.read_bytes(), media_type), include_in_schema=False)

    @app.get("/live/data", include_in_schema=False)
    async def data(request: Request) -> Response:
        service: Service = request.app.state.service
        watcher, model = service.watcher, service.watcher.model
        found = await service.live.data(model)
        described = describe(model, watcher, service.settings.alias) if model else None
        content = {
            **found,
            "model": described,
            "model_trouble": watcher.trouble,
            "log_trouble": (
                "The inference log cannot be written to."
                if service.queue.trouble
                else found.get("log_trouble", "")
            ),
        }
        return Response(orjson.dumps(content), media_type="application/json")


def _fixed(content: bytes, media_type: str) -> Any:
    async def show() -> Response:
        return Response(content, media_type=media_type)

    return show


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with the requests that the endpoints read themselves."""
    if app.openapi_schema:
        return app.openapi_schema
    document = FastAPI.openapi(app)
    kinds = [(kind, "validation") for kind in (*REQUESTS, Params, Problem)]
    _, definitions = models_json_schema(kinds, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(definitions["$defs"])
    components["schemas"]["Invocation"] = INVOCATION_SCHEMA
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for (method, path), scope in DEMANDED.items():
        if scope and path in document["paths"]:
            # without keys configured, none is needed
            document["paths"][path][method.lower()]["security"] = [
                {"bearer": []},
                {"header": []},
                {},
            ]
    return document
