"""Drift scenarios: wines that are no longer what they were."""

from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wine_quality.errors import WineQualityError
from wine_quality.wines import MEASUREMENT_NAMES, MEASUREMENTS

_POSSIBLE = {m.name: m.possible for m in MEASUREMENTS}


class DriftScenario(BaseModel):
    """Which measurement drifts, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(default=False, description="Whether anything drifts")
    column: str = Field(default="residual_sugar", description="The measurement that drifts")
    rule: Literal["uniform_noise", "shift"] = Field(
        default="uniform_noise",
        description=(
            "uniform_noise: every wine gets its own amount more, drawn between one unit of the "
            "measurement and its standard deviations; shift: every wine gets the same amount more"
        ),
    )
    standard_deviations: float = Field(
        default=3.0,
        allow_inf_nan=False,
        description="Size of the drift in standard deviations of the wines; a shift may be below 0",
    )

    @field_validator("column")
    @classmethod
    def _is_measurement(cls, column: str) -> str:
        if column not in MEASUREMENT_NAMES:
            raise ValueError(f"no measurement: choose {', '.join(MEASUREMENT_NAMES)}")
        return column

    @model_validator(mode="after")
    def _noise_adds(self) -> "DriftScenario":
        if self.rule == "uniform_noise" and self.standard_deviations <= 0:
            raise ValueError("uniform_noise needs standard_deviations above 0")
        return self


def inject_drift(wines: pd.DataFrame, scenario: DriftScenario, seed: int) -> pd.DataFrame:
    """Let one measurement of wines drift.

    ``uniform_noise`` is the rule x + U(1, 3 s), drawn anew for every wine, where s is the sample
    standard deviation of the given wines and 3 the scenario's ``standard_deviations``. Where 3 s is
    below 1 (chlorides, density), the interval is taken the other way round. What would leave the
    range of possible values stops at its end, as a real instrument does. What is missing stays so.

    Args:
        wines: Frame with the scenario's column, n rows.
        scenario: What drifts.
        seed: Seed of the noise.

    Returns:
        A new frame of the same shape; all other columns, quality included, are as they were.

    Raises:
        WineQualityError: If fewer than two wines have the measurement.
    """
    if not scenario.enabled:
        return wines.copy()
    values = wines[scenario.column].astype("float64")
    if values.count() < 2:
        raise WineQualityError(
            f"Drift in {scenario.column} needs at least two wines that have it: ask for more."
        )
    size = scenario.standard_deviations * values.std()
    if scenario.rule == "uniform_noise":
        low, high = sorted((1.0, size))
        drifted = values + np.random.default_rng(seed).uniform(low, high, size=len(values))
    else:
        drifted = values + size
    return wines.assign(**{scenario.column: drifted.clip(*_POSSIBLE[scenario.column])})
