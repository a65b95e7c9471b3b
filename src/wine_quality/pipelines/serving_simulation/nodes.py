"""Nodes of the serving_simulation pipeline: wines in, receipts and ground truth out."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from wine_quality.errors import WineQualityError
from wine_quality.modelling.registry import Champion
from wine_quality.pipelines.serving_simulation.parameters import (
    BackendParameters,
    SimulationParameters,
    next_period,
)
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.predictor import Predictor
from wine_quality.traffic import ground_truth, planning, scenarios, sender
from wine_quality.traffic.backends import (
    Backend,
    BackendContext,
    BackendUnavailableError,
    create_backend,
)
from wine_quality.traffic.streams import Stream, derive_seed
from wine_quality.traffic.synthetic import draw_wines

Json = dict[str, Any]
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


def open_period(
    inference_log_connection: InferenceLog,
    undelivered_before: Stream,
    delivery_before: Json,
    parameters: SimulationParameters,
) -> Json:
    """Find the simulated period of this run: the one after the last that has traffic.

    Runs so do not mix in one window; the period's start is part of the seed, so that its wines
    are its own, and stay so where the length of periods changes. What was refused or not delivered
    is traffic, too; and what was delivered need not be in the database, if the backend logs
    elsewhere.

    Returns:
        `number`, `start` and `end` (ISO 8601, UTC) and `seed`.
    """
    settings = parameters.event_time
    events = [frame[planning.EVENT_TIME].max() for frame in undelivered_before]
    if logged := inference_log_connection.last_event_time(sender.SIMULATION):
        events.append(logged)
    if sent := delivery_before.get("last_sent"):
        events.append(datetime.fromisoformat(sent))
    start = next_period(max(events, default=None), settings)
    duration = timedelta(hours=settings.hours)
    number = (start - settings.start) // duration
    return {
        "number": number,
        "start": start.astimezone(UTC).isoformat(),
        "end": (start + duration).astimezone(UTC).isoformat(),
        "seed": derive_seed(parameters.seed, "period", (start - _EPOCH) // _MICROSECOND),
    }


def choose_wines(held_out_wines: pd.DataFrame, parameters: SimulationParameters) -> pd.DataFrame:
    """Take the undrifted wines: the held-out ones, or synthetic ones that stand for any number."""
    if parameters.source == "synthetic":
        return draw_wines(planning.POOL_ROWS, derive_seed(parameters.seed, "pool"))
    return held_out_wines


def plan_traffic(
    traffic_wines: pd.DataFrame, period: Json, parameters: SimulationParameters
) -> Stream:
    """Choose the wines of the period and say when each is measured."""
    start, end = _bounds(period)
    return Stream(
        lambda: planning.plan_traffic(
            None if parameters.source == "synthetic" else traffic_wines,
            samples=parameters.samples,
            start=start,
            duration=end - start,
            seed=period["seed"],
            rhythm=parameters.event_time.rhythm,
            chunk_rows=sender.chunk_rows(parameters.batch_size),
        ),
        rows=parameters.samples,
    )


def add_drift(
    planned_traffic: Stream,
    traffic_wines: pd.DataFrame,
    period: Json,
    parameters: SimulationParameters,
) -> Stream:
    """Let the planned wines drift, where the parameters ask for it."""
    start, _ = _bounds(period)
    return Stream(
        lambda: scenarios.inject_drift(
            planned_traffic,
            traffic_wines,
            parameters.drift.active(),
            start=start,
            seed=period["seed"],
        ),
        rows=planned_traffic.rows,
    )


def record_drift(
    injected_before: list[Json], period: Json, parameters: SimulationParameters
) -> list[Json]:
    """Write down what is injected, beside that of earlier periods: the truth about the drift."""
    start, end = _bounds(period)
    others = [row for row in injected_before if row["period_start"] != start.isoformat()]
    return others + scenarios.describe_drift(parameters.drift.active(), start, end)


def queue_traffic(
    drifted_traffic: Stream,
    undelivered_before: Stream,
    period: Json,
    parameters: SimulationParameters,
) -> Stream:
    """Put what is to be sent into batches; first comes what an earlier run could not deliver."""
    start, _ = _bounds(period)
    return Stream(
        lambda: sender.queue_traffic(
            undelivered_before,
            drifted_traffic,
            batch_size=parameters.batch_size,
            request_prefix=f"{sender.SIMULATION}-{start:%Y%m%dT%H%M%S}",
        )
    )


def connect_backend(
    champion: Champion, inference_log_connection: InferenceLog, parameters: SimulationParameters
) -> Backend:
    """Reach what hosts the model.

    Raises:
        BackendUnavailableError: It is not ready.
        WineQualityError: There is no such backend.
    """
    version = champion.version
    predictor = Predictor(champion.model, version.name, version.version)
    settings: BackendParameters = parameters.backend
    context = BackendContext(predictor=predictor, log=inference_log_connection)
    backend = create_backend(settings.name, settings.all_settings(), context)
    health = backend.check_health()
    if not health.ready:
        raise BackendUnavailableError(f"The backend {settings.name} is not ready: {health.reason}")
    return backend


def send_traffic(backend: Backend, traffic: Stream, parameters: SimulationParameters) -> Stream:
    """Send the traffic in batches, while the receipts are being saved.

    Returns:
        Receipts, one row a wine; can be gone through once.
    """
    return Stream.once(
        sender.send(
            backend,
            traffic,
            concurrency=parameters.concurrency,
            rate=parameters.rate,
            patience_seconds=parameters.patience_seconds,
        )
    )


def summarise_delivery(traffic: Stream, receipts: Stream) -> tuple[Json, Stream]:
    """Sum up what became of the traffic, and keep what was not delivered for the next run."""
    summary = sender.summarise(sender.Batches.of(receipts))
    return asdict(summary), Stream(lambda: sender.not_delivered(traffic, receipts))


def judge_wines(
    receipts: Stream,
    delivery: Json,
    pending_before: Stream,
    period: Json,
    parameters: SimulationParameters,
) -> Stream:
    """Let tasters judge the acknowledged wines; labels that waited come before the new ones.

    Raises:
        WineQualityError: Not one wine was acknowledged.
    """
    if not delivery["acknowledged"]:
        kept = f" {delivery['undelivered']:,} are kept, and sent first by the next run."
        raise WineQualityError(
            f"None of {delivery['sent']:,} wines was acknowledged: {delivery['error'].rstrip('.')}."
            + (kept if delivery["undelivered"] else "")
        )

    def labels() -> Any:
        yield from pending_before
        yield from ground_truth.judge_wines(receipts, parameters.ground_truth, period["seed"])

    return Stream(labels)


def submit_ground_truth(
    backend: Backend, labels: Stream, period: Json, parameters: SimulationParameters
) -> tuple[Json, Stream]:
    """Hand in the labels, or those that are due at the end of the period.

    Returns:
        Their sums; and the labels that wait for a later run.
    """
    _, end = _bounds(period)
    return _submit(backend, labels, end if parameters.ground_truth.hold_back else None, parameters)


def submit_pending_labels(
    backend: Backend, pending_before: Stream, parameters: SimulationParameters
) -> tuple[Json, Stream]:
    """Hand in all labels that waited, whenever they are due."""
    return _submit(backend, pending_before, None, parameters)


def summarise_traffic(
    receipts: Stream,
    delivery: Json,
    label_delivery: Json,
    injected_drift: list[Json],
    period: Json,
) -> tuple[Json, Stream]:
    """Sum the traffic up.

    Returns:
        The summary; and the receipts, for the inference log to be checked against.
    """
    events, versions = [], set()
    for frame in receipts:
        events += [frame[planning.EVENT_TIME].min(), frame[planning.EVENT_TIME].max()]
        versions |= set(frame["model_version"].dropna())
    drifts = [row for row in injected_drift if row["period_start"] == period["start"]]
    summary = delivery | {
        "labels": label_delivery,
        "model_versions": sorted(versions),
        "first_event": f"{min(events):%Y-%m-%d %H:%M} UTC",
        "last_event": f"{max(events):%Y-%m-%d %H:%M} UTC",
        "drift": drifts,
    }
    return summary, receipts


def _submit(
    backend: Backend, labels: Stream, until: datetime | None, parameters: SimulationParameters
) -> tuple[Json, Stream]:
    delivered = ground_truth.submit_labels(
        backend,
        labels,
        until=until,
        batch_size=parameters.batch_size,
        patience_seconds=parameters.patience_seconds,
    )
    done = delivered.submitted + delivered.unknown
    pending = Stream(lambda: ground_truth.left_over(labels, until, done))
    return asdict(delivered), pending


def _bounds(period: Json) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(period["start"]), datetime.fromisoformat(period["end"])
