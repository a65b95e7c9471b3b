"""What the service says of itself: metrics for Prometheus, log lines as JSON."""

import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

import orjson
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

from wine_quality.serving.challenger_thread import Fate
from wine_quality.serving.log_queue import Commit
from wine_quality.serving.model_watcher import ModelEvent
from wine_quality.serving.settings import MULTIPROCESS_FOLDER

LATENCY_BUCKETS = (
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5
)  # fmt: skip
ROW_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Metrics:
    """The service's metrics.

    With several workers, the folder named by `PROMETHEUS_MULTIPROC_DIR` holds the figures of all,
    and whichever worker is asked answers for all of them.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._shared = bool(os.environ.get(MULTIPROCESS_FOLDER))
        make: dict[str, Any] = {"registry": self.registry}
        self._requests = Counter(
            "wine_quality_requests", "Requests answered", ["route", "status"], **make
        )
        self._latency = Histogram(
            "wine_quality_request_seconds",
            "Seconds from a request's arrival to its answer, the log's commit included",
            ["route"],
            buckets=LATENCY_BUCKETS,
            **make,
        )
        self._predictions = Counter(
            "wine_quality_predictions", "Wines predicted and logged", ["model_version"], **make
        )
        self._implausible = Counter(
            "wine_quality_implausible_values", "Measurements outside of the plausible range",
            ["column"], **make,
        )  # fmt: skip
        self._labels = Counter("wine_quality_labels", "New labels written", **make)
        self._commit_rows = Histogram(
            "wine_quality_commit_rows", "Wines in one commit of the inference log",
            buckets=ROW_BUCKETS, **make,
        )  # fmt: skip
        self._commit_seconds = Histogram(
            "wine_quality_commit_seconds", "Seconds of one commit", buckets=LATENCY_BUCKETS, **make
        )
        self.waiting = Gauge(
            "wine_quality_queue_rows", "Wines that wait for the inference log",
            multiprocess_mode="livesum", **make,
        )  # fmt: skip
        self._model_events = Counter(
            "wine_quality_model_events", "Model versions loaded, refused or withdrawn",
            ["alias", "kind"], **make,
        )  # fmt: skip
        self._refused = Gauge(
            "wine_quality_model_refused", "1 while an alias names a version that must not answer",
            ["alias"], multiprocess_mode="livemax", **make,
        )  # fmt: skip
        self._shadowed = Counter(
            "wine_quality_shadow_wines", "Wines whose shadow answers were written, dropped, failed",
            ["fate"], **make,
        )  # fmt: skip
        self._canary_fallbacks = Counter(
            "wine_quality_canary_fallbacks",
            "Requests of the challenger's share that the champion answered in its place", **make,
        )  # fmt: skip
        self._children: dict[tuple[str, int], tuple[Any, Any]] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        children = self._children.get((route, status))
        if children is None:
            children = (
                self._requests.labels(route, str(status)),
                self._latency.labels(route),
            )
            self._children[route, status] = children
        children[0].inc()
        children[1].observe(seconds)

    def predicted(self, model_version: str, n: int) -> None:
        """Count wines predicted and logged."""
        self._predictions.labels(model_version).inc(n)

    def implausible(self, column: str) -> None:
        """Count an implausible measurement."""
        self._implausible.labels(column).inc()

    def labelled(self, n: int) -> None:
        """Count new labels."""
        self._labels.inc(n)

    def committed(self, commit: Commit) -> None:
        """Count a commit."""
        self._commit_rows.observe(commit.rows)
        self._commit_seconds.observe(commit.seconds)

    def model_event(self, alias: str, event: ModelEvent) -> None:
        """Count something that happened to the version of an alias."""
        self._model_events.labels(alias, event.kind).inc()
        self._refused.labels(alias).set(event.kind == "refused")

    def shadowed(self, fate: Fate, n: int) -> None:
        """Count wines that were to have shadow answers, by what became of them."""
        self._shadowed.labels(fate).inc(n)

    def canary_fell_back(self) -> None:
        """Count a request that the champion answered in the challenger's place."""
        self._canary_fallbacks.inc()

    def gather(self) -> CollectorRegistry:
        """The figures, of all workers where there are several."""
        if not self._shared:
            return self.registry
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return together

    def exposition(self) -> bytes:
        """The figures as Prometheus reads them."""
        return generate_latest(self.gather())


class JsonFormatter(logging.Formatter):
    """One JSON object a line; `extra=` becomes keys of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{k: v for k, v in vars(record).items() if k not in _STANDARD},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        line.pop("color_message", None)
        return orjson.dumps(line, default=str).decode()


def log_as_json(level: int = logging.INFO) -> None:
    """Have this process write its log lines as JSON to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in ("alembic", "mlflow", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
