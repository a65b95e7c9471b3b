"""Predictions for a group of requests in one call of the model.

A forest is large and lies all over the memory: 16 wines in one call take a quarter of what they
take in 16 calls. The requests that wait together for a commit wait for that call too.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.prediction_batch import PredictionBatch
from wine_quality.serving.served_model import ServedModel
from wine_quality.serving.wine_requests import Wines


@dataclass(frozen=True, slots=True)
class UnpredictedBatch:
    """The wines of one request before the model has seen them.

    Attributes:
        model: The version that answers.
        wines: Checked wines.
        received_at: When the request came, with a timezone.
        started: The same moment as `time.perf_counter()` has it.
        source: Who asks.
        request_id: Idempotency key of the request.
    """

    model: ServedModel
    wines: Wines
    received_at: datetime
    started: float
    source: str
    request_id: str | None

    def __len__(self) -> int:
        """How many wines."""
        return len(self.wines)

    def predicted(self, predictions: NDArray[np.float64]) -> PredictionBatch:
        """The batch with its predictions, shape (n,).

        Raises:
            WineQualityError: If the request id cannot be used.
        """
        return PredictionBatch(
            prediction_ids=uuid7_batch(len(self)),
            event_times=[moment or self.received_at for moment in self.wines.event_times],
            received_at=self.received_at,
            model_version=self.model.version,
            source=self.source,
            types=self.wines.types,
            measurements=self.wines.measurements,
            predictions=predictions,
            latency_ms=1000 * (time.perf_counter() - self.started),
            request_id=self.request_id,
        )

    def predict(self) -> PredictionBatch:
        """Have the model answer these wines alone.

        Raises:
            BrokenVersionError: If it does not answer.
            WineQualityError: If the request id cannot be used.
        """
        return self.predicted(self.model.predict(self.wines.types, self.wines.measurements))


def predict_together(
    batches: Sequence[PredictionBatch | UnpredictedBatch],
) -> list[PredictionBatch | Exception]:
    """Have the model answer what has not been answered yet.

    Args:
        batches: k requests.

    Returns:
        k batches with predictions, or why there are none: one request's fault is not the others'.
    """
    results: list[PredictionBatch | Exception] = []
    predictions = _predictions([b for b in batches if isinstance(b, UnpredictedBatch)])
    for batch in batches:
        if isinstance(batch, PredictionBatch):
            results.append(batch)
            continue
        try:
            found = predictions.get(id(batch))
            results.append(batch.predict() if found is None else batch.predicted(found))
        except Exception as error:
            results.append(error)
    return results


def _predictions(batches: Sequence[UnpredictedBatch]) -> dict[int, NDArray[np.float64]]:
    """Predictions by identity of the batch; none for those that have to be asked for alone."""
    found: dict[int, NDArray[np.float64]] = {}
    for model in {id(batch.model): batch.model for batch in batches}.values():
        asked = [batch for batch in batches if batch.model is model]
        if len(asked) == 1:
            continue
        types = [kind for batch in asked for kind in batch.wines.types]
        measurements = np.concatenate([batch.wines.measurements for batch in asked])
        try:
            answers = model.predict(types, measurements)
        except Exception:  # noqa: S112
            # whose fault it is shows when each is asked for alone
            continue
        ends = np.cumsum([len(batch) for batch in asked])
        parts = np.split(answers, ends[:-1])
        found.update((id(batch), part) for batch, part in zip(asked, parts, strict=True))
    return found
