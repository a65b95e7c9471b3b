"""Our service with its log taken out, to see what the log costs."""

from collections.abc import Sequence

from fastapi import FastAPI

from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.prediction_batch import LoggedBatch, PredictionBatch
from wine_quality.serving.worker import create as create_worker


def _acknowledge(_: InferenceLog, batches: Sequence[PredictionBatch]) -> list[LoggedBatch]:
    return [LoggedBatch.of(batch) for batch in batches]


def create() -> FastAPI:
    InferenceLog.append_many = _acknowledge  # type: ignore[assignment, method-assign]
    return create_worker()
