"""Candidate models: one regression-shaped question, many estimators behind one pipeline."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from wine_quality.errors import WineQualityError
from wine_quality.importing import load_class
from wine_quality.parameters import Parameters
from wine_quality.wines import MEASUREMENT_NAMES, TYPE, WINE_TYPES

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline as Model


class Candidate(Parameters):
    """A model that takes part in the comparison; adding one is a few lines of YAML."""

    estimator: str = Field(description="Class path of an estimator with scikit-learn's interface")
    settings: dict[str, Any] = Field(default={}, description="Arguments of the estimator")
    scale: bool = Field(
        default=False, description="Standardise the measurements (for distances and kernels)"
    )
    enabled: bool = Field(default=True, description="Whether it takes part")


def build_model(candidate: Candidate, seed: int) -> "Model":
    """Build the unfitted model of a candidate: imputation, encoding and estimator in one.

    Missing measurements become the training mean, the type becomes two columns of 0 and 1, so
    that the served model takes wines as they come.

    Args:
        candidate: The estimator and its settings.
        seed: Given to the estimator as `random_state` where it has one.

    Raises:
        WineQualityError: The class cannot be found, or does not take the settings.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    try:
        estimator = load_class(candidate.estimator)(**candidate.settings)
        if "random_state" in estimator.get_params():
            estimator.set_params(random_state=seed)
    except (ImportError, TypeError, ValueError, AttributeError) as error:
        raise WineQualityError(
            f"Candidate {candidate.estimator} with settings {candidate.settings} cannot be built: "
            f"{error}. Correct its estimator or settings in the training parameters."
        ) from error

    imputer = SimpleImputer(strategy="mean", keep_empty_features=True)
    measurements = make_pipeline(imputer, StandardScaler()) if candidate.scale else imputer
    inputs = ColumnTransformer(
        [
            ("type", OneHotEncoder(categories=[list(WINE_TYPES)], sparse_output=False), [TYPE]),
            ("measurements", measurements, list(MEASUREMENT_NAMES)),
        ]
    )
    return Pipeline([("inputs", inputs), ("estimator", estimator)])
