"""How far two tables of counts lie apart.

All functions take proportions `p` (window) and `q` (reference) with the bins on the last axis, and
broadcast over the axes before it.
"""

import numpy as np

Size = float | np.ndarray
"""Wines that proportions are worth, one number or shape (…)."""


def ordinal_score(p: np.ndarray, q: np.ndarray, n: Size, m: Size) -> np.ndarray:
    """Two-sample Anderson-Darling distance of binned numbers, as a root.

    sqrt(nm/(n+m) Σ_k w_k (P_k - Q_k)² / (H_k (1 - H_k))), over the inner bin bounds k, with the
    cumulated proportions P, Q and H of window, reference and both pooled, and w_k the pooled mass
    of half the bins on either side. A bound that all or none of the values lie below tells nothing
    and is left out. Source: A. N. Pettitt, "A two-sample Anderson-Darling rank statistic",
    Biometrika 63(1), 1976; for tied values F. W. Scholz and M. A. Stephens, "K-sample
    Anderson-Darling tests", JASA 82(399), 1987. The root makes the distribution under no change
    less skewed, so that columns can be compared by mean and standard deviation.

    Args:
        p: Window's proportions, shape (…, k).
        q: Reference's proportions, shape (…, k).
        n: Wines in the window that the proportions are worth.
        m: Wines in the reference, likewise.

    Returns:
        Distances, shape (…).
    """
    n, m = np.asarray(n), np.asarray(m)
    pooled = _pool(p, q, n, m)
    below = np.cumsum(pooled, axis=-1)[..., :-1]
    apart = np.cumsum(p - q, axis=-1)[..., :-1]
    mass = (pooled[..., :-1] + pooled[..., 1:]) / 2
    spread = below * (1 - below)
    told = spread > 1e-12
    terms = np.divide(mass * apart**2, spread, out=np.zeros_like(spread), where=told)
    return np.asarray(np.sqrt(n * m / (n + m) * terms.sum(axis=-1)))


def nominal_score(p: np.ndarray, q: np.ndarray, n: Size, m: Size) -> np.ndarray:
    """Pearson's two-sample chi-square of categories, as a root.

    sqrt(nm/(n+m) Σ_k (p_k - q_k)² / h_k) with the pooled proportions h; categories that do not
    occur are left out.

    Args:
        p: Window's proportions, shape (…, k).
        q: Reference's proportions, shape (…, k).
        n: Wines in the window that the proportions are worth.
        m: Wines in the reference, likewise.

    Returns:
        Distances, shape (…).
    """
    n, m = np.asarray(n), np.asarray(m)
    pooled = _pool(p, q, n, m)
    terms = np.divide((p - q) ** 2, pooled, out=np.zeros_like(pooled), where=pooled > 0)
    return np.asarray(np.sqrt(n * m / (n + m) * terms.sum(axis=-1)))


def share_moved(p: np.ndarray, q: np.ndarray, *, ordinal: bool) -> np.ndarray:
    """Share of wines that must have moved for `q` to become `p`.

    For numbers the largest share that crossed one bin bound (Kolmogorov's distance), for categories
    the share that changed category (total variation). A shift of a normal column by d standard
    deviations moves 2Φ(d/2) - 1: 20 % for 0.5, 10 % for 0.25, 4 % for 0.1.
    """
    if ordinal:
        return np.asarray(np.abs(np.cumsum(p - q, axis=-1)).max(axis=-1))
    return np.asarray(np.abs(p - q).sum(axis=-1) / 2)


def stability_index(p: np.ndarray, q: np.ndarray, n: Size, m: Size) -> np.ndarray:
    """Population stability index, freed of what chance alone adds to it.

    Σ_k (p_k - q_k) ln(p_k / q_k), each bin holding half a wine more than counted so that an empty
    one does no harm, less its expectation (k - 1)(1/n + 1/m) under no change (B. Yurdakul,
    "Statistical properties of population stability index", Western Michigan University, 2018);
    zero if negative. At 100 wines and 20 bins that expectation is 0.2, twice the customary limit
    of 0.1.
    """
    k = p.shape[-1]
    n, m = np.asarray(n, dtype=float), np.asarray(m, dtype=float)
    noise = (k - 1) * (1 / n + 1 / m)
    n, m = n[..., None], m[..., None]
    smooth_p, smooth_q = (n * p + 0.5) / (n + 0.5 * k), (m * q + 0.5) / (m + 0.5 * k)
    index = ((smooth_p - smooth_q) * np.log(smooth_p / smooth_q)).sum(axis=-1)
    return np.asarray(np.maximum(index - noise, 0))


def _pool(p: np.ndarray, q: np.ndarray, n: np.ndarray, m: np.ndarray) -> np.ndarray:
    n, m = n[..., None], m[..., None]
    return np.asarray((n * p + m * q) / (n + m))
