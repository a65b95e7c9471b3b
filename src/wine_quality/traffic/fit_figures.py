"""Fit the figures of the synthetic wines to the UCI Wine Quality files.

    python -m wine_quality.traffic.fit_figures UCI_FOLDER    # writes wine_figures.json

Everything is read off the files, by type and band of quality: quantiles, shares and rounding of the
columns, share of exact duplicates, and rank correlations, turned into those of latent normals.
"""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from wine_quality.errors import WineQualityError
from wine_quality.traffic.figures import (
    FIGURES_FILE,
    BandFigures,
    Figures,
    Matrix,
    MeasurementFigures,
    TypeFigures,
    write_figures,
)
from wine_quality.traffic.synthetic import Floats
from wine_quality.wines import MEASUREMENT_NAMES, QUALITY, TYPE, WINE_TYPES

SOURCE = (
    "UCI Wine Quality, https://archive.ics.uci.edu/dataset/186/wine+quality; P. Cortez, "
    "A. Cerdeira, F. Almeida, T. Matos, J. Reis, Modeling wine preferences by data mining from "
    "physicochemical properties, Decision Support Systems 47(4), 2009. Missing values: their "
    "shares in the copy of the same wines on Kaggle."
)
LICENCE = "CC BY 4.0"
BANDS = ((0, 5), (6, 6), (7, 10))
"""First and last quality of each band."""
FEWEST_WINES = 100
"""Fewer wines of a type and band are too few to fit twelve columns' correlations to."""
TAIL = (0.0001, 0.0003, 0.001, 0.002, 0.003)
LEVELS = (
    *TAIL,
    *(round(0.005 * i, 3) for i in range(1, 200)),
    *(round(1 - p, 4) for p in TAIL[::-1]),
)
STEPS = (1, 2, 10, 20, 100, 200, 1_000, 10_000, 100_000)
"""Steps of 1/k that a value may be recorded in: wholes, halves, tenths, … Each divides the next."""
RARE_STEP = 0.005
"""A step with a smaller share of the values is left out."""
KAGGLE_ROWS = 6_497
KAGGLE_MISSING = {
    "fixed_acidity": 10,
    "volatile_acidity": 8,
    "citric_acid": 3,
    "residual_sugar": 2,
    "chlorides": 2,
    "pH": 9,
    "sulphates": 4,
}
SMALLEST_EIGENVALUE = 0.01


def read_uci(folder: Path) -> pd.DataFrame:
    """Read the two UCI files into canonical columns.

    Raises:
        WineQualityError: A file is absent, or has other columns than UCI's.
    """
    frames = []
    for kind in WINE_TYPES:
        path = folder / f"winequality-{kind}.csv"
        try:
            wines = pd.read_csv(path, sep=";")
        except OSError as error:
            raise WineQualityError(
                f"Cannot read {path}: {error.strerror}; give the folder of the two UCI files"
            ) from None
        wines.columns = wines.columns.str.replace(" ", "_")
        if [*wines] != [*MEASUREMENT_NAMES, QUALITY]:
            raise WineQualityError(f"{path} has not the twelve columns of a UCI wine file")
        measurements = wines[[*MEASUREMENT_NAMES]].astype(float)
        frames.append(pd.concat([measurements, wines[QUALITY]], axis=1).assign(**{TYPE: kind}))
    return pd.concat(frames, ignore_index=True)[[TYPE, *MEASUREMENT_NAMES, QUALITY]]


def fit_figures(wines: pd.DataFrame, bands: Sequence[tuple[int, int]] = BANDS) -> Figures:
    """Fit the generator's figures.

    Args:
        wines: Real wines: type, the eleven measurements without missing values, quality.
        bands: First and last quality of each band that has a copula of its own.

    Returns:
        Figures whose synthetic wines have the marginal distributions and the rank correlations of
        `wines`, by type and band of quality.

    Raises:
        WineQualityError: A value is missing, or a type and band has too few wines.
    """
    if wines[[*MEASUREMENT_NAMES, QUALITY]].isna().any(axis=None):
        raise WineQualityError("Wines with missing values cannot be fitted; leave them out first")
    return Figures(
        source=SOURCE,
        licence=LICENCE,
        levels=LEVELS,
        missing={name: round(n / KAGGLE_ROWS, 6) for name, n in KAGGLE_MISSING.items()},
        types={kind: _type_figures(wines[wines[TYPE] == kind], bands) for kind in WINE_TYPES},
    )


