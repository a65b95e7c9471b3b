"""The predictions of one request by columns, from the request to the log."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Self
from uuid import UUID

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.errors import RefusedBatchError, WineQualityError
from wine_quality.serving.moments import Moments, utc_moment, utc_moments
from wine_quality.wines import MEASUREMENT_NAMES, TYPE

REQUEST_ID_LENGTH = 255


class RequestConflictError(RefusedBatchError):
    """A request id came back with other wines than the first time.

    Args:
        request_id: The id.
    """

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"The request id {request_id!r} was used before for other wines: give each request "
            "its own."
        )


@dataclass(frozen=True, eq=False)
class PredictionBatch:
    """The predictions of one request for n wines, at least one.

    Attributes:
        prediction_ids: n identifiers in ascending order.
        event_times: n moments with a timezone, when the wines were measured.
        received_at: When the request came, with a timezone.
        model_version: The version that answered.
        source: Who asked.
        types: n times `red` or `white`.
        measurements: Shape (n, 11) in canonical order, NaN for what is missing.
        predictions: Predicted quality, shape (n,).
        latency_ms: Milliseconds from the request's arrival until its predictions were there.
        request_id: Idempotency key of the request; without one, whatever comes is written.
    """

    prediction_ids: Sequence[UUID]
    event_times: Sequence[datetime]
    received_at: datetime
    model_version: str
    source: str
    types: Sequence[str]
    measurements: NDArray[np.float64]
    predictions: NDArray[np.float64]
    latency_ms: float
    request_id: str | None = None

    def __post_init__(self) -> None:
        """Refuse what the log could not give back.

        Raises:
            WineQualityError: If the request id is no printable ASCII text of 1 to 255 characters.
            ValueError: If there are no rows, columns of other lengths, or ids that do not ascend.
        """
        ids = self.prediction_ids
        n = len(ids)
        if not n:
            raise ValueError("a batch of predictions needs at least one row")
        if not (
            n == len(self.event_times) == len(self.types) == len(self.predictions)
            and self.measurements.shape == (n, len(MEASUREMENT_NAMES))
        ):
            raise ValueError("the columns of a batch must be equally long")
        if any(a >= b for a, b in pairwise(ids)):
            raise ValueError("the prediction ids of a batch must ascend")
        key = self.request_id
        if key is not None and not (
            0 < len(key) <= REQUEST_ID_LENGTH and key.isascii() and key.isprintable()
        ):
            raise WineQualityError(
                f"The request id {key[:40]!r} cannot be used: give 1 to {REQUEST_ID_LENGTH} "
                "printable ASCII characters."
            )

    def __len__(self) -> int:
        """How many wines."""
        return len(self.prediction_ids)

    @classmethod
    def from_frame(
        cls,
        wines: pd.DataFrame,
        predictions: NDArray[np.float64],
        *,
        prediction_ids: Sequence[UUID],
        event_time: Moments,
        received_at: datetime,
        model_version: str,
        source: str,
        latency_ms: float,
        request_id: str | None = None,
    ) -> Self:
        """Put wines and their predictions together.

        Args:
            wines: Frame with the twelve inputs, n rows; other columns are left out.
            predictions: Predicted quality, shape (n,), finite.
            prediction_ids: n identifiers in ascending order.
            event_time: When the wines were measured: one moment, or n.
            received_at: When the request came.
            model_version: The version that answered.
            source: Who asked, for example `simulation`.
            latency_ms: Milliseconds from the request's arrival until its predictions were there.
            request_id: Idempotency key of the request.

        Returns:
            A batch of n rows.

        Raises:
            WineQualityError: If a moment has no timezone, or the request id cannot be used.
        """
        return cls(
            prediction_ids=prediction_ids,
            event_times=utc_moments(event_time, len(wines), "event_time"),
            received_at=utc_moment(received_at, "received_at"),
            model_version=model_version,
            source=source,
            types=wines[TYPE].tolist(),
            measurements=measurements_of(wines),
            predictions=predictions,
            latency_ms=latency_ms,
            request_id=request_id,
        )

    def digest(self) -> bytes:
        """Fingerprint of the wines, 16 bytes: the same for the same inputs, whenever they come."""
        return digest_wines(self.types, self.measurements)


@dataclass(frozen=True)
class LoggedBatch:
    """What the log holds for a request.

    Attributes:
        prediction_ids: n identifiers, in the order of the request's wines.
        predictions: n predicted qualities.
        model_versions: n versions.
        repeated: Whether it was there before, so that nothing was written.
    """

    prediction_ids: tuple[UUID, ...]
    predictions: tuple[float, ...]
    model_versions: tuple[str, ...]
    repeated: bool

    @classmethod
    def of(cls, batch: PredictionBatch) -> Self:
        """What the log holds once a batch has been written."""
        return cls(
            tuple(batch.prediction_ids),
            tuple(batch.predictions.tolist()),
            (batch.model_version,) * len(batch),
            repeated=False,
        )


def measurements_of(wines: pd.DataFrame) -> NDArray[np.float64]:
    """The measurements of a frame of wines, shape (n, 11), NaN for what is missing."""
    return wines[list(MEASUREMENT_NAMES)].to_numpy(dtype=np.float64, na_value=np.nan)


def digest_wines(types: Sequence[str], measurements: NDArray[np.float64]) -> bytes:
    """Fingerprint of wines, 16 bytes.

    Args:
        types: n types.
        measurements: Shape (n, 11), NaN for what is missing.
    """
    # one NaN for all that is missing: not every NaN has the same bits
    known = np.where(np.isnan(measurements), math.nan, measurements).astype("<f8")
    digest = hashlib.blake2b(digest_size=16)
    for kind, row in zip(types, known, strict=True):
        digest.update(kind.encode() + row.tobytes())
    return digest.digest()
