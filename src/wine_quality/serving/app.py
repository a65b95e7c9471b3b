"""The application factory of the prediction service."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from wine_quality.modelling.registry import CHALLENGER
from wine_quality.serving.access import ApiKeys
from wine_quality.serving.challenger import Challenger
from wine_quality.serving.guard import Guard
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.live import LiveView
from wine_quality.serving.log_queue import LogQueue
from wine_quality.serving.model_watcher import ModelEvent, ModelWatcher
from wine_quality.serving.routes import ROUTES
from wine_quality.serving.schemas import WINE_SCHEMAS, GroundTruthRequest, Params
from wine_quality.serving.served_model import ModelLoader
from wine_quality.serving.service import Service
from wine_quality.serving.settings import ServiceSettings
from wine_quality.serving.telemetry import Metrics

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
        loader: Finds and loads the versions that answer; from the settings' registry, if not
            given.
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

    def watch(loader: ModelLoader, *, keeps_former: bool) -> ModelWatcher:
        def tell(event: ModelEvent) -> None:
            metrics.model_event(loader.alias, event)
            if event.kind == "loaded":
                on_loaded()

        return ModelWatcher(
            loader, settings.reload_s, settings.retry_refused_s, tell, keeps_former=keeps_former
        )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        queue = LogQueue(log, settings.queue_rows, metrics.committed)
        watcher = watch(loader, keeps_former=True)
        live = LiveView(log, metrics, no_traffic=ROUTES.paths("monitoring", "page"))
        challenger = None
        if settings.shadow_share or settings.canary_share:
            other = watch(ModelLoader.of(settings, CHALLENGER), keeps_former=False)
            challenger = Challenger(settings, other, log, queue, metrics)
        app.state.service = Service(settings, log, queue, watcher, metrics, live, challenger)
        try:
            queue.start()
            await watcher.start()
            if challenger is not None:
                await challenger.start()
            yield
        finally:
            await watcher.close()
            ended = await challenger.close() if challenger is not None else True
            app.state.service.label_writers.shutdown(wait=False)
            # a commit that hangs has its connection, which cannot be closed
            if await queue.close() and ended:
                log.close()

    return PredictionApp(
        Guard(ROUTES, settings, keys, metrics),
        title="wine-quality",
        description=_DESCRIPTION,
        version="1",
        lifespan=lifespan,
    )


class PredictionApp(FastAPI):
    """An application whose requests all go to a guard, and nowhere else.

    A route, mounted application or file that was added in any other way is not answered: what a
    route demands of a key stands in the same table as the route.

    Args:
        guard: Answers requests.
        settings: For `FastAPI`.
    """

    def __init__(self, guard: Guard, **settings: Any) -> None:
        super().__init__(docs_url=None, redoc_url=None, openapi_url=None, **settings)
        self._guard = guard

    def build_middleware_stack(self) -> ASGIApp:
        """The guard, and middleware that somebody has added around it."""
        app: ASGIApp = self._guard
        for middleware, arguments, options in reversed(self.user_middleware):
            app = middleware(app, *arguments, **options)
        return app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection's event."""
        scope["app"] = self
        if scope["type"] == "lifespan":
            await self.router.lifespan(scope, receive, send)
            return
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        await self.middleware_stack(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of the table of routes."""
        if self.openapi_schema is None:
            self.openapi_schema = ROUTES.openapi(
                title=self.title,
                version=self.version,
                description=self.description,
                models=(Params, GroundTruthRequest),
                schemas=WINE_SCHEMAS,
            )
        return self.openapi_schema
