"""What the generator of synthetic wines knows about real ones: quantiles, shares, correlations.

The figures of the UCI wines stand in `wine_figures.json` beside this module, which
`wine_quality.traffic.fit_figures` writes.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wine_quality.errors import WineQualityError
from wine_quality.wines import MEASUREMENT_NAMES, PARTS_OF_TOTALS, WINE_TYPES, WineType

FIGURES_FILE = Path(__file__).with_name("wine_figures.json")

Share = Annotated[float, Field(ge=0, le=1)]
Matrix = tuple[tuple[float, ...], ...]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MeasurementFigures(_Strict):
    """One measurement.

    Attributes:
        steps: Share of the values that are recorded in steps of 1/k, by k (10: one decimal).
        knots: The measurement's quantiles at the figures' levels, in its unit.
    """

    steps: dict[Annotated[int, Field(gt=0)], Share] = Field(min_length=1)
    knots: tuple[float, ...]


class BandFigures(_Strict):
    """The wines of one type whose quality lies in one band.

    Attributes:
        quality: Share of each quality within the band.
        measurements: Figures of the eleven measurements, in canonical order.
        correlations: 12 x 12 correlations of the latent normals: the measurements, then quality.
    """

    quality: dict[int, Share] = Field(min_length=1)
    measurements: dict[str, MeasurementFigures]
    correlations: Matrix

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if tuple(self.measurements) != MEASUREMENT_NAMES:
            raise ValueError("measurements are not those of a wine, in canonical order")
        _whole(self.quality, "qualities")
        for name, figures in self.measurements.items():
            _whole(figures.steps, f"steps of {name}")
            if np.any(np.diff(figures.knots) < 0):
                raise ValueError(f"knots of {name} decrease")
        cholesky(self.correlations)
        return self


class TypeFigures(_Strict):
    """One type of wine.

    Attributes:
        rows: Rows of the real file.
        duplicates: Share of rows that repeat an earlier row exactly.
        shares: Share of each band of quality.
        bands: Figures of each band.
    """

    rows: int = Field(gt=0)
    duplicates: Share
    shares: tuple[Share, ...]
    bands: tuple[BandFigures, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if len(self.shares) != len(self.bands):
            raise ValueError("there is not one share per band")
        _whole(dict(enumerate(self.shares)), "bands")
        return self


class Figures(_Strict):
    """All that the generator knows about real wines.

    Attributes:
        source: Where the figures come from.
        licence: Licence of that source.
        levels: Probabilities at which the measurements' quantiles stand, increasing in (0, 1).
        missing: Share of missing values, by measurement; none where it is not named.
        types: Figures of red and of white wines.
    """

    source: str
    licence: str
    levels: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(min_length=2)
    missing: dict[str, Share]
    types: dict[WineType, TypeFigures]

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if set(self.types) != set(WINE_TYPES):
            raise ValueError(f"types are not {', '.join(WINE_TYPES)}")
        if not self.missing.keys() <= set(MEASUREMENT_NAMES):
            raise ValueError("missing names a column that is no measurement")
        if np.any(np.diff(self.levels) <= 0):
            raise ValueError("levels do not increase")
        for band in (band for figures in self.types.values() for band in figures.bands):
            for name, measurement in band.measurements.items():
                if len(measurement.knots) != len(self.levels):
                    raise ValueError(f"{name} has not one knot per level")
            for pair in PARTS_OF_TOTALS:
                part, whole = (np.asarray(band.measurements[name].knots) for name in pair)
                # otherwise redrawing the wines with more of the part might never end
                if np.any(part > whole):
                    raise ValueError(f"{pair[0]} has higher quantiles than {pair[1]}")
        return self


def _whole(shares: dict[int, float], what: str) -> None:
    if not math.isclose(sum(shares.values()), 1, abs_tol=1e-4):
        raise ValueError(f"shares of {what} do not add up to 1")


def cholesky(correlations: Matrix) -> list[list[float]]:
    """Lower triangular factor of a 12 x 12 correlation matrix, row by row up to the diagonal.

    In plain Python, because LAPACK's last bits depend on the processor.

    Raises:
        ValueError: The matrix is no positive definite correlation matrix of that size.
    """
    size = len(MEASUREMENT_NAMES) + 1
    if len(correlations) != size or any(len(row) != size for row in correlations):
        raise ValueError(f"correlations are not {size} x {size}")
    lower: list[list[float]] = []
    for i, row in enumerate(correlations):
        if row[i] != 1 or any(row[j] != correlations[j][i] for j in range(i)):
            raise ValueError("correlations are not symmetric with ones on the diagonal")
        factors: list[float] = []
        for j in range(i):
            known = sum(factors[k] * lower[j][k] for k in range(j))
            factors.append((row[j] - known) / lower[j][j])
        rest = 1 - sum(factor * factor for factor in factors)
        if rest <= 0:
            raise ValueError("correlations are not positive definite")
        lower.append([*factors, math.sqrt(rest)])
    return lower


def read_figures(path: Path) -> Figures:
    """Read the generator's figures from a JSON file.

    Raises:
        WineQualityError: The file is absent, or its figures do not hold together.
    """
    try:
        return Figures.model_validate_json(path.read_bytes())
    except OSError as error:
        raise WineQualityError(
            f"Cannot read the wine figures {path} ({error.strerror}); reinstall the package"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise WineQualityError(
            f"The wine figures {path} are damaged ({where}: {first['msg']}); restore the file, or "
            "fit it anew with python -m wine_quality.traffic.fit_figures UCI_FOLDER"
        ) from None


@cache
def packaged_figures() -> Figures:
    """The figures that come with the package, fitted to the UCI wines."""
    return read_figures(FIGURES_FILE)


def write_figures(figures: Figures, path: Path) -> None:
    """Write figures as JSON that people can read and compare: one line per list of numbers."""
    path.write_text(_lines(figures.model_dump(mode="json")) + "\n", encoding="utf-8")


def _lines(value: object, indent: str = "") -> str:
    inner = indent + "  "
    if isinstance(value, dict) and any(isinstance(v, dict | list) for v in value.values()):
        body = [f"{inner}{json.dumps(k)}: {_lines(v, inner)}" for k, v in value.items()]
        return "\n".join(["{", ",\n".join(body), indent + "}"])
    if isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        body = [inner + _lines(v, inner) for v in value]
        return "\n".join(["[", ",\n".join(body), indent + "]"])
    return json.dumps(value)
