"""Tasters who became stricter, or milder: labels from before, moved to their scale."""

import numpy as np
import pandas as pd

from wine_quality.modelling.candidates import Candidate, fit_candidate
from wine_quality.wines import (
    INPUTS,
    QUALITY,
    QUALITY_BOUNDS,
    QUALITY_DTYPE,
    QUALITY_IS_WHOLE,
    QUALITY_STEP,
    TYPE,
)


def move_labels(
    wines: pd.DataFrame, recent: pd.Index, candidate: Candidate, seed: int
) -> tuple[pd.DataFrame, str]:
    """Move the labels of earlier wines by how much otherwise wines are judged since.

    That is the mean difference, by type, between the recent labels and what a model of the earlier
    wines says. Where labels are whole, each is rounded up or down by chance, so that their mean
    moves by that.

    Args:
        wines: n wines with inputs and quality.
        recent: Index of those that are judged as wines are now; the others are earlier ones.
        candidate: What the model is built with.
        seed: Seed of the model and of rounding.

    Returns:
        All n wines, the recent ones as they were; and what was done, in words.
    """
    is_recent = wines.index.isin(recent)
    if is_recent.all():
        return wines, "moved by nothing: there are none"
    model = fit_candidate(candidate, wines[~is_recent], seed).model
    said = np.asarray(model.predict(wines.loc[is_recent, list(INPUTS)]), dtype=float)
    change = (wines.loc[is_recent, QUALITY] - said).groupby(wines[TYPE]).mean()
    quality = wines[QUALITY] + wines[TYPE].map(change).fillna(0.0)
    if QUALITY_IS_WHOLE:
        chance = np.random.default_rng(seed).random(len(wines))
        quality = np.floor(quality / QUALITY_STEP + chance) * QUALITY_STEP
    moved = quality.clip(*QUALITY_BOUNDS).where(~is_recent, wines[QUALITY])
    words = " and ".join(f"{points:+.2f} ({kind} wines)" for kind, points in change.items())
    return wines.assign(**{QUALITY: moved}).astype({QUALITY: QUALITY_DTYPE}), f"moved by {words}"
