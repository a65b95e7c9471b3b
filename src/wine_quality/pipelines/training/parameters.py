"""Parameters of the training pipeline."""

from typing import Literal

from pydantic import Field, model_validator

from wine_quality.modelling.candidates import Candidate
from wine_quality.parameters import Parameters


class CrossValidationParameters(Parameters):
    """How wines are divided for cross-validation."""

    folds: int = Field(ge=2)
    repeats: int = Field(ge=1)


class ComparisonParameters(Parameters):
    """How the best candidate is found."""

    metric: Literal["rmse", "mae"] = Field(description="What the best candidate has lowest")
    seed: int = Field(ge=0)
    cross_validation: CrossValidationParameters


class TrainingParameters(Parameters):
    """Parameters of the training pipeline."""

    comparison: ComparisonParameters
    candidates: dict[str, Candidate]

    @model_validator(mode="after")
    def _someone_takes_part(self) -> "TrainingParameters":
        if not any(candidate.enabled for candidate in self.candidates.values()):
            raise ValueError("at least one candidate must be enabled")
        return self
