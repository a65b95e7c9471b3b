"""Who becomes champion: only a version that is better on wines that neither was fitted on."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from wine_quality.errors import WineQualityError
from wine_quality.modelling.contenders import (
    CHAMPION_PREDICTION,
    PAIR_COLUMNS,
    WINE,
    Contender,
    contender_of,
    different_environments,
    find_contender,
    known_answers,
    pair_held_out,
    replay,
)
from wine_quality.modelling.loading import BrokenVersionError
from wine_quality.modelling.metrics import paired_bootstrap
from wine_quality.modelling.registry import (
    CHALLENGER,
    ONNX_PARITY_TAG,
    ONNX_TAG,
    REVIEW_TAG,
    UNDOING,
    UNDONE,
    ChampionChangedError,
    ModelRegistry,
    RegisteredVersion,
)
from wine_quality.parameters import Parameters
from wine_quality.wines import PREDICTION, QUALITY, TYPE, wine_hashes

Metric = Literal["rmse", "mae"]
LEAST_WINES = 20
"""Distinct wines that a comparison needs: an interval from fewer is none."""
LEAST_REPLAYED = 100
"""Distinct wines that replay needs to count."""
ATTEMPTS = 20
"""How often a version is judged: each time but the last, another version became champion."""
LOSSES: dict[Metric, tuple[str, int]] = {"rmse": ("squared", 2), "mae": ("absolute", 1)}


class PromotionSettings(Parameters):
    """What the promotion of a version depends on beside its errors."""

    recent_share: float = Field(
        default=0.5, ge=0, le=1, description="Weight of replayed traffic beside held-out wines"
    )
    most_worse: float = Field(
        default=0.05, ge=0, description="Share by which a wine type's mean loss may rise"
    )


SHIPPED = PromotionSettings()


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
        replayed: The traffic that both answered, see `contenders.replay`; None without any.
    """

    promotion: Promotion
    champion: RegisteredVersion | None
    replayed: pd.DataFrame | None = None