def rank_correlations(wines: pd.DataFrame) -> Floats:
    """Spearman's correlations, 12 x 12: the measurements in canonical order, then quality.

    A column of one value alone correlates with none.
    """
    ranks = wines[[*MEASUREMENT_NAMES, QUALITY]].rank().to_numpy()
    moving = np.ptp(ranks, axis=0) > 0
    correlations = np.eye(ranks.shape[1])
    correlations[np.ix_(moving, moving)] = np.corrcoef(ranks[:, moving], rowvar=False)
    return correlations


def _type_figures(wines: pd.DataFrame, bands: Sequence[tuple[int, int]]) -> TypeFigures:
    parts = [wines[wines[QUALITY].between(low, high)] for low, high in bands]
    if min(map(len, parts)) < FEWEST_WINES:
        raise WineQualityError(
            f"Fewer than {FEWEST_WINES} wines of one type and band of quality; give more wines"
        )
    return TypeFigures(
        rows=len(wines),
        duplicates=round(float(wines.duplicated().mean()), 6),
        shares=tuple(round(len(part) / len(wines), 6) for part in parts),
        bands=tuple(map(_band_figures, parts)),
    )


def _band_figures(wines: pd.DataFrame) -> BandFigures:
    qualities = wines[QUALITY].astype(int)
    # exact for continuous columns (Pearson, 1907). Ties weaken it: rounding hardly, few classes of
    # quality within a band by half or more; what the bands tell about quality outweighs that
    latent = _positive_definite(2 * np.sin(np.pi / 6 * rank_correlations(wines)))
    return BandFigures(
        quality={
            q: round(float((qualities == q).mean()), 6) for q in sorted(set(qualities.tolist()))
        },
        measurements={name: _measurement_figures(wines[name]) for name in MEASUREMENT_NAMES},
        correlations=_rows(latent),
    )


def _measurement_figures(values: pd.Series) -> MeasurementFigures:
    # a few alcohols are thirds and the like (9.53333333333333): no step, and too rare to matter
    knots = np.quantile(values, LEVELS, method="inverted_cdf").round(6)
    return MeasurementFigures(steps=_step_shares(values), knots=tuple(knots.tolist()))


def _step_shares(values: pd.Series) -> dict[int, float]:
    """Shares of the values recorded in steps of 1/k, by k.

    The common step is the coarsest that more than half of the values fit. Finer steps are read off
    the values that fit no coarser one; every c/k-th value of step 1/k fits step 1/c too and does
    not show, which the division makes good.
    """
    fit = {k: np.isclose(values * k, (values * k).round(), rtol=0, atol=1e-6) for k in STEPS}
    common = next((k for k in STEPS if fit[k].mean() > 0.5), STEPS[-1])
    finer = [(c, k) for c, k in pairwise(STEPS) if k > common]
    shares = {k: float((fit[k] & ~fit[c]).mean()) / (1 - c / k) for c, k in finer}
    kept = {k: round(share, 4) for k, share in shares.items() if share >= RARE_STEP}
    return {common: round(1 - sum(kept.values()), 4), **kept}


def _positive_definite(matrix: Floats) -> Floats:
    """The correlation matrix with its eigenvalues raised to a floor, and its diagonal to ones."""
    values, vectors = np.linalg.eigh(matrix)
    raised = (vectors * np.maximum(values, SMALLEST_EIGENVALUE)) @ vectors.T
    deviations = np.sqrt(np.diag(raised))
    scaled: Floats = raised / np.outer(deviations, deviations)
    return scaled


def _rows(matrix: Floats) -> Matrix:
    # symmetric to the last digit, which a product of eigenvectors is not
    below = np.tril(matrix.round(4), -1)
    return tuple(map(tuple, (below + below.T + np.eye(len(below))).tolist()))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m wine_quality.traffic.fit_figures UCI_FOLDER")
    write_figures(fit_figures(read_uci(Path(sys.argv[1]))), FIGURES_FILE)
    print(FIGURES_FILE)  # noqa: T201  what the command wrote
