"""Sending traffic: in which batches, how fast, and what became of it."""

import hashlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
import pandas as pd
from tqdm import tqdm

from wine_quality.drift.sources import SOURCE
from wine_quality.errors import RefusedBatchError, WineQualityError
from wine_quality.system.retrying import doubling, retry
from wine_quality.traffic.backends import Backend, BackendUnavailableError
from wine_quality.traffic.planning import EVENT_TIME
from wine_quality.traffic.streams import CHUNK_ROWS, Frames, Stream, renumber
from wine_quality.wines import INPUTS, QUALITY

logger = logging.getLogger(__name__)

T = TypeVar("T")

REQUEST_ID = "request_id"
SIMULATION = "simulation"
"""The source of simulated wines in the log."""
_ANSWER = ("prediction_id", "prediction", "model_version")
_RECEIPT_DTYPES = {
    REQUEST_ID: "str",
    "prediction_id": "str",
    "prediction": "float64",
    "model_version": "str",
    EVENT_TIME: "datetime64[us, UTC]",
    "sent_at": "datetime64[us, UTC]",
    "latency_ms": "float64",
    "attempts": "int64",
    "acknowledged": "bool",
    "refused": "bool",
    "error": "str",
}
_FIRST_PAUSE, _LONGEST_PAUSE, _JITTER = 0.1, 5.0, 0.5
"""Seconds between tries, and the share of them left to chance: a service that restarts is back in
seconds, and a dead one is not asked more often than that."""


@dataclass(frozen=True)
class TrafficSummary:
    """What became of the traffic.

    Attributes:
        sent: Wines sent.
        acknowledged: Wines whose predictions the backend has logged.
        refused: Wines of batches that were refused for good.
        undelivered: Wines of batches that failed for another reason than the wines.
        retried: Wines of batches that took more than one try.
        seconds: From the first batch's start to the last one's end.
        rows_per_second: Acknowledged wines a second.
        latency_p50_ms: Median over the acknowledged wines of the time until their batch was
            answered, further tries included; None if there are none.
        latency_p95_ms: The 95th percentile of the same.
        latency_p99_ms: The 99th percentile of the same.
        last_sent: Latest event time of a wine, whatever became of it, ISO 8601; empty if there is
            none.
        error: Why batches failed, the first few reasons; empty if none did.
    """

    sent: int
    acknowledged: int
    refused: int
    undelivered: int
    retried: int
    seconds: float
    rows_per_second: float
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    last_sent: str
    error: str


