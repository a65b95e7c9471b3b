"""The domain, once: what a wine is, in which units, and which values can be true.

Everything that has to know a wine's columns (reading, the data contract, the models' inputs, the
service's requests, the inference log, the drift profiles) derives it from here.

Sources: columns and units, P. Cortez et al., "Modeling wine preferences by data mining from
physicochemical properties", Decision Support Systems 47(4), 2009, table 1.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

WineType = Literal["red", "white"]
WINE_TYPES: tuple[WineType, ...] = ("red", "white")
TYPE = "type"
QUALITY = "quality"
QUALITY_UNIT = "points of quality"
QUALITY_BOUNDS = (0, 10)
QUALITY_IS_WHOLE = True
"""Whether a quality is a whole number; else any number within the bounds."""
QUALITY_DTYPE = "int64" if QUALITY_IS_WHOLE else "float64"
QUALITY_STEP = 1
"""A difference of quality that people tell apart: the width of the classes that splits are
stratified by, and the measure of what is exact enough."""


@dataclass(frozen=True)
class Measurement:
    """One physicochemical measurement of a wine.

    Attributes:
        name: The column's canonical name.
        unit: Its unit as people write it; empty for a ratio.
        description: What is measured.
        possible: Closed range outside of which a value cannot be a measurement at all.
        plausible: Closed range that real wines keep to; a value outside of it is kept and
            reported. A margin around the extremes of the 6,497 UCI wines.
    """

    name: str
    unit: str
    description: str
    possible: tuple[float, float]
    plausible: tuple[float, float]

    @property
    def label(self) -> str:
        """The name as a figure's axis shows it: words and unit."""
        words = self.name.replace("_", " ")
        return f"{words} ({self.unit})" if self.unit else words


MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement("fixed_acidity", "g/dm³", "Fixed acids, as tartaric acid", (0, 100), (3, 18)),
    Measurement("volatile_acidity", "g/dm³", "Volatile acids, as acetic acid", (0, 20), (0.05, 2)),
    Measurement("citric_acid", "g/dm³", "Citric acid", (0, 20), (0, 2)),
    Measurement("residual_sugar", "g/dm³", "Sugar left after fermentation", (0, 700), (0.3, 120)),
    Measurement("chlorides", "g/dm³", "Chlorides, as sodium chloride", (0, 10), (0.005, 0.9)),
    Measurement("free_sulfur_dioxide", "mg/dm³", "Unbound sulfur dioxide", (0, 2000), (0.5, 350)),
    Measurement("total_sulfur_dioxide", "mg/dm³", "All sulfur dioxide", (0, 3000), (3, 550)),
    Measurement("density", "g/cm³", "Density", (0.7, 1.6), (0.98, 1.06)),
    Measurement("pH", "", "Acidity, pH", (0, 14), (2.5, 4.5)),
    Measurement("sulphates", "g/dm³", "Sulphates, as potassium sulphate", (0, 20), (0.15, 2.5)),
    Measurement("alcohol", "% vol.", "Alcohol", (0, 100), (6, 17)),
)
MEASUREMENT_NAMES: tuple[str, ...] = tuple(m.name for m in MEASUREMENTS)
INPUTS: tuple[str, ...] = (TYPE, *MEASUREMENT_NAMES)
"""The twelve columns that a model takes, in canonical order."""
PREDICTION = "prediction"
PARTS_OF_TOTALS: tuple[tuple[str, str], ...] = (("free_sulfur_dioxide", "total_sulfur_dioxide"),)
"""Pairs of measurements of which the first is a part of the second, so cannot exceed it."""
WINE_EXAMPLE: dict[str, Any] = {
    TYPE: "red",
    "fixed_acidity": 7.4,
    "volatile_acidity": 0.7,
    "citric_acid": 0.0,
    "residual_sugar": 1.9,
    "chlorides": 0.076,
    "free_sulfur_dioxide": 11.0,
    "total_sulfur_dioxide": 34.0,
    "density": 0.9978,
    "pH": 3.51,
    "sulphates": 0.56,
    "alcohol": 9.4,
}
"""What the service's documentation shows."""


def wine_groups(wines: pd.DataFrame) -> pd.Series:
    """Number the wines so that rows with the same twelve inputs share a number.

    Quality is left out: two tasters' verdicts on the same measurements, one on either side of a
    split, leak as much as a copy does. Missing values equal each other.
    """
    return wines.groupby(list(INPUTS), dropna=False, sort=False).ngroup()


def wine_hashes(wines: pd.DataFrame, seed: int = 0) -> NDArray[np.uint64]:
    """Give each wine a number that its twelve inputs alone decide, in every version of the project.

    Measurements count in single precision, so that a wine keeps its number in a log or a lake that
    holds fewer digits. Missing values equal each other, and so do both zeros.

    Args:
        wines: n wines with the twelve inputs.
        seed: Another seed gives other numbers.

    Returns:
        Numbers from 0 to 2⁶⁴ - 1, evenly spread, shape (n,).
    """
    with np.errstate(over="ignore"):
        measured = wines[list(MEASUREMENT_NAMES)].to_numpy("float64").astype("<f4")
    measured[np.isnan(measured)] = np.nan  # one of the many
    measured += 0.0  # -0.0 becomes 0.0
    key = str(seed).encode()
    digests = (
        hashlib.blake2b(f"{kind} ".encode() + row.tobytes(), digest_size=8, key=key).digest()
        for kind, row in zip(wines[TYPE], measured, strict=True)
    )
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def quality_classes(quality: pd.Series) -> pd.Series:
    """Give each quality the lower end of its class, a whole number."""
    return (quality // QUALITY_STEP * QUALITY_STEP).astype("int64")


def fingerprint(wines: pd.DataFrame, columns: Sequence[str] = (*INPUTS, QUALITY)) -> str:
    """Identify wines by content: equal rows in equal order give the same sixteen hex digits."""
    rows = pd.util.hash_pandas_object(wines[list(columns)], index=False)
    return hashlib.sha256(rows.to_numpy().tobytes()).hexdigest()[:16]


def implausible(wines: pd.DataFrame) -> pd.DataFrame:
    """Mark the measurements that no real wine is known to have.

    Args:
        wines: Frame with the measurement columns, n rows.

    Returns:
        Boolean frame of shape (n, 11), true where a value lies outside the plausible range.
        A missing value is not implausible.
    """
    return pd.DataFrame(
        {
            m.name: (wines[m.name] < m.plausible[0]) | (wines[m.name] > m.plausible[1])
            for m in MEASUREMENTS
        },
        index=wines.index,
    )
