"""Who becomes champion: only a version that is better on the same held-out wines."""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from wine_quality.modelling.metrics import paired_bootstrap
from wine_quality.modelling.registry import RegisteredVersion
from wine_quality.wines import INPUTS, PREDICTION, QUALITY


@dataclass(frozen=True)
class Promotion:
    """The decision on a new version.

    Attributes:
        model: Name of the registered model.
        version: The new version.
        promoted: Whether it becomes champion; else it becomes challenger.
        champion: The version that is champion after the decision.
        reason: Why, in words.
    """

    model: str
    version: str
    promoted: bool
    champion: str
    reason: str

    def to_dict(self) -> dict[str, str | bool]:
        """Return the decision as plain values."""
        return asdict(self)


def decide(
    new: RegisteredVersion,
    reference: pd.DataFrame,
    champion: RegisteredVersion | None,
    champion_reference: pd.DataFrame | None,
    seed: int,
) -> Promotion:
    """Decide whether a new version replaces the champion.

    It does where there is no champion yet, or where its mean squared error on the same held-out
    wines is lower with 95 % confidence (paired bootstrap). Without the same held-out wines there is
    no fair comparison, because wines held out from one model may have trained the other: the
    champion stays, and the reason says how to promote by hand.

    Args:
        new: The new version.
        reference: Its held-out wines with `prediction`.
        champion: The present champion, if any.
        champion_reference: The champion's held-out wines with `prediction`.
        seed: Seed of the bootstrap.
    """
    if champion is None or champion_reference is None:
        return Promotion(new.name, new.version, True, new.version, "it is the first champion")
    present = champion.version
    held_out = [*INPUTS, QUALITY]
    if not reference[held_out].equals(champion_reference[held_out]):
        return Promotion(
            new.name,
            new.version,
            False,
            present,
            f"version {present} was judged on other held-out wines, so the two cannot be compared; "
            "to promote anyway, set the alias champion in the MLflow registry",
        )
    quality = reference[QUALITY].to_numpy(float)
    losses = [
        np.square(frame[PREDICTION].to_numpy(float) - quality)
        for frame in (reference, champion_reference)
    ]
    gain, low, high = paired_bootstrap(losses[0], losses[1], seed)
    better = low > 0
    comparison = (
        f"mean squared error {losses[0].mean():.4f} against {losses[1].mean():.4f} of version "
        f"{present} on the same {len(quality):,} held-out wines, gain {gain:+.4f}, "
        f"95 % interval {low:+.4f} to {high:+.4f}"
    )
    verdict = "it is better" if better else "it is not better with confidence"
    after = new.version if better else present
    return Promotion(new.name, new.version, better, after, f"{verdict}: {comparison}")
