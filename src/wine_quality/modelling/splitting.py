"""Divides wines so that equal ones stay together: for ever, or into parts alike in quality."""

import warnings

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.errors import WineQualityError
from wine_quality.wines import QUALITY, TYPE, quality_classes, wine_groups, wine_hashes


def hold_out(wines: pd.DataFrame, share: float, seed: int) -> NDArray[np.bool_]:
    """Say which wines are held out: each is, or is not, for ever.

    A hash of the wine's twelve inputs decides, so wines that come later change no other's side, and
    copies share one.

    Args:
        wines: n wines with inputs.
        share: Share of the distinct wines to hold out. With a larger one, wines change sides in one
            direction only.
        seed: Seed of the hash.

    Returns:
        Whether each wine is held out, shape (n,).
    """
    held_out: NDArray[np.bool_] = wine_hashes(wines, seed) / 2.0**64 < share
    return held_out


def assign_parts(wines: pd.DataFrame, parts: int, seed: int) -> NDArray[np.int64]:
    """Give every wine a part.

    Wines with the same twelve inputs share a part; parts are stratified by type and quality.

    Args:
        wines: n wines with inputs and quality.
        parts: Number of parts, of about equal size.
        seed: Seed of the division.

    Returns:
        Values from 0 to parts - 1, shape (n,).

    Raises:
        WineQualityError: There are fewer distinct wines than parts, or no type and quality has as
            many wines as there are parts.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = wine_groups(wines).to_numpy()
    distinct = len(np.unique(groups))
    strata = (wines[TYPE] + quality_classes(wines[QUALITY]).astype(str)).to_numpy()
    largest = int(np.unique(strata, return_counts=True)[1].max(initial=0))
    if min(distinct, largest) < parts:
        raise WineQualityError(
            f"{len(wines)} wines, {distinct} of them distinct and at most {largest} of one type "
            f"and quality, cannot be divided into {parts} parts: bring more wines, or ask for "
            "fewer parts (training.comparison.cross_validation.folds)."
        )
    splitter = StratifiedGroupKFold(n_splits=parts, shuffle=True, random_state=seed)
    part_of = np.empty(len(wines), dtype=np.int64)
    with warnings.catch_warnings():
        # a quality with fewer wines than parts cannot be in all of them, and need not be
        warnings.filterwarnings("ignore", message="The least populated class")
        for part, (_, inside) in enumerate(splitter.split(wines, strata, groups)):
            part_of[inside] = part
    return part_of
