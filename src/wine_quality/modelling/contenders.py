"""Two versions on the same wines: those that neither was fitted on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.errors import WineQualityError
from wine_quality.modelling.loading import BrokenVersionError
from wine_quality.modelling.registry import (
    CHAMPION,
    ENVIRONMENT_TAG,
    ModelRegistry,
    RegisteredVersion,
)
from wine_quality.wines import INPUTS, PREDICTION, QUALITY, TYPE, wine_hashes

CHAMPION_PREDICTION = "champion_prediction"
WINE = "wine"
PAIR_COLUMNS = (WINE, TYPE, QUALITY, PREDICTION, CHAMPION_PREDICTION)
"""A wine of a comparison: its hash, its type, the tasters' quality, and what both models say."""
Answer = Callable[[pd.DataFrame], NDArray[np.float64]]


@dataclass(frozen=True)
class Contender:
    """A version that is compared with another.

    Attributes:
        version: The version.
        reference: Its held-out wines with `prediction`; None where they cannot be read.
        fitted: `wine_hashes` of the wines that it was fitted on; None where it does not say, as
            versions of earlier editions.
        answer: Predicts wines; None where nobody needs it.
        problem: Why there is no reference, in words.
        out_of_fold: Of wines that it was fitted on, by their hash, what a model of the same kind
            says that was not; None where that is not known.
    """

    version: RegisteredVersion
    reference: pd.DataFrame | None
    fitted: NDArray[np.uint64] | None = None
    answer: Answer | None = None
    problem: str = ""
    out_of_fold: pd.Series | None = None

    def is_new(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Tell which wines it was surely not fitted on, shape as given.

        A version that does not say what it was fitted on was not on the wines that it was judged
        on, whatever the split.
        """
        if self.fitted is not None:
            return ~np.isin(hashes, self.fitted)
        if self.reference is None:
            return np.zeros(len(hashes), dtype=bool)
        return np.isin(hashes, wine_hashes(self.reference))


def find_contender(registry: ModelRegistry, alias_or_number: str = CHAMPION) -> Contender | None:
    """Look up a version with what a comparison needs; None where there is none."""
    found = registry.version(alias_or_number)
    return contender_of(registry, found) if found else None


def contender_of(registry: ModelRegistry, found: RegisteredVersion) -> Contender:
    """Give a version what a comparison needs; its model is loaded when it has to answer."""

    def answer(wines: pd.DataFrame) -> NDArray[np.float64]:
        model = registry.checked_model(found)
        try:
            return np.asarray(model.predict(wines[list(INPUTS)]), dtype=float)
        # somebody else's model may fail in any way
        except Exception as error:
            raise BrokenVersionError(
                f"Version {found.version} of {registry.name} does not answer these wines "
                f"({type(error).__name__}: {error})."
            ) from error

    try:
        reference = registry.reference(found.version)
        fitted = registry.fitted_wines(found)
    except WineQualityError as error:
        return Contender(found, None, answer=answer, problem=str(error))
    return Contender(found, reference, fitted, answer)


FORMERLY = {"local": "base"}
"""What earlier editions called an environment in tags, and its name."""


def different_environments(version: Contender, other: Contender) -> str:
    """Say that two versions come from different environments; empty if they do not.

    The oldest versions name none; their held-out wines still tell.
    """
    tags = (side.version.tags.get(ENVIRONMENT_TAG) for side in (version, other))
    here, there = (FORMERLY.get(tag, tag) if tag else None for tag in tags)
    if not here or not there or here == there:
        return ""
    return (
        f"version {other.version.version} was trained in environment {there} and version "
        f"{version.version.version} in {here}, so the two are not compared"
    )


def pair_held_out(new: Contender, champion: Contender) -> pd.DataFrame:
    """Set both models' predictions of the new version's held-out wines side by side.

    The champion's come from its reference. Held-out wines that came after it are predicted by its
    model, which is loaded for that.

    Returns:
        The held-out wines that neither was fitted on, with the columns of `PAIR_COLUMNS`.

    Raises:
        BrokenVersionError: The champion's model is needed, and cannot be loaded or does not answer.
    """
    if new.reference is None or champion.reference is None:
        return pd.DataFrame(columns=list(PAIR_COLUMNS))
    hashes = wine_hashes(new.reference)
    is_new = new.is_new(hashes) & champion.is_new(hashes)
    wines, hashes = new.reference[is_new], hashes[is_new]
    answers = known_answers(champion.reference, hashes)
    later = np.isnan(answers)
    if later.any() and champion.answer is not None:
        answers[later] = champion.answer(wines[later])
    pairs = wines.assign(**{WINE: hashes, CHAMPION_PREDICTION: answers})
    answered: pd.DataFrame = pairs[~np.isnan(answers)].reset_index(drop=True)
    return answered[list(PAIR_COLUMNS)]


def known_answers(reference: pd.DataFrame, hashes: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Look up what a version answered its held-out wines.

    Args:
        reference: Its held-out wines with `prediction`; copies of a wine have one.
        hashes: `wine_hashes` of the wines that are asked for, shape (n,), copies among them.

    Returns:
        Its predictions, shape (n,); NaN for wines that are not among its held-out ones.
    """
    known = pd.Series(reference[PREDICTION].to_numpy(float), wine_hashes(reference))
    return known[~known.index.duplicated()].reindex(hashes).to_numpy(copy=True)


def replay(traffic: pd.DataFrame, new: Contender, champion: Contender) -> pd.DataFrame:
    """Have a new version answer labelled traffic; the champion's answers are those in the log.

    Args:
        traffic: Labelled predictions with the twelve inputs, `quality`, `prediction` and
            `model_version`, and any other columns.
        new: The new version, with an `answer`.
        champion: The version that answered.

    Returns:
        The rows that the champion answered and neither was fitted on, in their order, with the
        columns of `PAIR_COLUMNS` beside the others. Wines that the new version was fitted on count
        where its `out_of_fold` has them: they are most of the newest traffic, and a model fitted on
        fewer wines speaks rather against it than for it.

    Raises:
        WineQualityError: The new version's model must not be loaded.
    """
    rows: pd.DataFrame = traffic[traffic["model_version"] == champion.version.version]
    hashes = wine_hashes(rows)
    other = np.full(len(rows), np.nan)
    if new.out_of_fold is not None:
        known = new.out_of_fold[~new.out_of_fold.index.duplicated()]
        other = known.reindex(hashes).to_numpy(float, copy=True)
    is_new = (new.is_new(hashes) | ~np.isnan(other)) & champion.is_new(hashes)
    rows = rows[is_new].reset_index(drop=True)
    if rows.empty or new.answer is None:
        return rows.iloc[:0].assign(**{WINE: [], CHAMPION_PREDICTION: []})
    rows[CHAMPION_PREDICTION] = rows[PREDICTION]
    rows[PREDICTION] = np.where(np.isnan(other[is_new]), new.answer(rows), other[is_new])
    rows[WINE] = hashes[is_new]
    return rows
