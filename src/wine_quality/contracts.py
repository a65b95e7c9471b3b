"""Data contracts: frames of wines, as the catalog and the service check them.

They stand apart from `wines`, whose constants everything imports: Pandera takes time and memory
that the counting of a log has no use for.
"""

import pandera.pandas as pa

from wine_quality.wines import (
    MEASUREMENTS,
    QUALITY,
    QUALITY_BOUNDS,
    QUALITY_DTYPE,
    TYPE,
    WINE_TYPES,
)


def _measurement_columns() -> dict[str, pa.Column]:
    return {
        m.name: pa.Column(
            float, pa.Check.in_range(*m.possible), nullable=True, description=m.description
        )
        for m in MEASUREMENTS
    }


WINE_INPUTS = pa.DataFrameSchema(
    {TYPE: pa.Column(str, pa.Check.isin(WINE_TYPES)), **_measurement_columns()},
    name="WineInputs",
    coerce=True,
)
"""Wines as a model takes them: the twelve inputs, measurements nullable; other columns pass."""

LABELLED_WINES = WINE_INPUTS.add_columns(
    {QUALITY: pa.Column(QUALITY_DTYPE, pa.Check.in_range(*QUALITY_BOUNDS))}
)
LABELLED_WINES.name = "LabelledWines"
"""Wines with the tasters' quality, an integer from 0 to 10."""
