"""Parameters of the training pipeline."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wine_quality.modelling.candidates import Candidate
from wine_quality.modelling.model_card import CardTexts
from wine_quality.parameters import Parameters


class CrossValidationParameters(Parameters):
    """How wines are divided for cross-validation."""

    folds: int = Field(ge=2, description="Parts of the training wines; each judges once a repeat")
    repeats: int = Field(ge=1, description="How often the wines are divided anew")


class ComparisonParameters(Parameters):
    """How the best candidate is found."""

    metric: Literal["rmse", "mae"] = Field(description="What the best candidate has lowest")
    seed: int = Field(ge=0, description="Of folds, estimators and the bootstrap of the promotion")
    cross_validation: CrossValidationParameters


class AnalysisParameters(Parameters):
    """How closely the best candidate is looked at."""

    seed: int = Field(ge=0, description="Of resampling, dealing and drawing")
    bootstrap_resamples: int = Field(ge=100, description="Samples behind each 95 % interval")
    permutation_repeats: int = Field(ge=2, description="How often each input is dealt anew")
    learning_curve_shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        min_length=2, description="Shares of the training wines that the curve is drawn from"
    )


class TrainingParameters(Parameters):
    """Parameters of the training pipeline."""

    comparison: ComparisonParameters
    analysis: AnalysisParameters
    model_card: CardTexts
    candidates: dict[str, Candidate]

    @model_validator(mode="after")
    def _someone_takes_part(self) -> "TrainingParameters":
        if not any(candidate.enabled for candidate in self.candidates.values()):
            raise ValueError("at least one candidate must be enabled")
        return self
