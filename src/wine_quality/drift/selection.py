"""Are the labelled wines like the others? The error on a selection says nothing of the rest.

Complaints alone, or the extremes alone, have larger errors than all wines although the model is
what it was. A selection by quality shows in the predictions, since these follow it: they are
compared between a window's labelled wines and all of them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from wine_quality.drift.calibration import reference_counts, select
from wine_quality.drift.evidence import level_and_spread
from wine_quality.drift.profiles import Profile, judged_counts
from wine_quality.drift.reference import ALL, COUNTED_SEGMENTS, SEGMENTS, Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import estimate_repetition
from wine_quality.drift.vocabulary import count_of
from wine_quality.drift.windows import PRECEDING, window_of
from wine_quality.wines import PREDICTION

RATE_SHARE = 0.1
"""Share of the false-alarm rate at which labels that are no selection are taken for one: such a
window is not judged for its errors."""
LEAST_DIFFERENCE = 0.1
"""Standard deviations of the predictions' ranks: labels that differ by less may be judged."""
_ASPECTS = (("higher", "lower"), ("more extreme", "nearer to the middle"))


@dataclass(frozen=True)
class Selection:
    """How the predictions of labelled wines differ from those of all wines of a window.

    Arrays have the shape (windows, segments, aspects), segments as in `SEGMENTS`; aspects are the
    level and the spread of the predictions' ranks.

    Attributes:
        score: The difference in standard errors, of the window alone or together with those before,
            whichever is farther from zero; 0 where nothing is known.
        difference: In standard deviations, of the window alone.
        limit: What a score has to exceed.
    """

    score: NDArray[np.float64]
    difference: NDArray[np.float64]
    limit: float

    @property
    def is_selected(self) -> NDArray[np.bool_]:
        """Where labels are a selection, shape (windows, segments)."""
        return np.asarray(self._beyond.any(axis=-1))

    @property
    def _beyond(self) -> NDArray[np.bool_]:
        # the windows before may only confirm what shows in the window itself
        shows = np.abs(self.difference) >= LEAST_DIFFERENCE
        return shows & (self.score * np.sign(self.difference) > self.limit)

    def describe(self, window: int, segment: str, labelled: int) -> str:
        """Say how a window's labelled wines differ from the others."""
        k = SEGMENTS.index(segment)
        aspect = int(np.where(self._beyond, np.abs(self.score), -1)[window, k].argmax())
        score = float(self.score[window, k, aspect])
        higher, lower = _ASPECTS[aspect]
        one = labelled == 1
        return (
            f"the labels are a selection: the predictions of the {count_of(labelled, 'wine')} that "
            f"{'has' if one else 'have'} one are {higher if score > 0 else lower} than those of "
            f"all (score {abs(score):.1f} exceeds {self.limit:.1f}), so the error says nothing of "
            "the others"
        )


def find_selection(windows: Profile, reference: Reference, settings: DriftSettings) -> Selection:
    """Compare the labelled wines of each window with all of them.

    If labels are given whatever the prediction is, the sum of a score over the n labelled of N
    wines has the mean n m and the variance n (N - n) / (N - 1) s², with the mean m and the variance
    s² of the score over all N (sampling without replacement); copies make it larger. Sums, and
    variances, of the `PRECEDING` newest windows add up, which finds a selection that is too small
    to show in any of them alone.

    Args:
        windows: Counts by window.
        reference: Says how predictions are divided, and which ranks they have.
        settings: Has the false-alarm rate.
    """
    by_segment, buckets = windows.dense(reference)
    worth = estimate_repetition(buckets, reference).worth
    place = reference.cells[PREDICTION]
    layout = reference.sums_layout
    of_labelled = windows.sums[:, layout.by_prediction].reshape(
        len(windows), by_segment.shape[1], layout.predictions
    )
    shape = (len(windows), len(SEGMENTS), len(_ASPECTS))
    excess, variance, difference = (np.zeros(shape) for _ in range(3))
    for s, segment in enumerate(SEGMENTS):
        wines = judged_counts(select(by_segment, segment)[:, place]).astype(float)
        labelled = _select(of_labelled, segment)
        # hours that an earlier edition counted do not say
        labelled = np.where(np.isnan(labelled).any(axis=1, keepdims=True), 0.0, labelled)
        total, n = wines.sum(axis=1), labelled.sum(axis=1)
        usual = reference_counts(reference, segment, PREDICTION)
        if not usual.sum():
            usual = reference_counts(reference, ALL, PREDICTION)
        for a, values in enumerate(level_and_spread(usual.tolist())):
            if values is None:
                continue
            some = np.maximum(total, 1)
            mean = wines @ values / some
            spread = np.maximum(wines @ values**2 / some - mean**2, 0)
            excess[:, s, a] = labelled @ values - n * mean
            variance[:, s, a] = worth * spread * n * (total - n) / np.maximum(total - 1, 1)
            scale = n * np.sqrt(spread)
            difference[:, s, a] = np.divide(
                excess[:, s, a], scale, out=np.zeros_like(scale), where=scale > 0
            )
    rate = RATE_SHARE * settings.false_alarm_rate / (4 * len(SEGMENTS) * len(_ASPECTS))
    limit = float(-ndtri(rate))
    score = _score(excess, variance)
    # a window that shows it alone speaks for itself, and not against those after it
    alone = Selection(score, difference, limit).is_selected[..., None]
    together = _score(_newest(np.where(alone, 0, excess)), _newest(np.where(alone, 0, variance)))
    farther = ~alone & (np.abs(together) > np.abs(score))
    return Selection(np.where(farther, together, score), difference, limit)


def selected_hours(
    hours: Profile, reference: Reference, settings: DriftSettings
) -> NDArray[np.bool_]:
    """Tell which hours lie in windows whose labels are a selection, shape (hours, segments)."""
    window = window_of(hours.starts, settings)
    windows = hours.regroup(window)
    found = find_selection(windows, reference, settings).is_selected
    return np.asarray(found[np.searchsorted(windows.starts, window)])


def _select(labelled: NDArray[np.float64], segment: str) -> NDArray[np.float64]:
    if segment == ALL:
        return np.asarray(labelled.sum(axis=1))
    return np.asarray(labelled[:, COUNTED_SEGMENTS.index(segment)])


def _newest(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over each window and those before it, `PRECEDING` in all."""
    sums = np.cumsum(table, axis=0)
    before = np.zeros_like(sums)
    before[PRECEDING:] = sums[:-PRECEDING]
    return sums - before


def _score(excess: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(excess, np.sqrt(variance), out=np.zeros_like(excess), where=variance > 1e-9)
