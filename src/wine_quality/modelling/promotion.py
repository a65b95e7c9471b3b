"""Who becomes champion: only a version that is better on wines that neither was fitted on."""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd

from wine_quality.errors import WineQualityError
from wine_quality.modelling.contenders import (
    CHAMPION_PREDICTION,
    WINE,
    Contender,
    find_contender,
    pair_held_out,
)
from wine_quality.modelling.loading import BrokenVersionError
from wine_quality.modelling.metrics import paired_bootstrap
from wine_quality.modelling.registry import (
    CHALLENGER,
    ENVIRONMENT_TAG,
    ONNX_PARITY_TAG,
    ONNX_TAG,
    ChampionChangedError,
    ModelRegistry,
    RegisteredVersion,
)
from wine_quality.wines import PREDICTION, QUALITY

Metric = Literal["rmse", "mae"]
LEAST_WINES = 20
"""Distinct wines that a comparison needs: an interval from fewer is none."""
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
class Settlement:
    """A decision that the registry has accepted.

    Attributes:
        promotion: The decision.
        champion: The champion after it; None if there is none.
    """

    promotion: Promotion
    champion: RegisteredVersion | None


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

    Returns:
        The decision, which the registry has accepted.

    Raises:
        ChampionChangedError: The champion changed at each of `ATTEMPTS` attempts; the new version
            is challenger.
        WineQualityError: The new version was deleted meanwhile.
    """
    if not new.is_same_as(registry.version(new.version)):
        raise WineQualityError(
            f"Version {new.version} of {new.name} was deleted while it was judged: train again."
        )
    contender = Contender(new, reference, registry.fitted_wines(new))
    for attempt in range(ATTEMPTS):
        champion = find_contender(registry)
        decision = decide(contender, champion, seed, metric)
        if not decision.promoted:
            registry.set_alias(CHALLENGER, new.version)
            return Settlement(decision, champion.version if champion else None)
        try:
            registry.promote(new.version, instead_of=champion.version if champion else None)
        except ChampionChangedError:
            if attempt == ATTEMPTS - 1:
                registry.set_alias(CHALLENGER, new.version)
                raise
        else:
            return Settlement(decision, new)
    raise AssertionError("the last attempt returns or raises")


def decide(
    new: Contender, champion: Contender | None, seed: int, metric: Metric = "rmse"
) -> Promotion:
    """Decide whether a new version replaces the champion.

    It does where there is no champion yet, or where its mean squared (or absolute) error is lower
    with 95 % confidence on the held-out wines that neither was fitted on: paired bootstrap, copies
    of a wine drawn together. Models from different environments, whose data mean different things,
    are not compared, nor is one with a champion whose reference cannot be read, such as one that
    another project registered, or whose model is needed and cannot be loaded, or with too few such
    wines: the champion stays, and the reason says how to promote by hand. A version whose ONNX
    model answers otherwise than it does itself is not promoted at all.

    Args:
        new: The new version.
        champion: The present champion, if any.
        seed: Seed of the bootstrap.
        metric: What the best model has lowest: `rmse` compares squared errors, `mae` absolute ones.
    """
    present = champion.version.version if champion else None

    def decision(promoted: bool, reason: str) -> Promotion:
        version = new.version
        after = version.version if promoted else present
        return Promotion(
            version.name, version.version, version.run_id, promoted, after, present, reason
        )

    if new.version.tags.get(ONNX_PARITY_TAG) == "failed":
        return decision(False, f"it must not be served: {new.version.tags[ONNX_TAG]}")
    if champion is None:
        return decision(True, "it is the first champion")
    try:
        pairs = pair_held_out(new, champion)
        obstacle = _why_not_compared(new, champion, pairs)
    except BrokenVersionError as error:
        said = str(error).rstrip(".")
        obstacle = f"version {present} does not answer the wines that came after it ({said})"
    if obstacle:
        by_hand = f"to promote it anyway: 'kedro champion promote {new.version.version}'"
        return decision(False, f"{obstacle}; {by_hand}")
    gain = estimate_gain(pairs, seed, metric)
    verdict = "it is better" if gain.low > 0 else "it is not better with confidence"
    return decision(
        gain.low > 0, f"{verdict}: {gain.in_words(f'of version {present}')}{_judged_on(champion)}"
    )


@dataclass(frozen=True)
class Gain:
    """By how much a new version errs less than the champion on the same wines.

    Attributes:
        loss: Mean squared or absolute error of the new version, in points of quality (squared).
        champion_loss: That of the champion.
        low: Lower bound of the 95 % interval of the difference.
        high: Its upper bound.
        wines: Number of wines.
        name: `squared` or `absolute`.
    """

    loss: float
    champion_loss: float
    low: float
    high: float
    wines: int
    name: str

    def in_words(self, of_champion: str) -> str:
        """Say it, as in `mean squared error 0.4 against 0.5 of version 3 on 1,000 …`."""
        return (
            f"mean {self.name} error {self.loss:.4f} against {self.champion_loss:.4f} "
            f"{of_champion} on {self.wines:,} held-out wines that neither was fitted on, gain "
            f"{self.champion_loss - self.loss:+.4f}, 95 % interval {self.low:+.4f} to "
            f"{self.high:+.4f}"
        )


def estimate_gain(pairs: pd.DataFrame, seed: int, metric: Metric) -> Gain:
    """Compare two models on wines with the columns of `PAIR_COLUMNS`; copies count as one draw."""
    name, power = _LOSSES[metric]
    quality = pairs[QUALITY].to_numpy(float)
    losses = [
        np.abs(pairs[column].to_numpy(float) - quality) ** power
        for column in (PREDICTION, CHAMPION_PREDICTION)
    ]
    groups = np.unique(pairs[WINE], return_inverse=True)[1]
    _, low, high = paired_bootstrap(losses[0], losses[1], seed, groups=groups)
    return Gain(losses[0].mean(), losses[1].mean(), low, high, len(pairs), name)


def _why_not_compared(new: Contender, champion: Contender, pairs: pd.DataFrame) -> str:
    """Say why two versions cannot be compared; empty if they can."""
    present = champion.version.version
    if champion.reference is None:
        return f"version {present} has no reference to compare with ({champion.problem})"
    here, there = (side.version.tags.get(ENVIRONMENT_TAG) for side in (new, champion))
    # the oldest versions have no environment; their held-out wines still tell
    if here and there and here != there:
        return (
            f"version {present} was trained in environment {there} and this one in {here}, so the "
            "two are not compared"
        )
    distinct = pairs[WINE].nunique()
    if distinct < LEAST_WINES:
        return (
            f"of the held-out wines there are {distinct} that neither this version nor version "
            f"{present} was fitted on, and a comparison needs {LEAST_WINES}{_judged_on(champion)}"
        )
    return ""


def _judged_on(champion: Contender) -> str:
    """Say what is known of a champion that does not say which wines it was fitted on."""
    if champion.fitted is not None or champion.reference is None:
        return ""
    return (
        f" (version {champion.version.version} does not say which wines it was fitted on, so only "
        f"those count that are among the {len(champion.reference):,} it was judged on; the next "
        "champion will say it)"
    )
