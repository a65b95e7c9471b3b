"""Nodes of the serving_simulation pipeline: wines in, receipts and ground truth out."""

from dataclasses import asdict
from datetime import timedelta
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
from wine_quality.traffic import sender
from wine_quality.traffic.backends import Backend, BackendContext, create_backend
from wine_quality.traffic.scenarios import inject_drift
from wine_quality.traffic.synthetic import draw_wines

Json = dict[str, Any]
SOURCE = "simulation"


def choose_wines(held_out_wines: pd.DataFrame, parameters: SimulationParameters) -> pd.DataFrame:
    """Take the wines to send from: the held-out ones, or as many synthetic ones as are sent."""
    if parameters.source == "synthetic":
        return draw_wines(parameters.samples, parameters.seed)
    return held_out_wines


def plan_traffic(
    traffic_wines: pd.DataFrame,
    inference_log_connection: InferenceLog,
    parameters: SimulationParameters,
) -> pd.DataFrame:
    """Choose the wines of the next simulated period and say when each is measured.

    Every run simulates the period after the last one in the log, so that runs do not mix in one
    window; the period's number is part of the seed, so that its wines are its own.
    """
    settings = parameters.event_time
    last_event = inference_log_connection.last_event_time(SOURCE)
    start = next_period(last_event, settings)
    duration = timedelta(hours=settings.hours)
    period = (start - settings.start) // duration
    return sender.plan_traffic(
        traffic_wines,
        samples=parameters.samples,
        start=start,
        duration=duration,
        seed=parameters.seed + period,
    )


def add_drift(planned_traffic: pd.DataFrame, parameters: SimulationParameters) -> pd.DataFrame:
    """Let one measurement of the planned wines drift, where the parameters ask for it."""
    return inject_drift(planned_traffic, parameters.drift, parameters.seed)


def connect_backend(
    champion: Champion, inference_log_connection: InferenceLog, parameters: SimulationParameters
) -> Backend:
    """Reach what hosts the model.

    Raises:
        WineQualityError: There is no such backend, or it is not ready.
    """
    version = champion.version
    predictor = Predictor(champion.model, version.name, version.version)
    settings: BackendParameters = parameters.backend
    context = BackendContext(predictor=predictor, log=inference_log_connection)
    backend = create_backend(settings.name, settings.config, context)
    health = backend.check_health()
    if not health.ready:
        raise WineQualityError(f"The backend {settings.name} is not ready: {health.reason}")
    return backend


def send_traffic(
    backend: Backend, traffic: pd.DataFrame, parameters: SimulationParameters
) -> tuple[pd.DataFrame, Json]:
    """Send the traffic in batches.

    Returns:
        Receipts, one row a wine; and their summary.

    Raises:
        WineQualityError: Not one wine was acknowledged.
    """
    prefix = f"{SOURCE}-{traffic[sender.EVENT_TIME].iloc[0]:%Y%m%dT%H%M%S}"
    receipts, summary = sender.send(
        backend,
        traffic,
        batch_size=parameters.batch_size,
        request_prefix=prefix,
        source=SOURCE,
    )
    if not summary.acknowledged:
        raise WineQualityError(
            f"None of {summary.sent:,} wines was acknowledged: {receipts['error'].iloc[0]}"
        )
    return receipts, asdict(summary)


def submit_ground_truth(
    backend: Backend, receipts: pd.DataFrame, delivery: Json, parameters: SimulationParameters
) -> tuple[Json, pd.DataFrame]:
    """Hand in the quality of the acknowledged wines, and sum the traffic up.

    Returns:
        The traffic's summary; and the receipts, for the inference log to be checked against.
    """
    labels = sender.submit_ground_truth(
        backend,
        receipts,
        share=parameters.ground_truth.share,
        delay=timedelta(hours=parameters.ground_truth.delay_hours),
        seed=parameters.seed,
        batch_size=parameters.batch_size,
    )
    events = receipts[sender.EVENT_TIME]
    drift = parameters.drift
    summary = delivery | {
        "labelled": labels.submitted,
        "model_versions": sorted(receipts["model_version"].dropna().unique()),
        "first_event": f"{events.min():%Y-%m-%d %H:%M} UTC",
        "last_event": f"{events.max():%Y-%m-%d %H:%M} UTC",
        "drift": f"{drift.column} by {drift.rule}" if drift.enabled else "",
    }
    return summary, receipts
