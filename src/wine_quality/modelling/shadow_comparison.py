"""Champion and challenger on the same labelled wines, by the challenger's shadow answers."""

from dataclasses import dataclass

import pandas as pd

from wine_quality.modelling.metrics import paired_bootstrap
from wine_quality.modelling.promotion import LEAST_REPLAYED
from wine_quality.wines import INPUTS, PREDICTION, QUALITY


@dataclass(frozen=True)
class ShadowComparison:
    """What two versions said of the same labelled wines.

    Attributes:
        champion: The version that answered, or the name of its traffic.
        challenger: The version in shadow.
        labels: Labelled predictions with shadow answers.
        wines: Distinct wines among them.
        champion_mae: Mean absolute error of the one, in points of quality.
        challenger_mae: That of the other.
        gain: By how much the challenger errs less.
        gain_low: Lower bound of its 95 % interval; None for fewer than `LEAST_REPLAYED` wines.
        gain_high: Upper bound.
    """

    champion: str
    challenger: str
    labels: int
    wines: int
    champion_mae: float
    challenger_mae: float
    gain: float
    gain_low: float | None
    gain_high: float | None


def compare_shadows(shadowed: pd.DataFrame, seed: int) -> list[ShadowComparison]:
    """Compare the versions that answered with those in shadow, pair by pair.

    Args:
        shadowed: Labelled predictions with the twelve inputs, `model_version`, `prediction`,
            `quality`, `shadow_version` and `shadow_prediction`.
        seed: Seed of the bootstrap.

    Returns:
        One comparison for each pair of versions, in their order.
    """
    found = []
    for (champion, challenger), rows in shadowed.groupby(["model_version", "shadow_version"]):
        losses = (rows[PREDICTION] - rows[QUALITY]).abs().to_numpy()
        others = (rows["shadow_prediction"] - rows[QUALITY]).abs().to_numpy()
        wines = rows.groupby(list(INPUTS), dropna=False).ngroup().to_numpy()
        distinct = len(set(wines))
        gain, low, high = paired_bootstrap(others, losses, seed, groups=wines)
        enough = distinct >= LEAST_REPLAYED
        found.append(
            ShadowComparison(
                champion=str(champion),
                challenger=str(challenger),
                labels=len(rows),
                wines=distinct,
                champion_mae=float(losses.mean()),
                challenger_mae=float(others.mean()),
                gain=gain,
                gain_low=low if enough else None,
                gain_high=high if enough else None,
            )
        )
    return found
