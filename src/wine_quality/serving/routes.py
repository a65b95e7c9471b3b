"""The service's endpoints. They read bodies themselves: FastAPI's way costs 0.1 ms a wine."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
import orjson
import pandas as pd
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from wine_quality.database.errors import DatabaseError, DatabaseUnavailableError
from wine_quality.errors import WineQualityError
from wine_quality.modelling.loading import BrokenVersionError
from wine_quality.serving.access import Scope
from wine_quality.serving.guard import CALLER, STARTED
from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.inference_log import (
    InferenceLog,
    LoggedBatch,
    PredictionBatch,
    RequestConflictError,
    UnknownPredictionsError,
)
from wine_quality.serving.invocations import read_invocation
from wine_quality.serving.live import LiveView
from wine_quality.serving.log_queue import LogQueue
from wine_quality.serving.model_watcher import ModelEvent, ModelWatcher
from wine_quality.serving.problems import (
    PROBLEM_MEDIA_TYPE,
    FieldError,
    ProblemError,
    unavailable,
    unusable,
)
from wine_quality.serving.schemas import (
    BatchRequest,
    GroundTruthAnswer,
    GroundTruthRequest,
    HealthAnswer,
    IndexAnswer,
    InvocationsAnswer,
    ModelAnswer,
    Prediction,
    PredictionBatchAnswer,
    PredictRequest,
    measurements_of,
    quality_of,
)
from wine_quality.serving.served_model import ServedModel
from wine_quality.serving.settings import ServiceSettings
from wine_quality.serving.telemetry import Metrics
from wine_quality.wines import MEASUREMENT_NAMES, MEASUREMENTS, PARTS_OF_TOTALS, QUALITY, TYPE

logger = logging.getLogger(__name__)

_R = TypeVar("_R", bound=BaseModel)
_INLINE_ROWS = 20
"""Up to so many wines ONNX Runtime is faster than the way to another thread and back."""
_LABEL_WRITERS = 2
IDEMPOTENCY_KEY = "idempotency-key"
_KEY_TEXT = (
    "Repeating a request under its key writes nothing twice, and is answered as it was the first "
    "time; 1 to 255 printable ASCII characters"
)
_DEFAULT_SOURCE = "api"
_PLACE = {name: place for place, name in enumerate(MEASUREMENT_NAMES)}
_PLAUSIBLE = [(m.name, *m.plausible, m.unit) for m in MEASUREMENTS]

DEMANDED: dict[tuple[str, str], Scope | None] = {
    ("GET", "/"): None,
    ("POST", "/predict"): "write",
    ("POST", "/predict/batch"): "write",
    ("POST", "/invocations"): "write",
    ("POST", "/ground-truth"): "write",
    ("GET", "/model"): "read",
    ("GET", "/metrics"): "read",
    ("GET", "/live/data"): "read",
    ("GET", "/live"): None,
    ("GET", "/live/live.js"): None,
    ("GET", "/live/live.css"): None,
    ("GET", "/health/live"): None,
    ("GET", "/health/ready"): None,
    ("GET", "/docs"): None,
    ("GET", "/docs/docs.js"): None,
    ("GET", "/docs/swagger-ui.js"): None,
    ("GET", "/docs/swagger-ui.css"): None,
    ("GET", "/openapi.json"): None,
}
"""What each path demands of an API key."""


class Service:
    """What the endpoints work with; one a process, on `app.state`."""

    def __init__(
        self,
        settings: ServiceSettings,
        log: InferenceLog,
        queue: LogQueue,
        watcher: ModelWatcher,
        metrics: Metrics,
        live: LiveView,
    ) -> None:
        self.settings = settings
        self.log = log
        self.queue = queue
        self.watcher = watcher
        self.metrics = metrics
        self.live = live
        # Threads of their own: where the database hangs, those of the other requests do not.
        self.label_writers = ThreadPoolExecutor(_LABEL_WRITERS, "labels")

    def model(self) -> ServedModel:
        """The version that answers now.

        Raises:
            ProblemError: 503 if there is none.
        """
        if self.watcher.model is None:
            raise unavailable(self.watcher.trouble, 5)
        return self.watcher.model

    async def predict(
        self,
        request: Request,
        types: list[str],
        measurements: NDArray[np.float64],
        event_times: Sequence[datetime | None],
        source: str | None,
    ) -> LoggedBatch:
        """Predict n wines and log them; they are on disk when this returns.

        Args:
            request: Whose headers and arrival count.
            types: n types.
            measurements: Shape (n, 11), NaN for what is missing.
            event_times: n moments, None for now.
            source: Who asks, if it was said.

        Raises:
            ProblemError: 409, 422 or 503.
        """
        model = self.model()
        received_at = datetime.now(UTC)
        key = request.headers.get(IDEMPOTENCY_KEY)
        n = len(types)
        try:
            if model.runtime == "onnx" and n <= _INLINE_ROWS:
                predictions = model.predict(types, measurements)
            else:
                predictions = await asyncio.to_thread(model.predict, types, measurements)
        except BrokenVersionError:
            raise unavailable("The model did not answer: promote another version.", 30) from None
        latency_ms = 1000 * (time.perf_counter() - request.scope[STARTED])
        who = source or request.scope.get(CALLER) or _DEFAULT_SOURCE
        rows = [
            {
                "prediction_id": prediction_id,
                "event_time": moment or received_at,
                "received_at": received_at,
                "model_version": model.version,
                "source": who,
                TYPE: kind,
                **dict(zip(MEASUREMENT_NAMES, values, strict=True)),
                "prediction": prediction,
                "latency_ms": latency_ms,
            }
            for prediction_id, moment, kind, values, prediction in zip(
                uuid7_batch(n), event_times, types, measurements.tolist(), predictions.tolist(),
                strict=True,
            )
        ]  # fmt: skip
        try:
            logged = await self.queue.append(PredictionBatch(rows, key))
        except RequestConflictError:
            raise ProblemError(
                409, "This idempotency key was used for other wines: give each request its own."
            ) from None
        except DatabaseError as error:
            raise _log_refuses(error) from None
        except WineQualityError as error:
            raise ProblemError(422, str(error)) from None
        if not logged.repeated:
            self.metrics.predicted(model.version, n)
        return logged

    def warnings(self, values: Sequence[float]) -> list[str]:
        """What no real wine is known to have; values in canonical order, NaN for missing."""
        found = []
        for (name, low, high, unit), value in zip(_PLAUSIBLE, values, strict=True):
            if value < low or value > high:
                self.metrics.implausible(name)
                found.append(
                    f"{name}: {value:g} {unit}".rstrip() + f" is not from {low:g} to {high:g}"
                )
        for part, whole in PARTS_OF_TOTALS:
            if values[_PLACE[part]] > values[_PLACE[whole]]:
                found.append(f"{part} is more than {whole}")
        return found


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _read(request: Request, kind: type[_R]) -> _R:
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as error:
        mistakes = [
            FieldError(field=".".join(str(part) for part in e["loc"]) or "body", message=e["msg"])
            for e in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise unusable(mistakes) from None


def _json(content: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), media_type="application/json", headers=headers)


def _replayed(logged: LoggedBatch) -> dict[str, str] | None:
    return {"Idempotent-Replayed": "true"} if logged.repeated else None


def _described(schema: str) -> dict[str, Any]:
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
        }
    }


def _keyed(schema: str) -> dict[str, Any]:
    header = {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": _KEY_TEXT,
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    }
    return {**_described(schema), "parameters": [header]}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    texts = {
        400: "The body broke off",
        401: "No valid API key",
        403: "The API key lacks the scope",
        404: "Predictions that the log does not hold",
        409: "The idempotency key was used for other wines",
        413: "Too many bytes or rows",
        415: "Not JSON",
        422: "Values that cannot be, by name",
        429: "Too many requests",
        500: "The log cannot be used as it stands, or something else is broken here",
        503: "No model, or the log cannot be written to; see Retry-After",
    }
    return {status: {"description": texts[status], "content": content} for status in statuses}


_WRITING = (400, 401, 403, 413, 415, 422, 429, 500, 503)
router = APIRouter()


@router.get("/", response_model=IndexAnswer, summary="What this is")
async def index() -> Response:
    """Say what this is, and where to go on."""
    return _json(
        {
            "name": "wine-quality",
            "description": "Predicts the quality of wines and loses no prediction.",
            "links": {
                "predict": "/predict",
                "predict_batch": "/predict/batch",
                "invocations": "/invocations",
                "ground_truth": "/ground-truth",
                "model": "/model",
                "live": "/live",
                "docs": "/docs",
                "metrics": "/metrics",
                "health": "/health/ready",
            },
        }
    )


@router.post(
    "/predict",
    response_model=Prediction,
    responses=_problems(*_WRITING, 409),
    openapi_extra=_keyed("PredictRequest"),
    summary="Predict one wine",
)
async def predict(request: Request) -> Response:
    """Predict the quality of one wine; the answer is in the inference log when it is given."""
    service = _service(request)
    wine = await _read(request, PredictRequest)
    measurements = np.array([measurements_of(wine)], dtype=np.float64)
    logged = await service.predict(
        request, [wine.kind], measurements, [wine.event_time], wine.source
    )
    return _json(
        {
            "prediction_id": logged.prediction_ids[0],
            "prediction": logged.predictions[0],
            "model_version": logged.model_versions[0],
            "warnings": service.warnings(measurements[0].tolist()),
        },
        _replayed(logged),
    )


@router.post(
    "/predict/batch",
    response_model=PredictionBatchAnswer,
    responses=_problems(*_WRITING, 409),
    openapi_extra=_keyed("BatchRequest"),
    summary="Predict several wines",
)
async def predict_batch(request: Request) -> Response:
    """Predict the quality of wines: all of them are logged, or none."""
    service = _service(request)
    batch = await _read(request, BatchRequest)
    _limit(len(batch.wines), service)
    measurements = np.array([measurements_of(w) for w in batch.wines], dtype=np.float64)
    logged = await service.predict(
        request,
        [w.kind for w in batch.wines],
        measurements,
        [w.event_time for w in batch.wines],
        batch.source,
    )
    return _json(
        {
            "predictions": [
                {
                    "prediction_id": prediction_id,
                    "prediction": prediction,
                    "model_version": version,
                    "warnings": service.warnings(values),
                }
                for prediction_id, prediction, version, values in zip(
                    logged.prediction_ids, logged.predictions, logged.model_versions,
                    measurements.tolist(), strict=True,
                )
            ]
        },
        _replayed(logged),
    )  # fmt: skip


@router.post(
    "/invocations",
    response_model=InvocationsAnswer,
    responses=_problems(*_WRITING, 409),
    openapi_extra=_keyed("Invocation"),
    summary="Predict wines the MLflow way",
)
async def invocations(request: Request) -> Response:
    """Answer any MLflow client: `dataframe_split`, `dataframe_records`, `inputs`, `instances`."""
    service = _service(request)
    table = read_invocation(await request.body(), service.settings.batch_limit)
    n = len(table.types)
    logged = await service.predict(
        request, table.types, table.measurements, [table.event_time] * n, table.source
    )
    for values in table.measurements.tolist():
        service.warnings(values)
    return _json(
        {
            "predictions": logged.predictions,
            "prediction_ids": logged.prediction_ids,
            "model_version": logged.model_versions[0],
        },
        _replayed(logged),
    )


@router.post(
    "/ground-truth",
    response_model=GroundTruthAnswer,
    responses=_problems(*_WRITING, 404),
    openapi_extra=_described("GroundTruthRequest"),
    summary="Hand in what tasters said",
)
async def ground_truth(request: Request) -> Response:
    """Write labels: all of them, or none. Repeating them changes nothing; the newest counts."""
    service = _service(request)
    labels = (await _read(request, GroundTruthRequest)).labels
    _limit(len(labels), service)
    try:
        new = await asyncio.get_running_loop().run_in_executor(
            service.label_writers,
            _write_labels,
            service.log,
            [(label.prediction_id, quality_of(label), label.labelled_at) for label in labels],
        )
    except UnknownPredictionsError as error:
        raise ProblemError(
            404,
            f"{len(error.names)} of {len(labels)} labels name predictions that are not in the "
            "inference log: nothing was written; send ids that the service answered.",
            unknown=error.names,
        ) from None
    except DatabaseError as error:
        logger.error("Labels could not be written", extra={"reason": str(error)})  # noqa: TRY400
        raise _log_refuses(error) from None
    service.metrics.labelled(new)
    return _json({"received": len(labels), "new": new})


POSTED = {
    "/predict": predict,
    "/predict/batch": predict_batch,
    "/invocations": invocations,
    "/ground-truth": ground_truth,
}
"""The endpoints that read their bodies themselves."""


@router.get(
    "/model",
    response_model=ModelAnswer,
    responses=_problems(401, 403, 429, 503),
    summary="The version that answers",
)
async def model(request: Request) -> Response:
    """Describe the version that answers, and what happened to it."""
    service = _service(request)
    return _json(describe(service.model(), service.watcher, service.settings.alias))


@router.get("/health/live", response_model=HealthAnswer, summary="Is the process alive?")
async def alive() -> Response:
    """Answer as long as the event loop turns."""
    return _json({"status": "alive"})


@router.get(
    "/health/ready",
    response_model=HealthAnswer,
    responses=_problems(503),
    summary="Can it predict and log?",
)
async def ready(request: Request) -> Response:
    """Answer if there is a model and the log takes its answers."""
    service = _service(request)
    service.model()
    if service.queue.trouble:
        raise unavailable("The inference log cannot be written to.")
    return _json({"status": "ready"})


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Prometheus' text format", "content": {"text/plain": {}}},
        **_problems(401, 403, 429),
    },
    summary="Figures for Prometheus",
)
async def metrics(request: Request) -> Response:
    """Give the figures of all workers."""
    service = _service(request)
    service.metrics.waiting.set(service.queue.rows)
    content = await asyncio.to_thread(service.metrics.exposition)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")


def describe(model: ServedModel, watcher: ModelWatcher, alias: str) -> dict[str, Any]:
    """Describe the version that answers, as JSON knows it (`schemas.ModelAnswer`)."""

    def plain(event: ModelEvent | None) -> dict[str, Any] | None:
        return None if event is None else asdict(event)

    return {
        "name": model.name,
        "version": model.version,
        "alias": alias,
        "runtime": model.runtime,
        "runtime_reason": model.runtime_reason,
        "verified": model.verified,
        "metrics": dict(model.metrics),
        "registered_at": model.registered_at,
        "since": model.loaded_at,
        "refused": plain(watcher.refused),
        "events": [plain(event) for event in watcher.events],
    }


def _log_refuses(error: DatabaseError) -> ProblemError:
    """The problem of a log that cannot be written to: one that may pass by itself, or another."""
    if isinstance(error, DatabaseUnavailableError):
        return unavailable(
            "The inference log cannot be written to: nothing was acknowledged, try again."
        )
    return ProblemError(
        500,
        "The inference log cannot be used as it stands: nothing was acknowledged, and trying again "
        "does not help; the service's own log says why.",
    )


def _limit(n: int, service: Service) -> None:
    limit = service.settings.batch_limit
    if n > limit:
        raise ProblemError(413, f"{n} rows are more than the {limit} that a request may have.")


def _write_labels(log: InferenceLog, labels: Sequence[tuple[UUID, float, datetime | None]]) -> int:
    """Write labels; one without a moment is new only if it says something new."""
    known = log.newest_labels([name for name, _, moment in labels if moment is None])
    now = datetime.now(UTC)
    fresh = [
        (name, quality, moment or now)
        for name, quality, moment in labels
        if moment is not None or known.get(name) != quality
    ]
    if not fresh:
        return 0
    columns = ["prediction_id", QUALITY, "labelled_at"]
    return log.append_ground_truth(pd.DataFrame(fresh, columns=columns))
