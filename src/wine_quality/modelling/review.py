"""Whether a promotion turned out well: the champion before answers the first labels as well."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.modelling.contenders import (
    WINE,
    Contender,
    different_environments,
    find_contender,
    replay,
)
from wine_quality.modelling.loading import BrokenVersionError
from wine_quality.modelling.metrics import paired_bootstrap
from wine_quality.modelling.promotion import LOSSES, Metric, losses
from wine_quality.modelling.registry import (
    CHAMPION,
    REVIEW_TAG,
    UNDOING,
    UNDONE,
    ChampionChangedError,
    ModelRegistry,
    RegisteredVersion,
)

LOOKS = (200, 400, 600, 800, 1000)
"""Numbers of labelled wines, the first ones, at which a promotion is reviewed."""
UNDONE_IN_VAIN = 0.05
"""Bound of the chance that a promotion is undone though both models are equally good.

Shared out between the looks, so that it holds however the looks depend on each other (Bonferroni).
"""


@dataclass(frozen=True)
class Review:
    """What became of the newest promotion.

    Attributes:
        champion: The version that was promoted; None without a champion.
        former: The champion before it; None without one.
        labels: Distinct labelled wines that both answered and were judged by; 0: none yet.
        undone: Whether the former champion is champion again.
        reason: Why, in words.
    """

    champion: str | None
    former: str | None
    labels: int
    undone: bool
    reason: str


def review_promotion(
    registry: ModelRegistry, traffic: pd.DataFrame, time_column: str, seed: int, metric: Metric
) -> Review:
    """Undo the newest promotion where the champion before would have answered better.

    The former champion answers what the champion answered in the log, in the order of time and each
    wine once. At each of `LOOKS`, and once at each, the two are compared by paired bootstrap; the
    former one comes back where its mean loss is lower with a confidence that bounds all looks
    together. The version's tag `REVIEW_TAG` says how far its review is: a number of labels, `kept`
    after the last look, `undoing` from the moment at which a promotion is to be undone, and
    `undone`, also where a person promotes it again. A review that was interrupted while it undid a
    promotion goes on; `end_review` is called when the message was sent.

    Args:
        registry: The registry.
        traffic: Labelled predictions, see `contenders.replay`.
        time_column: The column with their moment.
        seed: Seed of the bootstrap.
        metric: `rmse` compares squared errors, `mae` absolute ones.
    """
    interrupted = registry.tagged(REVIEW_TAG, UNDOING)
    if interrupted:
        return _go_on(registry, interrupted[-1])
    champion = find_contender(registry)
    if champion is None:
        return Review(None, None, 0, False, "there is no champion")
    present, tags = champion.version.version, champion.version.tags
    former = _former(registry)
    if former is None:
        return Review(present, None, 0, False, f"version {present} has no champion before it")

    def found(reason: str, labels: int = 0, undone: bool = False) -> Review:
        return Review(present, former.version.version, labels, undone, reason)

    reviewed = tags.get(REVIEW_TAG, "0")
    if not reviewed.isdigit():
        return found(f"the review of version {present} is over ({reviewed})")
    obstacle = different_environments(champion, former)
    if obstacle:
        return found(obstacle)
    try:
        rows = replay(traffic, former, champion)
    except BrokenVersionError as error:
        return found(str(error))
    rows = rows.sort_values(time_column, kind="stable").drop_duplicates(WINE)
    look = max((n for n in LOOKS if n <= len(rows)), default=0)
    if look <= int(reviewed):
        needed = min(n for n in LOOKS if n > int(reviewed))
        return found(f"{len(rows)} of the {needed} labels that the next look needs")
    of_former, of_champion = losses(rows.iloc[:look], metric)
    gain, low = compare(of_former, of_champion, seed)
    words = (
        f"mean {LOSSES[metric][0]} error {of_champion.mean():.4f} of version {present} against "
        f"{of_former.mean():.4f} of version {former.version.version} on its first {look:,} "
        f"labels, which neither was fitted on; difference {gain:+.4f}, at least {low:+.4f} with "
        "99 %"
    )
    # an answer that is no number makes the bound none, and undoes nothing
    if not low > 0:
        registry.note_review(champion.version, "kept" if look == LOOKS[-1] else str(look))
        return found(words, look)
    try:
        registry.take_back(champion.version, former.version)
    except ChampionChangedError as error:
        return found(str(error), look)
    return found(f"the promotion of version {present} is undone: {words}", look, undone=True)


def _go_on(registry: ModelRegistry, version: RegisteredVersion) -> Review:
    """Undo the promotion of a version that was found to be a mistake before."""
    number, former = version.version, registry.former_champions()
    reason = f"the promotion of version {number} is undone: a run that was interrupted found so"
    present = registry.version(CHAMPION)
    if not version.is_same_as(present):
        return Review(number, present.version if present else None, 0, True, reason)
    before = registry.version(former[-1]) if former else None
    if before is None:
        registry.note_review(version, UNDONE)
        return Review(number, None, 0, False, f"version {number} has no champion before it")
    try:
        registry.take_back(version, before)
    except ChampionChangedError as error:
        return Review(number, before.version, 0, False, str(error))
    return Review(number, before.version, 0, True, reason)


def end_review(registry: ModelRegistry, review: Review) -> None:
    """Note that all was done about a promotion that was undone."""
    version = registry.version(str(review.champion)) if review.undone else None
    if version is not None:
        registry.note_review(version, UNDONE)


def compare(
    of_former: NDArray[np.float64], of_champion: NDArray[np.float64], seed: int
) -> tuple[float, float]:
    """Compare the losses of one look, shape (n,) each, by paired bootstrap.

    Returns:
        By how much the former champion errs less, and the lower bound of it.
    """
    confidence = 1 - 2 * UNDONE_IN_VAIN / len(LOOKS)
    return paired_bootstrap(of_former, of_champion, seed, confidence=confidence)[:2]


def _former(registry: ModelRegistry) -> Contender | None:
    numbers = registry.former_champions()
    return find_contender(registry, numbers[-1]) if numbers else None
