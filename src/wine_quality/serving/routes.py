"""All that the service answers, in one table: what does not stand there is refused."""

import asyncio
import logging
import re
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from wine_quality.database.errors import DatabaseError
from wine_quality.serving.answers import Answer, json_answer
from wine_quality.serving.bodies import parse_json
from wine_quality.serving.labels import UnknownPredictionsError
from wine_quality.serving.pages import page_routes
from wine_quality.serving.prediction_batch import LoggedBatch
from wine_quality.serving.problems import FieldError, ProblemError, unusable
from wine_quality.serving.routing import (
    JSON_MEDIA_TYPE,
    Document,
    ReceivedRequest,
    Route,
    RouteTable,
)
from wine_quality.serving.schemas import (
    GroundTruthAnswer,
    GroundTruthRequest,
    HealthAnswer,
    IndexAnswer,
    InvocationsAnswer,
    ModelAnswer,
    Prediction,
    PredictionBatchAnswer,
    quality_of,
)
from wine_quality.serving.service import Service, log_refuses
from wine_quality.serving.wine_requests import (
    CSV,
    Wines,
    check_rows,
    read_batch,
    read_table,
    read_wine,
)

logger = logging.getLogger(__name__)

IDEMPOTENCY_KEY = b"idempotency-key"
CLIENT_ID, REQUEST_ID = b"x-client-id", b"x-request-id"
_REPLAYED = [(b"idempotent-replayed", b"true")]
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_LINKS = {
    "predict": "/predict",
    "predict_batch": "/predict/batch",
    "invocations": "/invocations",
    "ground_truth": "/ground-truth",
    "model": "/model",
    "live": "/live",
    "docs": "/docs",
    "metrics": "/metrics",
    "health": "/health/ready",
}


def _service(request: ReceivedRequest) -> Service:
    service: Service = request.app.state.service
    return service


async def index(request: ReceivedRequest) -> Answer:
    """Say what this is, and where to go on."""
    prefix = (request.header(b"x-forwarded-prefix") or "").rstrip("/")
    if not _PREFIX.fullmatch(prefix):
        prefix = request.scope.get("root_path", "") or _service(request).settings.root_path
    return json_answer(
        {
            "name": "wine-quality",
            "description": "Predicts the quality of wines and loses no prediction.",
            "links": {name: prefix + path for name, path in _LINKS.items()},
        }
    )


async def predict(request: ReceivedRequest) -> Answer:
    """Predict the quality of one wine; the answer is in the inference log when it is given."""
    wines = read_wine(request.content)
    logged = await _predict(request, wines)
    return json_answer(_described(logged, wines)[0], _replayed(logged))


async def predict_batch(request: ReceivedRequest) -> Answer:
    """Predict the quality of wines: all of them are logged, or none."""
    wines = read_batch(request.content, _service(request).settings.batch_limit)
    logged = await _predict(request, wines)
    return json_answer({"predictions": _described(logged, wines)}, _replayed(logged))


async def invocations(request: ReceivedRequest) -> Answer:
    """Answer any MLflow client: `dataframe_split`, `dataframe_records`, `inputs`, `instances`."""
    media_type = (request.header(b"content-type") or "").partition(";")[0].strip().lower()
    wines = read_table(request.content, media_type, _service(request).settings.batch_limit)
    logged = await _predict(request, wines)
    content = {
        "predictions": logged.predictions,
        "prediction_ids": logged.prediction_ids,
        "model_version": logged.model_versions[0],
    }
    return json_answer(content, _replayed(logged))


async def _predict(request: ReceivedRequest, wines: Wines) -> LoggedBatch:
    key = request.header(IDEMPOTENCY_KEY)
    client = request.header(CLIENT_ID) or request.caller or key or request.header(REQUEST_ID)
    return await _service(request).predict(wines, request.caller, client, key, request.started)


def _described(logged: LoggedBatch, wines: Wines) -> list[dict[str, Any]]:
    return [
        {
            "prediction_id": prediction_id,
            "prediction": prediction,
            "model_version": model_version,
            "warnings": warnings,
        }
        for prediction_id, prediction, model_version, warnings in zip(
            logged.prediction_ids, logged.predictions, logged.model_versions, wines.warnings(),
            strict=True,
        )
    ]  # fmt: skip


def _replayed(logged: LoggedBatch) -> Sequence[tuple[bytes, bytes]]:
    return _REPLAYED if logged.repeated else ()


async def ground_truth(request: ReceivedRequest) -> Answer:
    """Write labels: all of them, or none. Repeating them changes nothing; the newest counts."""
    service = _service(request)
    parse_json(request.content)
    try:
        given = GroundTruthRequest.model_validate_json(request.content).labels
    except ValidationError as error:
        raise unusable(_mistakes(error)) from None
    check_rows(len(given), service.settings.batch_limit)
    labels = [(label.prediction_id, quality_of(label), label.labelled_at) for label in given]
    _check_labels(labels)
    try:
        new = await service.write_labels(labels)
    except UnknownPredictionsError as error:
        raise ProblemError(
            404,
            f"{len(error.names)} of {len(labels)} labels name predictions that are not in the "
            "inference log: nothing was written; send ids that the service answered.",
            unknown=error.names,
        ) from None
    except DatabaseError as error:
        logger.error("Labels could not be written", extra={"reason": str(error)})  # noqa: TRY400
        raise log_refuses(error) from None
    return json_answer({"received": len(labels), "new": new})


