"""Which measurements no longer go together: correlations from sums of products."""

from functools import lru_cache

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
    """Say what `changed_pairs` finds, as part of a reason; empty if it finds nothing."""
    pairs = changed_pairs(sums, segment, reference)
    return f"no longer go together: {pairs}" if pairs else ""


def changed_pairs(sums: NDArray[np.float64], segment: str, reference: Reference) -> str:
    """Find the pairs of measurements that go together otherwise than in the reference.

    Pairs are ranked by the change of Fisher's z (R. A. Fisher, Biometrika 10(4), 1915) in standard
    errors.

    Args:
        sums: A window's sums.
        segment: The type to look at, or all types.
        reference: What it is compared with.

    Returns:
        Such as "alcohol and density: correlation −0.69 → 0.05"; empty if no pair has changed by
        much.
    """
    now, before = correlations(sums, reference), _usual_correlations(reference)
    pairs = np.triu_indices(len(MEASUREMENT_NAMES), 1)
    changes: list[tuple[float, str, int, int, float, float]] = []
    for kind in WINE_TYPES if segment == ALL else (segment,):
        (n, here), (m, there) = now[kind], before[kind]
        if min(n, m) < 10:
            continue
        error = np.sqrt(1 / (n - 3) + reference.repetition / (m - 3))
        after, usual = (np.clip(table[pairs], -0.999, 0.999) for table in (here, there))
        moved = np.abs(np.arctanh(after) - np.arctanh(usual)) / error
        changes += [
            (float(moved[pair]), kind, int(pairs[0][pair]), int(pairs[1][pair]), float(usual[pair]),
             float(after[pair]))
            for pair in np.flatnonzero(moved >= LEAST_CHANGE)
        ]  # fmt: skip
    words = []
    for _, kind, i, k, q, r in sorted(changes, reverse=True)[:MOST_PAIRS]:
        first, second = (MEASUREMENT_NAMES[j].replace("_", " ") for j in (i, k))
        of_type = f" ({kind})" if segment == ALL else ""
        words.append(f"{first} and {second}{of_type}: correlation {_signed(q)} → {_signed(r)}")
    return "; ".join(words)


@lru_cache(maxsize=64)
def _usual_correlations(reference: Reference) -> dict[str, tuple[int, NDArray[np.float64]]]:
    return correlations(np.array(reference.sums), reference)


def _signed(r: float) -> str:
    return f"{r:.2f}".replace("-", "\N{MINUS SIGN}")
