"""Who becomes champion: only a version that is better on the same held-out wines."""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd

from wine_quality.modelling.metrics import paired_bootstrap
from wine_quality.modelling.registry import (
    ENVIRONMENT_TAG,
    ONNX_PARITY_TAG,
    ONNX_TAG,
    RegisteredVersion,
)
from wine_quality.wines import INPUTS, PREDICTION, QUALITY, wine_groups

Metric = Literal["rmse", "mae"]
_LOSSES: dict[Metric, tuple[str, int]] = {"rmse": ("squared", 2), "mae": ("absolute", 1)}


@dataclass(frozen=True)
class Promotion:
    """The decision on a new version.

    Attributes:
        model: Name of the registered model.
        version: The new version.
        promoted: Whether it becomes champion; else it becomes challenger.
        champion: The version that is champion after the decision; None if there is none.
        judged_against: The champion before it; None if there was none. The decision holds only
            while that is champion.
        reason: Why, in words.
    """

    model: str
    version: str
    promoted: bool
    champion: str | None
    judged_against: str | None
    reason: str

    def to_dict(self) -> dict[str, str | bool | None]:
        """Return the decision as plain values."""
        return asdict(self)


def decide(
    new: RegisteredVersion,
    reference: pd.DataFrame,
    champion: RegisteredVersion | None,
    champion_reference: pd.DataFrame | None,
    seed: int,
    metric: Metric = "rmse",
) -> Promotion:
    """Decide whether a new version replaces the champion.

    It does where there is no champion yet, or where its mean squared (or absolute) error on the
    same held-out wines is lower with 95 % confidence: paired bootstrap, copies of a wine drawn
    together. There is no fair comparison without the same held-out wines, because wines held out
    from one model may have trained the other, nor of models from different environments, whose
    data mean different things: the champion stays, and the reason says how to promote by hand. A
    version whose ONNX model answers otherwise than it does itself is not promoted at all.

    Args:
        new: The new version.
        reference: Its held-out wines with `prediction`.
        champion: The present champion, if any.
        champion_reference: The champion's held-out wines with `prediction`.
        seed: Seed of the bootstrap.
        metric: What the best model has lowest: `rmse` compares squared errors, `mae` absolute ones.
    """
    present = champion.version if champion else None

    def decision(promoted: bool, reason: str) -> Promotion:
        after = new.version if promoted else present
        return Promotion(new.name, new.version, promoted, after, present, reason)

    if new.tags.get(ONNX_PARITY_TAG) == "failed":
        return decision(False, f"it must not be served: {new.tags[ONNX_TAG]}")
    if champion is None or champion_reference is None:
        return decision(True, "it is the first champion")
    by_hand = f"to promote it anyway: 'kedro champion promote {new.version}'"
    here, there = (version.tags.get(ENVIRONMENT_TAG) for version in (new, champion))
    # versions of old bear no environment; their held-out wines still tell
    if here and there and here != there:
        return decision(
            False,
            f"version {present} was trained in environment {there} and this one in {here}, so the "
            f"two are not compared; {by_hand}",
        )
    held_out = [*INPUTS, QUALITY]
    # a champion of other columns has not seen these wines either
    if not reference[held_out].equals(champion_reference.reindex(columns=held_out)):
        return decision(
            False,
            f"version {present} was judged on other held-out wines, so the two cannot be compared; "
            f"{by_hand}",
        )
    quality = reference[QUALITY].to_numpy(float)
    name, power = _LOSSES[metric]
    losses = [
        np.abs(frame[PREDICTION].to_numpy(float) - quality) ** power
        for frame in (reference, champion_reference)
    ]
    groups = wine_groups(reference).to_numpy()
    gain, low, high = paired_bootstrap(losses[0], losses[1], seed, groups=groups)
    better = low > 0
    verdict = "it is better" if better else "it is not better with confidence"
    return decision(
        better,
        f"{verdict}: mean {name} error {losses[0].mean():.4f} against {losses[1].mean():.4f} of "
        f"version {present} on the same {len(quality):,} held-out wines, gain {gain:+.4f}, 95 % "
        f"interval {low:+.4f} to {high:+.4f}",
    )
