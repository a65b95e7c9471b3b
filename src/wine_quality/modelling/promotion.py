"""Who becomes champion: only a version that is better on the same held-out wines."""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd

from wine_quality.errors import WineQualityError
from wine_quality.modelling.metrics import paired_bootstrap
from wine_quality.modelling.registry import (
    CHALLENGER,
    CHAMPION,
    ENVIRONMENT_TAG,
    ONNX_PARITY_TAG,
    ONNX_TAG,
    ChampionChangedError,
    ModelRegistry,
    RegisteredVersion,
)
from wine_quality.wines import INPUTS, PREDICTION, QUALITY, wine_groups

Metric = Literal["rmse", "mae"]
ATTEMPTS = 20
"""How often a version is judged: each time but the last, another version became champion."""
_LOSSES: dict[Metric, tuple[str, int]] = {"rmse": ("squared", 2), "mae": ("absolute", 1)}


@dataclass(frozen=True)
class Promotion:
    """The decision on a new version.

    Attributes:
        model: Name of the registered model.
        version: The new version.
        run_id: The run that registered it: a number comes twice where a model was deleted.
        promoted: Whether it becomes champion; else it becomes challenger.
        champion: The version that is champion after the decision; None if there is none.
        judged_against: The champion before it; None if there was none.
        reason: Why, in words.
    """

    model: str
    version: str
    run_id: str
    promoted: bool
    champion: str | None
    judged_against: str | None
    reason: str

    def to_dict(self) -> dict[str, str | bool | None]:
        """Return the decision as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Opponent:
    """The champion that a new version is judged against.

    Attributes:
        version: The champion.
        reference: Its held-out wines with `prediction`; None where they cannot be read.
        problem: Why not, in words.
    """

    version: RegisteredVersion
    reference: pd.DataFrame | None
    problem: str = ""


@dataclass(frozen=True)
class Settlement:
    """A decision that the registry has accepted.

    Attributes:
        promotion: The decision.
        champion: The champion after it; None if there is none.
    """

    promotion: Promotion
    champion: RegisteredVersion | None


def find_opponent(registry: ModelRegistry) -> Opponent | None:
    """Look up the champion and its reference; None where there is no champion."""
    champion = registry.version(CHAMPION)
    if champion is None:
        return None
    try:
        reference = registry.reference(champion.version)
    except WineQualityError as error:
        return Opponent(champion, None, str(error))
    if PREDICTION not in reference:
        return Opponent(champion, None, f"its reference has no column {PREDICTION}")
    return Opponent(champion, reference)


def settle(
    registry: ModelRegistry,
    new: RegisteredVersion,
    reference: pd.DataFrame,
    seed: int,
    metric: Metric = "rmse",
) -> Settlement:
    """Decide whether a new version replaces the champion, and set the registry's aliases.

    Where another version becomes champion meanwhile, as with two trainings at once, the new one is
    judged against that. What does not become champion becomes challenger.

    Args:
        registry: The registry.
        new: The new version.
        reference: Its held-out wines with `prediction`.
        seed: See `decide`.
        metric: See `decide`.

    Raises:
        ChampionChangedError: The champion changed at each of `ATTEMPTS` attempts; the new version
            is challenger.
        WineQualityError: The new version was deleted meanwhile.
    """
    if not new.is_same_as(registry.version(new.version)):
        raise WineQualityError(
            f"Version {new.version} of {new.name} was deleted while it was judged: train again."
        )
    for attempt in range(ATTEMPTS):
        opponent = find_opponent(registry)
        decision = decide(new, reference, opponent, seed, metric)
        if not decision.promoted:
            registry.set_alias(CHALLENGER, new.version)
            return Settlement(decision, opponent.version if opponent else None)
        try:
            registry.promote(new.version, instead_of=opponent.version if opponent else None)
        except ChampionChangedError:
            if attempt == ATTEMPTS - 1:
                registry.set_alias(CHALLENGER, new.version)
                raise
        else:
            return Settlement(decision, new)
    raise AssertionError("the last attempt returns or raises")


def decide(
    new: RegisteredVersion,
    reference: pd.DataFrame,
    opponent: Opponent | None,
    seed: int,
    metric: Metric = "rmse",
) -> Promotion:
    """Decide whether a new version replaces the champion.

    It does where there is no champion yet, or where its mean squared (or absolute) error on the
    same held-out wines is lower with 95 % confidence: paired bootstrap, copies of a wine drawn
    together. There is no fair comparison without the same held-out wines, because wines held out
    from one model may have trained the other, nor of models from different environments, whose
    data mean different things: the champion stays, and the reason says how to promote by hand. A
    champion whose reference cannot be read, such as one that another project registered, stays for
    the same reason. A version whose ONNX model answers otherwise than it does itself is not
    promoted at all.

    Args:
        new: The new version.
        reference: Its held-out wines with `prediction`.
        opponent: The present champion, if any.
        seed: Seed of the bootstrap.
        metric: What the best model has lowest: `rmse` compares squared errors, `mae` absolute ones.
    """
    present = opponent.version.version if opponent else None

    def decision(promoted: bool, reason: str) -> Promotion:
        after = new.version if promoted else present
        return Promotion(new.name, new.version, new.run_id, promoted, after, present, reason)

    if new.tags.get(ONNX_PARITY_TAG) == "failed":
        return decision(False, f"it must not be served: {new.tags[ONNX_TAG]}")
    if opponent is None:
        return decision(True, "it is the first champion")
    by_hand = f"to promote it anyway: 'kedro champion promote {new.version}'"
    champion_reference = opponent.reference
    if champion_reference is None:
        return decision(
            False,
            f"version {present} has no reference to compare with ({opponent.problem}); {by_hand}",
        )
    here, there = (version.tags.get(ENVIRONMENT_TAG) for version in (new, opponent.version))
    # the oldest versions have no environment; their held-out wines still tell
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
