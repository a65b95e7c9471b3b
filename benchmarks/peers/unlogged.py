"""Our service with its log taken out, to see what the log costs."""

from fastapi import FastAPI

from wine_quality.serving.inference_log import LoggedBatch, PredictionBatch
from wine_quality.serving.log_queue import LogQueue
from wine_quality.serving.worker import create as create_worker


async def _acknowledge(_: LogQueue, batch: PredictionBatch) -> LoggedBatch:
    rows = [(r["prediction_id"], r["prediction"], r["model_version"]) for r in batch.rows]
    ids, predictions, versions = zip(*rows, strict=True)
    return LoggedBatch(ids, predictions, versions, repeated=False)


def create() -> FastAPI:
    LogQueue.append = _acknowledge  # type: ignore[method-assign]
    return create_worker()