class Pace:
    """Lets wines pass at most so many a second; for several threads."""

    def __init__(
        self,
        rate: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Set the pace.

        Args:
            rate: Wines a second; None: as they come.
            clock: Seconds from some moment on.
            sleep: Waits some seconds.
        """
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free = clock()

    def wait(self, wines: int) -> None:
        """Wait until so many wines may pass, and let them."""
        if self._rate is None:
            return
        with self._lock:
            turn = max(self._free, self._clock())
            self._free = turn + wines / self._rate
        self._sleep(max(0.0, turn - self._clock()))


def persist(
    action: Callable[[], T],
    patience_seconds: float,
    *,
    may_pass: Callable[[Exception], bool],
    on_pause: Callable[[Exception], object] | None = None,
) -> T:
    """Ask a backend, again and again for some seconds while it fails in a way that may pass.

    Args:
        action: What is asked.
        patience_seconds: How long further tries may begin.
        may_pass: Whether an error is worth another try.
        on_pause: Is told of an error that is followed by another try.

    Returns:
        What the action returns.

    Raises:
        Exception: The action's last error.
    """
    return retry(
        action,
        may_pass=may_pass,
        pauses=doubling(first=_FIRST_PAUSE, longest=_LONGEST_PAUSE, jitter=_JITTER),
        until=time.monotonic() + patience_seconds,
        on_pause=on_pause,
    )


def chunk_rows(batch_size: int) -> int:
    """Say how many rows a frame of traffic should have, so that only the last batch is short."""
    check_batch_size(batch_size)
    return max(1, CHUNK_ROWS // batch_size) * batch_size


def queue_traffic(
    undelivered: Frames, traffic: Frames, *, batch_size: int, request_prefix: str
) -> Iterator[pd.DataFrame]:
    """Put traffic into batches, each with a request id, behind what could not be delivered before.

    A request id is made of the prefix, the batch's number and its content, so that the same batch
    gets the same one again, and other wines under the same prefix are other requests.

    Args:
        undelivered: What an earlier run could not deliver, in its batches.
        traffic: Frames with the twelve inputs, ``event_time`` and, where known, ``quality``, of
            ``chunk_rows`` rows but for the last; and ``source`` where others than the simulation
            ask.
        batch_size: Wines in a batch, at most: each is of one source.
        request_prefix: Tells this traffic from any other; printable ASCII.

    Yields:
        Frames with ``request_id``, which equals only in a batch, and ``source``; indexed from 0 on
        through all.

    Raises:
        WineQualityError: If the batch size is below 1.
    """
    check_batch_size(batch_size)
    # what earlier versions could not deliver names no source
    before = map(_name_source, undelivered)
    named = map(_name_source, traffic)
    return renumber(itertools.chain(before, _number_batches(named, batch_size, request_prefix)))


def _name_source(frame: pd.DataFrame) -> pd.DataFrame:
    source = frame.get(SOURCE, pd.Series(None, frame.index, dtype="str"))
    return frame.assign(**{SOURCE: source.fillna(SIMULATION)})


def _number_batches(traffic: Frames, batch_size: int, prefix: str) -> Iterator[pd.DataFrame]:
    number = 0
    for unsorted in traffic:
        batch = np.arange(len(unsorted)) // batch_size
        order = np.lexsort((unsorted[SOURCE].to_numpy(), batch))
        frame = unsorted.iloc[order]
        other = (np.diff(batch) != 0) | (np.diff(pd.factorize(frame[SOURCE])[0]) != 0)
        rows = pd.util.hash_pandas_object(frame[[*INPUTS, EVENT_TIME]], index=False).to_numpy()
        ids = []
        for content in np.split(rows, np.flatnonzero(other) + 1):
            digest = hashlib.blake2b(content.tobytes(), digest_size=8).hexdigest()
            ids += [f"{prefix}-{number:06d}-{digest}"] * len(content)
            number += 1
        yield frame.assign(**{REQUEST_ID: pd.Series(ids, index=frame.index, dtype="str")})


def send(
    backend: Backend,
    traffic: Frames,
    *,
    concurrency: int = 1,
    rate: float | None = None,
    patience_seconds: float = 0.0,
) -> Iterator[pd.DataFrame]:
    """Send traffic batch by batch. A batch that fails does not stop the others.

    A backend that is away is asked again, under the same request id, which logs nothing twice.
    Once it has been away for longer than the patience, and has answered nobody meanwhile, nothing
    more is sent: the wines that are left count as undelivered.

    Args:
        backend: Where to send it; with a concurrency above 1, it is asked by several threads.
        traffic: Frames as ``queue_traffic`` gives them.
        concurrency: Batches under way at a time.
        rate: Most wines a second; None: as fast as can be.
        patience_seconds: How long a batch is tried while the backend is away.

    Yields:
        Receipts, a frame for each of the traffic's with its index: ``request_id``,
        ``prediction_id``, ``prediction``, ``model_version``, ``event_time``, ``sent_at`` and
        ``latency_ms`` (of the wine's batch), ``attempts``, ``acknowledged``, ``refused`` (for good:
        sending it again would change nothing), ``error`` (why the batch failed; missing if it did
        not) and ``quality``, where the traffic has one.
    """
    post = _Post(backend, Pace(rate), patience_seconds)
    total = traffic.rows if isinstance(traffic, Stream) else None
    # disable=None: the bar shows on a terminal only.
    with (
        ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="sender") as pool,
        tqdm(total=total, unit="wine", desc="traffic", disable=None) as bar,
    ):
        for frame in traffic:
            parts = []
            for receipt in pool.map(post.send, _batches(frame)):
                parts.append(receipt)
                bar.update(len(receipt))
            yield pd.concat(parts)


def _batches(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Cut a frame where the request id changes."""
    ids = frame[REQUEST_ID]
    starts = np.flatnonzero((ids != ids.shift()).to_numpy())
    for first, last in itertools.pairwise([*starts.tolist(), len(frame)]):
        yield frame.iloc[first:last]


class _Post:
    """Sends batches for several threads, and knows when to give up."""

    def __init__(self, backend: Backend, pace: Pace, patience_seconds: float) -> None:
        self._backend = backend
        self._pace = pace
        self._patience = patience_seconds
        self._gave_up = ""
        self._last_answer = float("-inf")
        self._told = threading.Event()

    def send(self, batch: pd.DataFrame) -> pd.DataFrame:
        """Send one batch: its receipts."""
        attempts = 0

        def ask() -> pd.DataFrame:
            nonlocal attempts
            if self._gave_up:
                raise BackendUnavailableError(self._gave_up)
            attempts += 1
            answer = self._backend.predict(
                batch[list(INPUTS)],
                event_time=batch[EVENT_TIME],
                source=batch[SOURCE].iloc[0],
                request_id=batch[REQUEST_ID].iloc[0],
            )[list(_ANSWER)]
            if not answer.index.equals(batch.index):
                raise WineQualityError(f"the backend answered {len(answer)} of {len(batch)} wines")
            self._last_answer = time.perf_counter()
            return answer

        if not self._gave_up:
            self._pace.wait(len(batch))
        sent_at, begin = datetime.now(UTC), time.perf_counter()
        error, refused = None, False
        try:
            answer = persist(ask, self._patience, may_pass=self._may_pass, on_pause=self._tell)
        # A backend may be anybody's class and fail in any way; the other batches go on.
        except Exception as failure:
            error = str(failure) if isinstance(failure, WineQualityError) else repr(failure)
            answer = pd.DataFrame(index=batch.index, columns=list(_ANSWER))
            refused = isinstance(failure, RefusedBatchError)
            # a backend that answers others meanwhile is not away
            if isinstance(failure, BackendUnavailableError) and self._last_answer < begin:
                self._gave_up = error
        latency_ms = (time.perf_counter() - begin) * 1000
        receipts = answer.assign(
            **{REQUEST_ID: batch[REQUEST_ID], EVENT_TIME: batch[EVENT_TIME]},
            sent_at=sent_at,
            latency_ms=latency_ms,
            attempts=attempts,
            acknowledged=error is None,
            refused=refused,
            error=error,
        )[list(_RECEIPT_DTYPES)].astype(_RECEIPT_DTYPES)
        return receipts.assign(**{QUALITY: batch[QUALITY]}) if QUALITY in batch else receipts

    def _may_pass(self, error: Exception) -> bool:
        return isinstance(error, BackendUnavailableError) and not self._gave_up

    def _tell(self, error: Exception) -> None:
        if not self._told.is_set():
            self._told.set()
            logger.warning("The backend is away, trying again: %s", error)


@dataclass(frozen=True)
class Batches:
    """The batches of some receipts, in their order; arrays of shape (k,).

    Attributes:
        rows: Wines.
        sent_at: When they were sent, in seconds since 1970.
        latency_ms: Milliseconds until they were answered.
        attempts: Tries.
        acknowledged: Whether they were logged.
        refused: Whether they were refused for good.
        last_event: When their last wines were measured.
        error: First few reasons for failures.
    """

    rows: np.ndarray
    sent_at: np.ndarray
    latency_ms: np.ndarray
    attempts: np.ndarray
    acknowledged: np.ndarray
    refused: np.ndarray
    last_event: pd.Series
    error: str

    @classmethod
    def of(cls, receipts: Frames) -> "Batches":
        """Sum receipts up by batch."""
        parts = [_of_batches(frame) for frame in receipts]
        table = pd.concat(parts, ignore_index=True) if parts else _of_batches(_NO_RECEIPTS)
        return cls(
            rows=table["rows"].to_numpy(),
            sent_at=table["sent_at"].astype("int64").to_numpy() / 1e6,
            latency_ms=table["latency_ms"].to_numpy(),
            attempts=table["attempts"].to_numpy(),
            acknowledged=table["acknowledged"].to_numpy(),
            refused=table["refused"].to_numpy(),
            last_event=table[EVENT_TIME],
            error="; ".join(table["error"].dropna().unique()[:3]),
        )

    def finished_at(self) -> np.ndarray:
        """When they were answered, in seconds since 1970, shape (k,)."""
        return self.sent_at + self.latency_ms / 1000


_NO_RECEIPTS = pd.DataFrame(columns=list(_RECEIPT_DTYPES)).astype(_RECEIPT_DTYPES)


def _of_batches(receipts: pd.DataFrame) -> pd.DataFrame:
    first = receipts.drop_duplicates(REQUEST_ID)
    batches = receipts.groupby(REQUEST_ID, sort=False)
    columns = ["sent_at", "latency_ms", "attempts", "acknowledged", "refused", "error"]
    last_event = batches[EVENT_TIME].max().array
    return first[columns].assign(rows=batches.size().to_numpy(), **{EVENT_TIME: last_event})


def summarise(batches: Batches) -> TrafficSummary:
    """Say what became of the traffic."""
    sent, done = int(batches.rows.sum()), batches.acknowledged
    acknowledged = int(batches.rows[done].sum())
    refused = int(batches.rows[batches.refused].sum())
    seconds = float(batches.finished_at().max() - batches.sent_at.min()) if sent else 0.0
    p50, p95, p99 = _percentiles(batches.latency_ms[done], batches.rows[done], (0.5, 0.95, 0.99))
    return TrafficSummary(
        sent=sent,
        acknowledged=acknowledged,
        refused=refused,
        undelivered=sent - acknowledged - refused,
        retried=int(batches.rows[batches.attempts > 1].sum()),
        seconds=seconds,
        rows_per_second=acknowledged / seconds if seconds else 0.0,
        latency_p50_ms=p50,
        latency_p95_ms=p95,
        latency_p99_ms=p99,
        last_sent=batches.last_event.max().isoformat() if sent else "",
        error=batches.error,
    )


def _percentiles(
    values: np.ndarray, weights: np.ndarray, shares: Iterable[float]
) -> list[float | None]:
    """The smallest values that these shares of the weights do not exceed."""
    if not values.size:
        return [None for _ in shares]
    order = np.argsort(values)
    reach = np.cumsum(weights[order])
    return [float(values[order][np.searchsorted(reach, s * reach[-1])]) for s in shares]


def not_delivered(traffic: Frames, receipts: Frames) -> Iterator[pd.DataFrame]:
    """Find the traffic that was neither acknowledged nor refused for good.

    Args:
        traffic: As it was sent.
        receipts: A frame for each of the traffic's, with its index.

    Yields:
        The rows to be sent again, in their batches.
    """
    return renumber(
        frame[~(receipt["acknowledged"] | receipt["refused"]).to_numpy()]
        for frame, receipt in zip(traffic, receipts, strict=True)
    )


def check_batch_size(batch_size: int) -> None:
    """Refuse a batch without wines.

    Raises:
        WineQualityError: If it is below 1.
    """
    if batch_size < 1:
        raise WineQualityError(f"batch_size must be 1 or more, not {batch_size}.")
