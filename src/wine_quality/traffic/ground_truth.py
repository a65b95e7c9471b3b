"""Ground truth: what tasters say of wines that were predicted; some of it, later, not in order."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np
import pandas as pd
from pydantic import Field

from wine_quality.errors import WineQualityError
from wine_quality.parameters import Parameters
from wine_quality.serving.labels import UnknownPredictionsError
from wine_quality.traffic.backends import Backend, BackendUnavailableError
from wine_quality.traffic.planning import EVENT_TIME
from wine_quality.traffic.sender import check_batch_size, persist
from wine_quality.traffic.streams import Frames, RowDice
from wine_quality.wines import QUALITY, QUALITY_BOUNDS, QUALITY_DTYPE, QUALITY_STEP

logger = logging.getLogger(__name__)

LABELLED_AT = "labelled_at"
_MICROSECONDS_AN_HOUR = 3_600_000_000


class GroundTruthParameters(Parameters):
    """What becomes known of the wines' quality."""

    share: float = Field(default=1.0, ge=0, le=1, description="Share of the wines that are judged")
    delay_hours: float = Field(
        default=48.0, ge=0, le=24 * 366, description="From a wine's measurement to its label"
    )
    delay_spread_hours: float = Field(
        default=0.0,
        ge=0,
        le=24 * 366,
        description="The delay is up to this much shorter or longer, but never below 0",
    )
    error_share: float = Field(
        default=0.0, ge=0, le=1, description="Share of the labels that are off by one point"
    )
    repeated_share: float = Field(
        default=0.0, ge=0, le=1, description="Share of the labels that are handed in twice"
    )
    shuffled: bool = Field(default=False, description="Whether they are handed in out of order")
    hold_back: bool = Field(
        default=False,
        description="Whether labels that are not due by the end of the simulated period wait for "
        "a later run",
    )


@dataclass(frozen=True)
class LabelDelivery:
    """What became of labels.

    Attributes:
        due: Labels that were to be handed in.
        submitted: Labels that were, repeated ones included.
        new: Labels that were not there before.
        held_back: Labels that are not due yet.
        unknown: Labels that were set aside, because their predictions are not in the log.
    """

    due: int
    submitted: int
    new: int
    held_back: int
    unknown: int


def judge_wines(
    receipts: Frames, parameters: GroundTruthParameters, seed: int
) -> Iterator[pd.DataFrame]:
    """Let tasters judge the wines that were acknowledged.

    Args:
        receipts: As ``send`` gave them, with ``quality``, indexed from 0 on.
        parameters: How many are judged, when and how well.
        seed: Seed of whatever is left to chance.

    Yields:
        For each frame its labels in the order in which they are handed in: ``prediction_id``,
        ``quality``, ``labelled_at``. Which wines are judged, and how, does not depend on the
        frames; out of order they are within a frame.

    Raises:
        WineQualityError: If the receipts have no quality.
    """
    for frame in receipts:
        if QUALITY not in frame:
            raise WineQualityError(
                "The traffic has no quality, so there is no ground truth: send wines with a "
                "quality."
            )
        dice = RowDice.of(frame, seed, "ground truth")
        judged = (
            frame["acknowledged"]
            & frame[QUALITY].notna()
            & (dice.throw("judged") < parameters.share)
        ).to_numpy()
        hours = parameters.delay_hours + parameters.delay_spread_hours * (
            2 * dice.throw("delay") - 1
        )
        delay = pd.to_timedelta((hours.clip(0) * _MICROSECONDS_AN_HOUR).astype("int64"), unit="us")
        labels = pd.DataFrame(
            {
                "prediction_id": frame["prediction_id"],
                QUALITY: _mistaken(frame[QUALITY].fillna(0), parameters, dice),
                LABELLED_AT: frame[EVENT_TIME] + delay,
            }
        )
        times = 1 + (dice.throw("repeated") < parameters.repeated_share)
        places = np.repeat(np.arange(len(frame)), times * judged)
        if parameters.shuffled:
            # a label that comes twice does not come twice in a row
            order = np.concatenate([dice.throw("turn"), dice.throw("second turn")])
            second = np.r_[False, places[1:] == places[:-1]]
            places = places[np.argsort(order[places + len(frame) * second])]
        yield labels.iloc[places].reset_index(drop=True)


