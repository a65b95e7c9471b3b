"""Tries candidates before a run begins, so that no mistake in their settings costs a training."""

import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from wine_quality.errors import WineQualityError
from wine_quality.modelling.candidates import (
    Candidate,
    Choices,
    build_model,
    fit_candidate,
)
from wine_quality.modelling.loading import trusted_in
from wine_quality.wines import MEASUREMENTS, QUALITY, QUALITY_BOUNDS, TYPE, WINE_TYPES

if TYPE_CHECKING:
    from wine_quality.modelling.candidates import FittedCandidate

FEW, MANY = 100, 10_000
"""Wines of the first trial, and of a second one where that was perhaps refused for being few."""


def check_candidate(candidate: Candidate, seed: int, trusted_types: Collection[str]) -> None:
    """Build a candidate, try it on drawn wines, and see that its model could be registered.

    Args:
        candidate: The candidate as configured.
        seed: Seed of the training.
        trusted_types: A team's own types that a registered model may hold.

    Raises:
        WineQualityError: The class is not installed, does not take its settings or those of the
            search space, or its fitted model holds a type that nobody has allowed.
    """
    with warnings.catch_warnings():
        # a fit on wines this few may well have something to say
        warnings.simplefilter("ignore")
        fitted = _try(candidate, seed)
    # after the candidate's own settings: a mistake there is none of the search space
    _check_search_space(candidate, seed)
    trusted_in(fitted.model, trusted_types)


def draw_wines_evenly(n: int, seed: int, reach: float = 1.0) -> pd.DataFrame:
    """Draw wines evenly from the plausible range, with as many digits as people write.

    Args:
        n: How many.
        seed: Seed of the draw.
        reach: What both ends of the range are widened by: 2 is from half of the low end to twice
            the high end.

    Returns:
        Frame with the twelve inputs.
    """
    rng = np.random.default_rng(seed)
    return pd.DataFrame({TYPE: rng.choice(WINE_TYPES, n)}).assign(
        **{
            m.name: rng.uniform(m.plausible[0] / reach, reach * m.plausible[1], n).round(4)
            for m in MEASUREMENTS
        }
    )


def _check_search_space(candidate: Candidate, seed: int) -> None:
    known = _estimator(candidate, seed).get_params()
    unknown = sorted(candidate.search_space.keys() - known.keys())
    if unknown:
        raise WineQualityError(
            f"Candidate {candidate.estimator} has no setting {unknown[0]}, which its search_space "
            "names: correct it in the training parameters."
        )
    for name, space in candidate.search_space.items():
        ends = space.choices if isinstance(space, Choices) else (space.low, space.high)
        for end in ends:
            tried = candidate.with_settings({name: end})
            estimator = _estimator(tried, seed)
            # scikit-learn's estimators know what they take; others say so when they are fitted
            if not hasattr(estimator, "_parameter_constraints"):
                continue
            try:
                estimator._validate_params()
            except ValueError as error:
                raise WineQualityError(
                    f"Candidate {candidate.estimator} does not take {name} {end!r}, which its "
                    f"search_space holds: {error} Correct it in the training parameters."
                ) from error


def _estimator(candidate: Candidate, seed: int) -> Any:
    built: Any = build_model(candidate, seed)
    return getattr(built, "model", built)[-1]


def _try(candidate: Candidate, seed: int) -> "FittedCandidate":
    try:
        try:
            return fit_candidate(candidate, _labelled(FEW, seed), seed)
        except ValueError:
            return fit_candidate(candidate, _labelled(MANY, seed), seed)
    except (ValueError, TypeError, AttributeError) as error:
        raise WineQualityError(
            f"Candidate {candidate.estimator} with settings {candidate.settings} cannot be "
            f"fitted: {error} Correct its settings in the training parameters."
        ) from error


def _labelled(n: int, seed: int) -> pd.DataFrame:
    low, high = QUALITY_BOUNDS
    quality = np.random.default_rng(seed).integers(int(low), int(high), n, endpoint=True)
    return draw_wines_evenly(n, seed).assign(**{QUALITY: quality})