def _mistakes(error: ValidationError) -> list[FieldError]:
    return [
        FieldError(field=".".join(str(part) for part in e["loc"]) or "body", message=e["msg"])
        for e in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _check_labels(labels: Sequence[tuple[UUID, float, datetime | None]]) -> None:
    """Refuse two qualities of one wine at one moment: nobody knows which of them counts."""
    first: dict[tuple[UUID, datetime | None], tuple[int, float]] = {}
    mistakes = []
    for i, (prediction_id, quality, moment) in enumerate(labels):
        before, said = first.setdefault((prediction_id, moment), (i, quality))
        if said != quality:
            text = f"says {quality}, and labels.{before} says {said} at the same moment: keep one"
            mistakes.append(FieldError(field=f"labels.{i}", message=text))
    if mistakes:
        raise unusable(mistakes)


async def model(request: ReceivedRequest) -> Answer:
    """Describe the version that answers, and what happened to it."""
    service = _service(request)
    service.model()
    return json_answer(service.describe_model())


async def alive(_: ReceivedRequest) -> Answer:
    """Answer as long as the event loop turns."""
    return json_answer({"status": "alive"})


async def ready(request: ReceivedRequest) -> Answer:
    """Answer if there is a model and the log takes its answers."""
    service = _service(request)
    service.check_ready()
    return json_answer({"status": "ready", "warnings": service.warnings()})


async def mlflow_version(_: ReceivedRequest) -> Answer:
    """Name the version of MLflow, whose clients ask for it."""
    return Answer(version("mlflow").encode(), b"text/plain; charset=utf-8")


async def metrics(request: ReceivedRequest) -> Answer:
    """Give the figures of all workers."""
    service = _service(request)
    service.metrics.waiting.set(service.queue.rows)
    content = await asyncio.to_thread(service.metrics.exposition)
    return Answer(content, b"text/plain; version=0.0.4; charset=utf-8")


async def live_data(request: ReceivedRequest) -> Answer:
    """Give the live page's figures."""
    service = _service(request)
    challenger = service.challenger.watcher.model if service.challenger else None
    version = challenger.version if challenger else None
    found = await service.live.data(service.watcher.model, version)
    trouble = "The inference log cannot be written to." if service.queue.trouble else ""
    return json_answer(
        {
            **found,
            "model": service.describe_model(),
            "model_trouble": service.watcher.trouble,
            "challenger": service.describe_challenger(),
            "log_trouble": trouble or found.get("log_trouble", ""),
        }
    )


async def openapi(request: ReceivedRequest) -> Answer:
    """Give the OpenAPI document."""
    return json_answer(request.app.openapi())


def _json_body(schema: str) -> dict[str, str]:
    return {JSON_MEDIA_TYPE: schema}


_READY = Document("Can it predict and log?", HealthAnswer, problems=(503,))

ROUTES = RouteTable(
    (
        Route("GET", "/", None, index, "information", Document("What this is", IndexAnswer)),
        Route(
            "POST", "/predict", "write", predict, "prediction",
            Document("Predict one wine", Prediction, bodies=_json_body("PredictRequest"),
                     problems=(409,), keyed=True),
        ),
        Route(
            "POST", "/predict/batch", "write", predict_batch, "prediction",
            Document("Predict several wines", PredictionBatchAnswer,
                     bodies=_json_body("BatchRequest"), problems=(409,), keyed=True),
        ),
        Route(
            "POST", "/invocations", "write", invocations, "prediction",
            Document("Predict wines the MLflow way", InvocationsAnswer,
                     bodies={JSON_MEDIA_TYPE: "Invocation", CSV: "InvocationTable"},
                     problems=(409,), keyed=True),
        ),
        Route(
            "POST", "/ground-truth", "write", ground_truth, "labels",
            Document("Hand in what tasters said", GroundTruthAnswer,
                     bodies=_json_body("GroundTruthRequest"), problems=(404,)),
        ),
        Route(
            "GET", "/model", "read", model, "information",
            Document("The version that answers", ModelAnswer, problems=(503,)),
        ),
        Route(
            "GET", "/metrics", "read", metrics, "monitoring",
            Document("Figures for Prometheus", None, "text/plain"),
        ),
        Route(
            "GET", "/health/live", None, alive, "monitoring",
            Document("Is the process alive?", HealthAnswer),
        ),
        Route("GET", "/health/ready", None, ready, "monitoring", _READY),
        # under the names that MLflow's clients and SageMaker ask for
        Route("GET", "/health", None, ready, "monitoring", _READY),
        Route("GET", "/ping", None, ready, "monitoring", _READY),
        Route(
            "GET", "/version", None, mlflow_version, "monitoring",
            Document("The version of MLflow", None, "text/plain"),
        ),
        Route("GET", "/openapi.json", None, openapi, "page"),
        Route("GET", "/live/data", "read", live_data, "monitoring"),
        *page_routes(),
    )
)  # fmt: skip
