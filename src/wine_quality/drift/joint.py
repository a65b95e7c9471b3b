"""Which measurements no longer go together: correlations from sums of products."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from wine_quality.drift.reference import ALL, Reference
from wine_quality.wines import MEASUREMENT_NAMES, WINE_TYPES

MOST_PAIRS = 3
"""Pairs named in a reason."""
LEAST_CHANGE = 3.0
"""Standard errors (of Fisher's z) by which a named correlation has changed at least."""


def correlations(
    sums: NDArray[np.float64], reference: Reference
) -> dict[str, tuple[int, NDArray[np.float64]]]:
    """Compute each type's correlations.

    Args:
        sums: One row of a profile's sums, shape (sums,).
        reference: Says where they stand.

    Returns:
        By type: complete wines, and the correlations of the eleven measurements, shape (11, 11),
        NaN where a measurement does not vary.
    """
    layout, size = reference.sums_layout, len(MEASUREMENT_NAMES)
    moments = sums[layout.moments].reshape(len(WINE_TYPES), layout.MOMENTS)
    upper = np.triu_indices(size)
    found: dict[str, tuple[int, NDArray[np.float64]]] = {}
    for kind, (n, *values) in zip(WINE_TYPES, moments.tolist(), strict=True):
        products = np.zeros((size, size))
        products[upper] = values[size:]
        products += np.triu(products, 1).T
        mean = np.array(values[:size]) / max(n, 1)
        covariance = products / max(n, 1) - np.outer(mean, mean)
        spread = np.sqrt(np.maximum(np.diag(covariance), 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation = covariance / np.outer(spread, spread)
        found[kind] = int(n), np.where(np.isfinite(correlation), correlation, np.nan)
    return found


def describe_pairs(sums: NDArray[np.float64], segment: str, reference: Reference) -> str:
    """Say which pairs of measurements no longer go together as in the reference.

    Pairs are ranked by the change of Fisher's z (R. A. Fisher, Biometrika 10(4), 1915) in standard
    errors.

    Args:
        sums: A window's sums.
        segment: The type to look at, or all types.
        reference: What it is compared with.

    Returns:
        Such as "alcohol and density no longer go together: correlation −0.69 → 0.05"; empty if no
        pair has changed by much.
    """
    now, before = correlations(sums, reference), correlations(np.array(reference.sums), reference)
    changes = []
    for kind in WINE_TYPES if segment == ALL else (segment,):
        (n, here), (m, there) = now[kind], before[kind]
        if min(n, m) < 10:
            continue
        error = np.sqrt(1 / (n - 3) + reference.repetition / (m - 3))
        for i, k in combinations(range(len(MEASUREMENT_NAMES)), 2):
            r, q = np.clip([here[i, k], there[i, k]], -0.999, 0.999)
            change = abs(np.arctanh(r) - np.arctanh(q)) / error
            if change >= LEAST_CHANGE:
                changes.append((change, kind, i, k, float(q), float(r)))
    words = []
    for _, kind, i, k, q, r in sorted(changes, reverse=True)[:MOST_PAIRS]:
        first, second = (MEASUREMENT_NAMES[j].replace("_", " ") for j in (i, k))
        of_type = f" ({kind})" if segment == ALL else ""
        words.append(f"{first} and {second}{of_type}: correlation {_signed(q)} → {_signed(r)}")
    return f"no longer go together: {'; '.join(words)}" if words else ""


def _signed(r: float) -> str:
    return f"{r:.2f}".replace("-", "\N{MINUS SIGN}")