def _mistaken(quality: pd.Series, parameters: GroundTruthParameters, dice: RowDice) -> pd.Series:
    """Quality as the tasters say it: some are off by a point, inwards at the ends of the scale."""
    low, high = QUALITY_BOUNDS
    off = QUALITY_STEP * np.where(dice.throw("side") < 0.5, -1, 1)
    off = np.where(
        quality + off < low, QUALITY_STEP, np.where(quality + off > high, -QUALITY_STEP, off)
    )
    wrong = dice.throw("wrong") < parameters.error_share
    return pd.Series(quality.to_numpy() + off * wrong, index=quality.index, dtype=QUALITY_DTYPE)


def submit_labels(
    backend: Backend,
    labels: Frames,
    *,
    until: datetime | None,
    batch_size: int,
    patience_seconds: float,
) -> LabelDelivery:
    """Hand in labels, those that are due, in their order, until one batch of them fails.

    Labels of predictions that the backend does not know are set aside, with a warning. After any
    other failure the labels that are left are not handed in, with a warning that says why.

    Args:
        backend: Where to hand them in.
        labels: Frames with ``prediction_id``, ``quality`` and ``labelled_at``.
        until: The simulated present, after which no label is due yet; None: all are.
        batch_size: Labels in a batch.
        patience_seconds: How long a backend that is away is asked again.

    Returns:
        The sums; ``left_over`` finds what was not handed in.

    Raises:
        WineQualityError: If the batch size is out of range.
    """
    check_batch_size(batch_size)
    due = submitted = new = held_back = unknown = 0
    failure: Exception | None = None
    for frame in labels:
        ready = frame[_is_due(frame, until)]
        due += len(ready)
        held_back += len(frame) - len(ready)
        for first in range(0, len(ready), batch_size):
            if failure:
                break
            batch = ready.iloc[first : first + batch_size]
            try:
                known, fresh = _hand_in(backend, batch, patience_seconds)
            # A backend may be anybody's class and fail in any way; no label may be lost by it.
            except Exception as error:
                failure = error
            else:
                submitted, new = submitted + known, new + fresh
                unknown += len(batch) - known
    if unknown:
        logger.warning(
            "%d of %d labels are set aside: their predictions are not in the inference log. See "
            "whether it is the one that the wines were logged in.",
            unknown,
            due,
        )
    if failure:
        kept = due - submitted - unknown
        reason = str(failure) if isinstance(failure, WineQualityError) else repr(failure)
        logger.warning("%d of %d labels are kept for a later run: %s", kept, due, reason)
    return LabelDelivery(due, submitted, new, held_back, unknown)


def _hand_in(backend: Backend, batch: pd.DataFrame, patience_seconds: float) -> tuple[int, int]:
    """Hand in labels without those of unknown predictions: how many that were, and how many new."""
    known = batch
    while True:
        try:
            new = persist(
                partial(backend.submit_ground_truth, known),
                patience_seconds,
                may_pass=lambda error: isinstance(error, BackendUnavailableError),
            )
        except UnknownPredictionsError as error:
            # a backend that cuts the batch up may name those of a part at a time
            rest = known[~known["prediction_id"].isin(error.names)]
            if len(rest) == len(known):
                raise
            known = rest
        else:
            return len(known), new


def left_over(labels: Frames, until: datetime | None, done: int) -> Iterator[pd.DataFrame]:
    """Find the labels that were not handed in.

    Args:
        labels: As ``submit_labels`` was given them.
        until: As it was given it.
        done: How many it handed in or set aside.

    Yields:
        The labels that are not due, and those that could not be handed in.
    """
    handed_in = 0
    for frame in labels:
        due = _is_due(frame, until)
        rank = handed_in + due.cumsum()
        yield frame[~due | (rank > done)].reset_index(drop=True)
        handed_in += int(due.sum())


def _is_due(labels: pd.DataFrame, until: datetime | None) -> pd.Series:
    if until is None:
        return pd.Series(data=True, index=labels.index)
    return labels[LABELLED_AT] <= until
