"""How near predicted qualities come to the tasters'."""

import numpy as np
import pandas as pd

from wine_quality.wines import QUALITY_BOUNDS, WINE_TYPES

LOWER_IS_BETTER = frozenset({"rmse", "mae"})
METRICS = ("rmse", "mae", "r2", "accuracy_within_0.5", "accuracy_within_1.0", "weighted_kappa")


def score(quality: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Compute every metric of predictions.

    Args:
        quality: Tasters' qualities, shape (n,).
        prediction: Predicted qualities, shape (n,).

    Returns:
        Values by name: root mean squared error and mean absolute error in points of quality; R²,
        the share of variance explained (NaN where all qualities are equal); the shares of
        predictions within 0.5 and 1.0 points; Cohen's kappa with quadratic weights between the
        quality and the rounded prediction (Cohen, Psychological Bulletin 70(4), 1968).
    """
    error = prediction - quality
    within = np.abs(error)
    spread = np.mean((quality - quality.mean()) ** 2)
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(within.mean()),
        "r2": float(1 - np.mean(error**2) / spread) if spread else float("nan"),
        # the literature counts the bound itself as within: |error| <= 0.5
        "accuracy_within_0.5": float((within <= 0.5).mean()),
        "accuracy_within_1.0": float((within <= 1.0).mean()),
        "weighted_kappa": _weighted_kappa(quality, prediction),
    }


def _weighted_kappa(quality: np.ndarray, prediction: np.ndarray) -> float:
    """Quadratic kappa: 1 - E[(a - b)²] / E[(a - b')²] with b' independent of a."""
    rounded = np.clip(np.rint(prediction), *QUALITY_BOUNDS)
    observed = np.mean((quality - rounded) ** 2)
    by_chance = quality.var() + rounded.var() + (quality.mean() - rounded.mean()) ** 2
    return float(1 - observed / by_chance) if by_chance else float("nan")


def score_slices(wines: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Score wines with `quality` and `prediction`, all together and by type.

    Returns:
        Metrics by slice: `all`, and each wine type that occurs.
    """
    slices = {"all": wines} | {t: wines[wines["type"] == t] for t in WINE_TYPES}
    return {
        name: score(part["quality"].to_numpy(float), part["prediction"].to_numpy(float))
        for name, part in slices.items()
        if len(part)
    }


def paired_bootstrap(
    loss: np.ndarray, other_loss: np.ndarray, seed: int, resamples: int = 2000
) -> tuple[float, float, float]:
    """Compare two models on the same wines.

    Args:
        loss: Loss of each wine under one model, shape (n,).
        other_loss: Loss of the same wines under the other, shape (n,).
        seed: Seed of the resampling.
        resamples: Number of bootstrap samples.

    Returns:
        Mean of other_loss - loss (positive where the first model is better) and the bounds of its
        95 % percentile interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
    """
    gain = other_loss - loss
    rng = np.random.default_rng(seed)
    means = np.array([gain[rng.integers(0, len(gain), len(gain))].mean() for _ in range(resamples)])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(gain.mean()), float(low), float(high)
