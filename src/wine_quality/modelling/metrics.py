"""How near predicted qualities come to the tasters'."""

import numpy as np
import pandas as pd

from wine_quality.wines import (
    PREDICTION,
    QUALITY,
    QUALITY_BOUNDS,
    QUALITY_STEP,
    TYPE,
    WINE_TYPES,
    wine_groups,
)

ROUNDING = 1e-9
"""Threads may sum trees in any order: an error of exactly a bound must not depend on that."""
METRICS = ("rmse", "mae", "r2", "accuracy_within_0.5", "accuracy_within_1.0", "weighted_kappa")
CONFIDENCE = 0.95
TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


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
        "accuracy_within_0.5": float((within <= 0.5 * QUALITY_STEP + ROUNDING).mean()),
        "accuracy_within_1.0": float((within <= QUALITY_STEP + ROUNDING).mean()),
        "weighted_kappa": _weighted_kappa(quality, prediction),
    }


def _weighted_kappa(quality: np.ndarray, prediction: np.ndarray) -> float:
    """Quadratic kappa: 1 - E[(a - b)²] / E[(a - b')²] with b' independent of a."""
    rounded = np.clip(np.rint(prediction / QUALITY_STEP) * QUALITY_STEP, *QUALITY_BOUNDS)
    observed = np.mean((quality - rounded) ** 2)
    by_chance = quality.var() + rounded.var() + (quality.mean() - rounded.mean()) ** 2
    return float(1 - observed / by_chance) if by_chance else float("nan")


def score_slices(wines: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Score wines with `quality` and `prediction`, all together and by type.

    Returns:
        Metrics by slice: `all`, and each wine type that occurs.
    """
    return {
        name: score(part[QUALITY].to_numpy(float), part[PREDICTION].to_numpy(float))
        for name, part in slices(wines).items()
    }


def slices(wines: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Give all wines as `all`, and those of each type that occurs."""
    parts = {"all": wines} | {name: wines[wines[TYPE] == name] for name in WINE_TYPES}
    return {name: part for name, part in parts.items() if len(part)}


def bootstrap_intervals(
    wines: pd.DataFrame, seed: int, resamples: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Say how sure the metrics of predictions are.

    Groups of equal wines are resampled, not wines: what is one wine entered five times has one
    error, not five. Percentile intervals (Efron and Tibshirani, An Introduction to the Bootstrap,
    1993, chapter 13; resampling of clusters: Davison and Hinkley, Bootstrap Methods and their
    Application, 1997, section 3.8).

    Args:
        wines: Wines with the twelve inputs, `quality` and `prediction`.
        seed: Seed of the resampling.
        resamples: Number of bootstrap samples.

    Returns:
        `low` and `high` bound of the 95 % interval, by slice (as in `score_slices`) and metric.
    """
    rng = np.random.default_rng(seed)
    intervals = {}
    for name, part in slices(wines).items():
        quality, prediction = (part[column].to_numpy(float) for column in (QUALITY, PREDICTION))
        groups = wine_groups(part).to_numpy()
        count = groups.max() + 1
        scores = []
        for _ in range(resamples):
            drawn = np.bincount(rng.integers(0, count, count), minlength=count)
            rows = np.repeat(np.arange(len(part)), drawn[groups])
            scores.append(list(score(quality[rows], prediction[rows]).values()))
        bounds = np.nanquantile(scores, TAILS, axis=0).T
        intervals[name] = {
            metric: {"low": float(low), "high": float(high)}
            for metric, (low, high) in zip(METRICS, bounds, strict=True)
        }
    return intervals


def paired_bootstrap(
    loss: np.ndarray,
    other_loss: np.ndarray,
    seed: int,
    resamples: int = 2000,
    groups: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    confidence: float = CONFIDENCE,
) -> tuple[float, float, float]:
    """Compare two models on the same wines.

    Args:
        loss: Loss of each wine under one model, shape (n,).
        other_loss: Loss of the same wines under the other, shape (n,).
        seed: Seed of the resampling.
        resamples: Number of bootstrap samples.
        groups: Number of each wine's group, from 0, shape (n,): wines of a group (equal ones, whose
            errors are equal) are drawn together. None: each wine is drawn by itself.
        weights: Weight of each wine in the mean, shape (n,). None: all count the same.
        confidence: Of the interval.

    Returns:
        Weighted mean of other_loss - loss (positive where the first model is better) and the bounds
        of its percentile interval (Efron and Tibshirani, An Introduction to the Bootstrap,
        1993).
    """
    gain = other_loss - loss
    members = np.arange(len(gain)) if groups is None else groups
    weight = np.ones(len(gain)) if weights is None else weights
    sizes, sums = (np.bincount(members, weights=each) for each in (weight, weight * gain))
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        drawn = rng.integers(0, len(sums), len(sums))
        means.append(sums[drawn].sum() / sizes[drawn].sum())
    low, high = np.quantile(means, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(np.average(gain, weights=weight)), float(low), float(high)


def fold_difference(difference: np.ndarray, test_share: float) -> tuple[float, float, float]:
    """Compare two models by their scores on the same folds.

    The folds' training wines overlap, so the scores are not independent and their plain standard
    error is too small; the variance is corrected for the overlap (Nadeau and Bengio, Inference for
    the Generalization Error, Machine Learning 52, 2003: 1/n is replaced by 1/n plus the number of
    test wines over that of training wines; Bouckaert and Frank, 2004, for repeats).

    Args:
        difference: Difference of the two scores on each fold of each repeat, shape (n,), n >= 2.
        test_share: Share of the wines that a fold judges.

    Returns:
        Mean difference and the bounds of its 95 % interval, by Student's t with n - 1 degrees of
        freedom.
    """
    from scipy.stats import t

    n = len(difference)
    mean = float(np.mean(difference))
    correction = 1 / n + test_share / (1 - test_share)
    error = float(np.sqrt(correction * np.var(difference, ddof=1)))
    reach = float(t.ppf(TAILS[1], n - 1)) * error
    return mean, mean - reach, mean + reach
