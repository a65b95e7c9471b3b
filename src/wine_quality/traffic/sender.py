"""Sending traffic: which wines, when, in which batches, and what became of them."""

import hashlib
import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from wine_quality.errors import WineQualityError
from wine_quality.serving.moments import utc_moment
from wine_quality.traffic.backends import Backend
from wine_quality.wines import INPUTS, QUALITY

logger = logging.getLogger(__name__)

EVENT_TIME = "event_time"
_ANSWER = ("prediction_id", "prediction", "model_version")
_RECEIPT_DTYPES = {
    "prediction_id": "str",
    "prediction": "float64",
    "model_version": "str",
    EVENT_TIME: "datetime64[us, UTC]",
    "latency_ms": "float64",
    "acknowledged": "bool",
    "error": "str",
}


@dataclass(frozen=True)
class TrafficSummary:
    """What became of the traffic.

    Attributes:
        sent: Wines sent.
        acknowledged: Wines whose predictions the backend has logged.
        failed: Wines of batches that failed.
        seconds: Duration of the sending.
        rows_per_second: Acknowledged wines a second.
        latency_p50_ms: Median over the acknowledged wines of the time until their batch was
            answered; None if there are none.
        latency_p95_ms: The 95th percentile of the same.
    """

    sent: int
    acknowledged: int
    failed: int
    seconds: float
    rows_per_second: float
    latency_p50_ms: float | None
    latency_p95_ms: float | None


class Delivery(NamedTuple):
    """Traffic that was sent.

    Attributes:
        receipts: One row a wine, with the traffic's index: ``prediction_id``, ``prediction``,
            ``model_version``, ``event_time``, ``latency_ms`` (of its batch), ``acknowledged``,
            ``error`` (why its batch failed; missing if it did not) and the wine's ``quality``,
            where the traffic has one.
        summary: The sums.
    """

    receipts: pd.DataFrame
    summary: TrafficSummary


@dataclass(frozen=True)
class GroundTruthSummary:
    """What became of the labels.

    Attributes:
        eligible: Acknowledged wines whose quality is known.
        submitted: Labels handed in.
        new: Labels that were not there before.
    """

    eligible: int
    submitted: int
    new: int


def plan_traffic(
    wines: pd.DataFrame, *, samples: int, start: datetime, duration: timedelta, seed: int
) -> pd.DataFrame:
    """Choose wines and say when each was measured.

    Args:
        wines: Frame with the twelve inputs and, where known, ``quality``.
        samples: How many to send. No wine comes twice, unless there are fewer than that.
        start: First possible event time, with a timezone.
        duration: Event times are spread evenly at random over the time from ``start`` until, and
            without, ``start + duration``.
        seed: Seed of the choice and of the times.

    Returns:
        Frame of ``samples`` rows with the columns of ``wines`` and ``event_time`` (UTC), which
        ascends; its index counts from 0.

    Raises:
        WineQualityError: If there are no wines, nothing is to be sent, the duration is not positive
            or the start has no timezone.
    """
    if wines.empty:
        raise WineQualityError("There are no wines to send: run the processing pipeline first.")
    if samples < 1:
        raise WineQualityError(f"samples must be 1 or more, not {samples}.")
    microseconds = duration // timedelta(microseconds=1)
    if microseconds < 1:
        raise WineQualityError(f"The duration of the traffic must be above 0, not {duration}.")
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(wines), size=samples, replace=samples > len(wines))
    offsets = np.sort(rng.integers(0, microseconds, size=samples))
    times = pd.Timestamp(utc_moment(start, "start")).as_unit("us") + pd.to_timedelta(
        offsets, unit="us"
    )
    return wines.iloc[chosen].reset_index(drop=True).assign(**{EVENT_TIME: times})


def send(
    backend: Backend,
    traffic: pd.DataFrame,
    *,
    batch_size: int,
    request_prefix: str,
    source: str = "simulation",
) -> Delivery:
    """Send traffic in batches, in its order. A batch that fails does not stop the others.

    Every batch has a request id made of the prefix, its number and its content: sending the same
    traffic again under the same prefix logs nothing twice and sends what failed once more.

    Args:
        backend: Where to send it.
        traffic: Frame with the twelve inputs, ``event_time`` and, where known, ``quality``.
        batch_size: Wines in a batch.
        request_prefix: Tells this traffic from any other; printable ASCII.
        source: Who asks, as the inference log will say.

    Returns:
        Receipts and their summary.

    Raises:
        WineQualityError: If there is no traffic, or the batch size is below 1.
    """
    _check_batch_size(batch_size)
    if traffic.empty:
        raise WineQualityError("There is no traffic to send: ask for one sample or more.")
    begin = time.perf_counter()
    parts = []
    # disable=None: the bar shows on a terminal only.
    with tqdm(total=len(traffic), unit="wine", desc="traffic", disable=None) as bar:
        for number, first in enumerate(range(0, len(traffic), batch_size)):
            batch = traffic.iloc[first : first + batch_size]
            request_id = _request_id(request_prefix, number, batch)
            parts.append(_send_batch(backend, batch, request_id, source))
            bar.update(len(batch))
    receipts = pd.concat(parts)
    summary = _summary(receipts, time.perf_counter() - begin)
    if summary.failed:
        reasons = receipts["error"].dropna().unique()
        logger.warning(
            "%d of %d wines were not acknowledged: %s",
            summary.failed,
            summary.sent,
            "; ".join(reasons[:3]),
        )
    return Delivery(receipts, summary)


