"""Predictions for a group of requests in one call of the model.

A forest is large and lies all over the memory: 16 wines in one call take a quarter of what they
take in 16 calls. The requests that wait together for a commit wait for that call too.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wine_quality.serving.identifiers import uuid7_batch
from wine_quality.serving.prediction_batch import PredictionBatch
from wine_quality.serving.served_model import ServedModel
from wine_quality.serving.wine_requests import Wines

TOGETHER_ROWS = 20
"""Requests of up to so many wines are predicted together with those that wait with them."""


class Asked(Protocol):
    """Wines that a model is asked about."""

    @property
    def model(self) -> ServedModel:
        """The version that is asked."""

    @property
    def wines(self) -> Wines:
        """Checked wines."""


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
    answers = iter(answer_together([b for b in batches if isinstance(b, UnpredictedBatch)]))
    for batch in batches:
        if isinstance(batch, PredictionBatch):
            results.append(batch)
            continue
        answer = next(answers)
        try:
            results.append(answer if isinstance(answer, Exception) else batch.predicted(answer))
        except Exception as error:
            results.append(error)
    return results


def answer_together(asked: Sequence[Asked]) -> list[NDArray[np.float64] | Exception]:
    """Have models answer several requests, each model in one call.

    Args:
        asked: k times some wines.

    Returns:
        k times the predicted qualities of these wines, or why there are none.
    """
    together = _predictions(asked)
    answers: list[NDArray[np.float64] | Exception] = []
    for one in asked:
        found = together.get(id(one))
        try:
            answers.append(
                one.model.predict(one.wines.types, one.wines.measurements)
                if found is None
                else found
            )
        except Exception as error:
            answers.append(error)
    return answers


def _predictions(batches: Sequence[Asked]) -> dict[int, NDArray[np.float64]]:
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
        ends = np.cumsum([len(batch.wines) for batch in asked])
        parts = np.split(answers, ends[:-1])
        found.update((id(batch), part) for batch, part in zip(asked, parts, strict=True))
    return found
