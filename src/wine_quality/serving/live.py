"""The live page's figures: what happens now, held against the reference.

Whichever worker is asked gives the same answer: rows come from the inference log, counts of
requests from the figures that all workers share. Both only ever grow, so that the page makes rates
and percentiles of the differences between two answers, and no worker has to remember anything.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from wine_quality.drift.performance import judge_performance
from wine_quality.drift.profiles import window_profile
from wine_quality.drift.reference import ALL, Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import decide
from wine_quality.drift.vocabulary import count_of
from wine_quality.errors import WineQualityError
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.served_model import ServedModel
from wine_quality.serving.telemetry import Metrics
from wine_quality.wines import MEASUREMENTS, PREDICTION, QUALITY, QUALITY_BOUNDS

logger = logging.getLogger(__name__)

RECENT = timedelta(minutes=10)
SIZES = (50, 100, 200, 500, 1_000, 2_000, 5_000)
"""Drift is judged on so many of the newest wines: each size has a threshold of its own, which
costs a fraction of a second to calibrate once."""
ROLLING_LABELS = 100
LABELS_READ = 2_000
POINTS = 120
REFRESH_S = 0.9
DRIFT_REFRESH_S = 3.0
_EDGES = np.linspace(*QUALITY_BOUNDS, 41)
_UNITS = {m.name: m.unit for m in MEASUREMENTS}


@dataclass(frozen=True)
class _Expected:
    """What one version's held-out wines lead to expect."""

    version: str
    reference: Reference
    shares: list[float]
    mae: float