def submit_ground_truth(
    backend: Backend,
    receipts: pd.DataFrame,
    *,
    share: float,
    delay: timedelta,
    seed: int,
    batch_size: int,
) -> GroundTruthSummary:
    """Hand in the quality of wines that were acknowledged.

    Args:
        backend: Where to hand it in.
        receipts: As ``send`` gave them, with ``quality``.
        share: Share of the wines that tasters judge, 0 to 1.
        delay: Time from a wine's measurement to its judgement.
        seed: Seed of the choice.
        batch_size: Labels in a batch.

    Returns:
        The sums.

    Raises:
        WineQualityError: If the receipts have no quality, the share or the batch size is out of
            range, or the backend refuses a batch; submitting again then harms nothing.
    """
    _check_batch_size(batch_size)
    if not 0 <= share <= 1:
        raise WineQualityError(f"The share of labelled wines must be from 0 to 1, not {share}.")
    if QUALITY not in receipts:
        raise WineQualityError(
            "The traffic has no quality, so there is no ground truth: send wines with a quality."
        )
    eligible = np.flatnonzero(receipts["acknowledged"] & receipts[QUALITY].notna())
    chosen = np.random.default_rng(seed).choice(
        eligible, size=round(share * len(eligible)), replace=False
    )
    judged = receipts.iloc[np.sort(chosen)]
    labels = pd.DataFrame(
        {
            "prediction_id": judged["prediction_id"],
            QUALITY: judged[QUALITY].astype("int64"),
            "labelled_at": judged[EVENT_TIME] + delay,
        }
    )
    new = sum(
        backend.submit_ground_truth(labels.iloc[first : first + batch_size])
        for first in range(0, len(labels), batch_size)
    )
    return GroundTruthSummary(eligible=len(eligible), submitted=len(labels), new=new)


def _send_batch(
    backend: Backend, batch: pd.DataFrame, request_id: str, source: str
) -> pd.DataFrame:
    """Send one batch: its receipts."""
    begin = time.perf_counter()
    error = None
    try:
        answer = backend.predict(
            batch[list(INPUTS)], event_time=batch[EVENT_TIME], source=source, request_id=request_id
        )[list(_ANSWER)]
        if not answer.index.equals(batch.index):
            error = f"the backend answered {len(answer)} of {len(batch)} wines"
    # A backend may be anybody's class and fail in any way; the other batches go on.
    except Exception as failure:
        error = str(failure) if isinstance(failure, WineQualityError) else repr(failure)
    latency_ms = (time.perf_counter() - begin) * 1000
    if error is not None:
        answer = pd.DataFrame(index=batch.index, columns=list(_ANSWER))
    receipts = answer.assign(
        **{EVENT_TIME: batch[EVENT_TIME]},
        latency_ms=latency_ms,
        acknowledged=error is None,
        error=error,
    ).astype(_RECEIPT_DTYPES)
    return receipts.assign(quality=batch[QUALITY]) if QUALITY in batch else receipts


def _request_id(prefix: str, number: int, batch: pd.DataFrame) -> str:
    content = pd.util.hash_pandas_object(batch[[*INPUTS, EVENT_TIME]], index=False).to_numpy()
    digest = hashlib.blake2b(content.tobytes(), digest_size=8).hexdigest()
    return f"{prefix}-{number:06d}-{digest}"


def _summary(receipts: pd.DataFrame, seconds: float) -> TrafficSummary:
    acknowledged = receipts[receipts["acknowledged"]]
    p50, p95 = (
        np.percentile(acknowledged["latency_ms"], [50, 95]).tolist()
        if len(acknowledged)
        else (None, None)
    )
    return TrafficSummary(
        sent=len(receipts),
        acknowledged=len(acknowledged),
        failed=len(receipts) - len(acknowledged),
        seconds=seconds,
        rows_per_second=len(acknowledged) / seconds,
        latency_p50_ms=p50,
        latency_p95_ms=p95,
    )


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise WineQualityError(f"batch_size must be 1 or more, not {batch_size}.")
