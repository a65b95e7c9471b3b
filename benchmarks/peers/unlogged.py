"""Our service with its log taken out, to see what the log costs."""

from fastapi import FastAPI

from wine_quality.serving.log_queue import LogQueue
from wine_quality.serving.prediction_batch import LoggedBatch, PredictionBatch
from wine_quality.serving.worker import create as create_worker


async def _acknowledge(_: LogQueue, batch: PredictionBatch) -> LoggedBatch:
    return LoggedBatch.of(batch)


def create() -> FastAPI:
    LogQueue.append = _acknowledge  # type: ignore[method-assign]
    return create_worker()