class LiveView:
    """Figures for the live page, computed at most once a second and while somebody looks.

    Args:
        log: The inference log.
        metrics: The service's metrics.
        no_traffic: Routes whose requests are not counted, for pages and probes ask without end.
        settings: False-alarm rate and floors of the drift verdicts.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        log: InferenceLog,
        metrics: Metrics,
        no_traffic: Collection[str] = (),
        settings: DriftSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._metrics = metrics
        self._no_traffic = no_traffic
        self._settings = settings or DriftSettings.model_validate({})
        self._clock = clock
        self._lock = asyncio.Lock()
        self._made_at = self._judged_at = -np.inf
        self._data: dict[str, Any] = {}
        self._judged: dict[str, Any] = {}
        self._judged_versions: tuple[str | None, str | None] = (None, None)
        self._expected: _Expected | None = None

    async def data(
        self, model: ServedModel | None, challenger: str | None = None
    ) -> dict[str, Any]:
        """The figures; somebody who asks again within a second gets the same.

        Args:
            model: The version that answers, or None if there is none.
            challenger: The version that answers beside it, if there is one.
        """
        async with self._lock:
            versions = (model.version if model else None, challenger)
            if self._clock() - self._made_at >= REFRESH_S or versions != self._judged_versions:
                self._data = await asyncio.to_thread(self._make, model, challenger)
                self._made_at = self._clock()
            return self._data

    def _make(self, model: ServedModel | None, challenger: str | None) -> dict[str, Any]:
        versions = (model.version if model else None, challenger)
        if self._clock() - self._judged_at >= DRIFT_REFRESH_S or versions != self._judged_versions:
            try:
                self._judged = {"log_trouble": "", **self._judge(model, challenger)}
            except WineQualityError:
                self._judged = {**self._judged, "log_trouble": "The log cannot be read now."}
            self._judged_at, self._judged_versions = self._clock(), versions
        return {
            "at": datetime.now(UTC),
            "monotonic": time.monotonic(),
            "counters": self._counters(),
            **self._judged,
        }

    def _counters(self) -> dict[str, Any]:
        """Counts that only grow, over all workers."""
        requests: dict[str, float] = {}
        buckets: dict[float, float] = {}
        shadow: dict[str, float] = {}
        predictions = canary_fallbacks = 0.0
        for family in self._metrics.gather().collect():
            for sample in family.samples:
                labels = sample.labels
                if sample.name == "wine_quality_requests_total":
                    if labels["route"] not in self._no_traffic:
                        status = labels["status"]
                        requests[status] = requests.get(status, 0) + sample.value
                elif sample.name == "wine_quality_predictions_total":
                    predictions += sample.value
                elif sample.name == "wine_quality_shadow_wines_total":
                    shadow[labels["fate"]] = shadow.get(labels["fate"], 0) + sample.value
                elif sample.name == "wine_quality_canary_fallbacks_total":
                    canary_fallbacks += sample.value
                elif (
                    sample.name == "wine_quality_request_seconds_bucket"
                    and labels["route"] == "/predict"
                ):
                    bound = float(labels["le"])
                    buckets[bound] = buckets.get(bound, 0) + sample.value
        bounds = sorted(buckets)
        return {
            "requests": requests,
            "predictions": predictions,
            "shadow": shadow,
            "canary_fallbacks": canary_fallbacks,
            # JSON knows no infinity
            "latency_bounds_ms": [1000 * b if np.isfinite(b) else None for b in bounds],
            "latency_counts": [buckets[b] for b in bounds],
        }

    def _judge(self, model: ServedModel | None, challenger: str | None) -> dict[str, Any]:
        rows = self._log.newest(datetime.now(UTC) - RECENT, SIZES[-1], challenger)
        labelled = self._log.newest_labelled(LABELS_READ, challenger)
        judged: dict[str, Any] = {
            "minutes": RECENT.total_seconds() / 60,
            "versions": _versions(rows),
            "false_alarm_rate": self._settings.false_alarm_rate,
        }
        if model is None:
            return judged
        rows = rows[rows["model_version"] == model.version]
        labelled = labelled[labelled["model_version"] == model.version]
        expected = self._expect(model)
        return {
            **judged,
            "predictions": _distribution(rows[PREDICTION], expected),
            "drift": self._drift(rows, expected),
            "error": self._error(labelled, expected),
            "pairs": _pairs(rows, labelled) if challenger is not None else None,
        }

    def _expect(self, model: ServedModel) -> _Expected | None:
        if model.reference is None:
            return None
        if self._expected is None or self._expected.version != model.version:
            wines = model.reference
            self._expected = _Expected(
                model.version,
                Reference.from_wines(wines),
                _shares(wines[PREDICTION]),
                float((wines[PREDICTION] - wines[QUALITY]).abs().mean()),
            )
        return self._expected

    def _drift(self, rows: pd.DataFrame, expected: _Expected | None) -> dict[str, Any]:
        n = max((size for size in SIZES if size <= len(rows)), default=0)
        if expected is None or not n:
            why = f"{count_of(len(rows), 'wine')}, fewer than {SIZES[0]}"
            return {"n": 0, "reason": why if expected else "the version has no reference"}
        newest = rows.tail(n)
        profile = window_profile(newest, expected.reference)
        judged = profile, profile.starts, expected.reference, expected.version, self._settings
        verdicts = decide(*judged)
        return {
            "n": n,
            "reason": "",
            "since": newest["received_at"].iloc[0].to_pydatetime(),
            "columns": [
                {
                    "column": v["column"],
                    "unit": _UNITS.get(v["column"], ""),
                    "verdict": v["verdict"],
                    "value": _plain(v["value"]),
                    "threshold": _plain(v["threshold"]),
                    "reason": v["reason"],
                }
                for v in verdicts.to_dict("records")
            ],
        }

    def _error(self, labelled: pd.DataFrame, expected: _Expected | None) -> dict[str, Any]:
        n = len(labelled)
        if not n:
            return {"n": 0, "reason": "no ground truth yet"}
        absolute = (labelled[PREDICTION] - labelled[QUALITY]).abs()
        width = min(ROLLING_LABELS, n)
        rolling = absolute.rolling(width).mean().dropna().to_numpy()
        chosen = np.unique(np.linspace(0, len(rolling) - 1, min(POINTS, len(rolling))).astype(int))
        error: dict[str, Any] = {
            "n": n,
            "width": width,
            "mae": rolling[chosen].tolist(),
            "reference_mae": expected.mae if expected else None,
            "verdict": "insufficient_data",
            "reason": "",
        }
        size = max((size for size in SIZES if size <= n), default=0)
        if expected is not None and size:
            profile = window_profile(labelled.tail(size), expected.reference)
            judged = profile, profile.starts, expected.reference, expected.version, self._settings
            verdicts = judge_performance(*judged)
            whole = verdicts[verdicts["segment"] == ALL].iloc[0]
            error |= {"verdict": whole["verdict"], "reason": whole["reason"], "judged": size}
        return error


def _versions(rows: pd.DataFrame) -> list[Mapping[str, Any]]:
    """Which versions answered the newest wines, in the order of their first answer."""
    return [
        {
            "version": str(version),
            "n": len(moments),
            "first": moments.iloc[0].to_pydatetime(),
            "last": moments.iloc[-1].to_pydatetime(),
        }
        for version, moments in rows.groupby("model_version", sort=False)["received_at"]
    ]


def _pairs(rows: pd.DataFrame, labelled: pd.DataFrame) -> dict[str, Any]:
    """What the challenger says beside the version that answers, of the same wines."""
    seen = rows.dropna(subset=["shadow_prediction"])
    judged = labelled.dropna(subset=["shadow_prediction"])
    difference = seen["shadow_prediction"] - seen[PREDICTION]
    return {
        "n": len(seen),
        "mean_difference": _plain(difference.mean()),
        "mean_distance": _plain(difference.abs().mean()),
        "labelled": len(judged),
        "mae": _plain((judged[PREDICTION] - judged[QUALITY]).abs().mean()),
        "challenger_mae": _plain((judged["shadow_prediction"] - judged[QUALITY]).abs().mean()),
    }


def _shares(predictions: pd.Series) -> list[float]:
    """Share of predictions in each bin; what lies outside is counted in the first and last."""
    values = predictions.to_numpy(dtype=np.float64)
    values = values[np.isfinite(values)]
    counts, _ = np.histogram(np.clip(values, _EDGES[0], _EDGES[-1]), _EDGES)
    shares: list[float] = (counts / max(len(values), 1)).tolist()
    return shares


def _distribution(predictions: pd.Series, expected: _Expected | None) -> dict[str, Any]:
    return {
        "n": len(predictions),
        "edges": _EDGES.tolist(),
        "now": _shares(predictions),
        "reference": expected.shares if expected else None,
    }


def _plain(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None
