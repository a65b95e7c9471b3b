"""The service in the event loop of a test, and a client of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pandas as pd

from wine_quality.serving.access import new_key
from wine_quality.serving.app import create_app
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.settings import ServiceSettings
from wine_quality.wines import INPUTS, WINE_EXAMPLE

WINE = WINE_EXAMPLE
URL = "http://127.0.0.1"


@asynccontextmanager
async def running(settings: ServiceSettings) -> AsyncIterator[httpx.AsyncClient]:
    """The service in this event loop, and a client of it."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=URL, timeout=30) as client,
    ):
        client.app = app  # type: ignore[attr-defined]
        yield client


def ask(settings: ServiceSettings, work: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run work with a client of a service."""

    async def main() -> None:
        async with running(settings) as client:
            await work(client)

    asyncio.run(main())


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """Wait for a condition, up to a deadline."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


def wines_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(frame[list(INPUTS)].to_json(orient="records"))


def logged(settings: ServiceSettings) -> pd.DataFrame:
    with InferenceLog(settings.log_url) as log:
        return log.read()


def keyed(settings: ServiceSettings, *scopes: str, **more: Any) -> tuple[ServiceSettings, str]:
    key, known = new_key("cellar", scopes)  # type: ignore[arg-type]
    return settings.model_copy(update={"api_keys": known.line(), **more}), key