def settle(
    registry: ModelRegistry,
    new: RegisteredVersion,
    reference: pd.DataFrame,
    seed: int,
    metric: Metric = "rmse",
    settings: PromotionSettings = SHIPPED,
    traffic: pd.DataFrame | None = None,
    out_of_fold: pd.Series | None = None,
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
        settings: See `decide`.
        traffic: Labelled predictions, which the new version answers as well; see
            `contenders.replay`.
        out_of_fold: See `Contender`.

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
    contender = replace(contender_of(registry, new), reference=reference, out_of_fold=out_of_fold)
    undone = [
        contender_of(registry, version) for version in registry.tagged(REVIEW_TAG, UNDOING, UNDONE)
    ]
    for attempt in range(ATTEMPTS):
        champion = find_contender(registry)
        replayed = None if traffic is None or not champion else replay(traffic, contender, champion)
        decision = decide(contender, champion, seed, metric, settings, replayed, undone)
        if not decision.promoted:
            registry.set_alias(CHALLENGER, new.version)
            return Settlement(decision, champion.version if champion else None, replayed)
        try:
            registry.promote(new.version, instead_of=champion.version if champion else None)
        except ChampionChangedError:
            if attempt == ATTEMPTS - 1:
                registry.set_alias(CHALLENGER, new.version)
                raise
        else:
            return Settlement(decision, new, replayed)
    raise AssertionError("the last attempt returns or raises")


def decide(
    new: Contender,
    champion: Contender | None,
    seed: int,
    metric: Metric = "rmse",
    settings: PromotionSettings = SHIPPED,
    replayed: pd.DataFrame | None = None,
    undone: Sequence[Contender] = (),
) -> Promotion:
    """Decide whether a new version replaces the champion.

    It does where there is no champion yet, or where its mean squared (or absolute) error is lower
    with 95 % confidence on wines that neither was fitted on, and no wine type gets worse beyond a
    floor. The wines are the new version's held-out ones and, where there is enough of it, replayed
    traffic; see `weigh` and `estimate_gain`. Models from different environments, whose data mean
    different things, are not compared, nor is one with a champion whose reference cannot be read,
    such as one that another project registered, or whose model is needed and cannot be loaded, or
    with too few such wines: the champion stays, and the reason says how to promote by hand. A
    version whose ONNX model answers otherwise than it does itself is not promoted at all.

    Args:
        new: The new version.
        champion: The present champion, if any.
        seed: Seed of the bootstrap.
        metric: What the best model has lowest: `rmse` compares squared errors, `mae` absolute ones.
        settings: What replay counts, and how much worse a wine type may get.
        replayed: Traffic as `contenders.replay` gives it.
        undone: Versions whose promotion was undone: a model that answers as one of them does is
            not promoted again.
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
    same = next((version for version in undone if _answers_alike(new, version)), None)
    if same:
        return decision(
            False,
            f"it answers as version {same.version.version}, whose promotion was undone; to promote "
            f"it anyway: 'kedro champion promote {new.version.version}'",
        )
    try:
        pairs = weigh(pair_held_out(new, champion), replayed, settings.recent_share)
        obstacle = _why_not_compared(new, champion, pairs)
    except BrokenVersionError as error:
        said = str(error).rstrip(".")
        obstacle = f"version {present} does not answer the wines that came after it ({said})"
    if obstacle:
        by_hand = f"to promote it anyway: 'kedro champion promote {new.version.version}'"
        return decision(False, f"{obstacle}; {by_hand}")
    judgement = judge(pairs, seed, metric, settings)
    words = judgement.in_words(f"of version {present}")
    return decision(judgement.is_better, f"{words}{_judged_on(champion)}")


@dataclass(frozen=True)
class Judgement:
    """What the rule says of two versions on the same wines.

    Attributes:
        gain: By how much the new one errs less.
        worse: The wine types on which it errs more than is allowed, in words.
    """

    gain: "Gain"
    worse: tuple[str, ...]

    @property
    def is_better(self) -> bool:
        """Whether the new version is to be promoted."""
        return self.gain.low > 0 and not self.worse

    def in_words(self, of_champion: str) -> str:
        """Give the verdict with its figures."""
        verdict = "it is better" if self.gain.low > 0 else "it is not better with confidence"
        but = f", but {' and '.join(self.worse)}" if self.worse and self.gain.low > 0 else ""
        return f"{verdict}{but}: {self.gain.in_words(of_champion)}"


def judge(pairs: pd.DataFrame, seed: int, metric: Metric, settings: PromotionSettings) -> Judgement:
    """Judge a new version on the wines of `weigh`."""
    worse = tuple(_worse_segments(pairs, metric, settings.most_worse))
    return Judgement(estimate_gain(pairs, seed, metric), worse)


def weigh(
    held_out: pd.DataFrame, replayed: pd.DataFrame | None, recent_share: float
) -> pd.DataFrame:
    """Put held-out wines and replayed traffic together, each with its weight in the mean.

    Replay has the weight `recent_share` in all, however many wines there are on either side; all
    weight where no held-out wine is left, and none with fewer than `LEAST_REPLAYED` distinct wines.

    Args:
        held_out: Wines with the columns of `PAIR_COLUMNS`.
        replayed: The same of traffic, if there is any.
        recent_share: Weight of the replay.

    Returns:
        The rows of both with `weight`, which sums to one, and `replayed`.
    """
    few = replayed is None or replayed[WINE].nunique() < LEAST_REPLAYED
    parts = {False: held_out} if few or replayed is None else {False: held_out, True: replayed}
    shares = {False: 1 - recent_share, True: recent_share}
    filled = {name: part for name, part in parts.items() if len(part)}
    total = sum(shares[name] for name in filled)
    weighed = [
        part[list(PAIR_COLUMNS)].assign(weight=shares[name] / total / len(part), replayed=name)
        for name, part in filled.items()
        if total
    ]
    empty = pd.DataFrame(columns=[*PAIR_COLUMNS, "weight", "replayed"])
    return pd.concat(weighed, ignore_index=True) if weighed else empty


@dataclass(frozen=True)
class Gain:
    """By how much a new version errs less than the champion on the same wines.

    Attributes:
        loss: Mean squared or absolute error of the new version, in points of quality (squared).
        champion_loss: That of the champion.
        low: Lower bound of the 95 % interval of the difference.
        high: Its upper bound.
        held_out: Number of held-out wines.
        replayed: Number of replayed predictions.
        name: `squared` or `absolute`.
    """

    loss: float
    champion_loss: float
    low: float
    high: float
    held_out: int
    replayed: int
    name: str

    def in_words(self, of_champion: str) -> str:
        """Say it, as in `mean squared error 0.4 against 0.5 of version 3 on 1,000 …`."""
        held_out = f"{self.held_out:,} held-out wines" if self.held_out else ""
        replayed = f"{self.replayed:,} replayed predictions" if self.replayed else ""
        wines = " and ".join(filter(None, (held_out, replayed)))
        return (
            f"mean {self.name} error {self.loss:.4f} against {self.champion_loss:.4f} "
            f"{of_champion} on {wines} that neither was fitted on, gain "
            f"{self.champion_loss - self.loss:+.4f}, 95 % interval {self.low:+.4f} to "
            f"{self.high:+.4f}"
        )


def estimate_gain(pairs: pd.DataFrame, seed: int, metric: Metric) -> Gain:
    """Compare two models on the wines of `weigh`.

    Paired bootstrap by distinct wine: copies, and a held-out wine that came as traffic too, are
    drawn together.
    """
    new, champion = losses(pairs, metric)
    weights = pairs["weight"].to_numpy(float)
    groups = np.unique(pairs[WINE], return_inverse=True)[1]
    _, low, high = paired_bootstrap(new, champion, seed, groups=groups, weights=weights)
    replayed = int(pairs["replayed"].sum())
    loss, champion_loss = (float(np.average(each, weights=weights)) for each in (new, champion))
    name = LOSSES[metric][0]
    return Gain(loss, champion_loss, low, high, len(pairs) - replayed, replayed, name)


def losses(pairs: pd.DataFrame, metric: Metric) -> tuple[NDArray[np.float64], ...]:
    """Loss of each wine under the new version and under the champion."""
    quality, power = pairs[QUALITY].to_numpy(float), LOSSES[metric][1]
    return tuple(
        np.abs(pairs[column].to_numpy(float) - quality) ** power
        for column in (PREDICTION, CHAMPION_PREDICTION)
    )


def _worse_segments(pairs: pd.DataFrame, metric: Metric, most_worse: float) -> Iterator[str]:
    """Say which wine types get worse beyond the floor."""
    for kind, part in pairs.groupby(TYPE):
        if part[WINE].nunique() < LEAST_WINES:
            continue
        loss, champion_loss = (
            np.average(each, weights=part["weight"].to_numpy(float))
            for each in losses(part, metric)
        )
        if loss > champion_loss * (1 + most_worse):
            rise = loss / champion_loss - 1 if champion_loss else np.inf
            yield f"its error on {kind} wines is {rise:.1%} higher (most allowed: {most_worse:.1%})"


def _answers_alike(new: Contender, other: Contender) -> bool:
    """Tell whether two versions answered the held-out wines that they share in the same way."""
    if new.reference is None or other.reference is None:
        return False
    here = new.reference[PREDICTION].to_numpy(float)
    there = known_answers(other.reference, wine_hashes(new.reference))
    shared = ~np.isnan(there)
    enough = shared.sum() >= LEAST_WINES
    return bool(enough and np.allclose(here[shared], there[shared], rtol=0, atol=1e-9))


def _why_not_compared(new: Contender, champion: Contender, pairs: pd.DataFrame) -> str:
    """Say why two versions cannot be compared; empty if they can."""
    present = champion.version.version
    if champion.reference is None:
        return f"version {present} has no reference to compare with ({champion.problem})"
    obstacle = different_environments(new, champion)
    if obstacle:
        return obstacle
    distinct = pairs[WINE].nunique()
    if distinct < LEAST_WINES:
        return (
            f"there are {distinct} labelled wines that neither this version nor version "
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
