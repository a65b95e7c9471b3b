"""Candidate models: one regression-shaped question, many estimators behind one pipeline."""

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pandas as pd
from pydantic import Field, model_validator

from wine_quality.errors import WineQualityError
from wine_quality.parameters import Parameters
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, QUALITY, TYPE, WINE_TYPES

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline as Model

    from wine_quality.modelling.boosting import EarlyStopped

Choice = bool | int | float | str | None


class _Interval(Parameters):
    low: float = Field(description="Least value")
    high: float = Field(description="Greatest value")
    log: bool = Field(default=False, description="Whether to search on a logarithmic scale")

    @model_validator(mode="after")
    def _bounds_make_sense(self) -> "_Interval":
        if self.low >= self.high:
            raise ValueError(f"low has to be less than high ({self.low} and {self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale needs low above 0 ({self.low})")
        return self


class IntegerRange(_Interval):
    """Whole numbers to search, bounds included."""

    type: Literal["int"]
    low: int = Field(description="Least value")
    high: int = Field(description="Greatest value")

    def holds(self, value: Any) -> bool:
        """Tell whether a value lies in the range."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole and self.low <= value <= self.high


class FloatRange(_Interval):
    """Numbers to search, bounds included."""

    type: Literal["float"]

    def holds(self, value: Any) -> bool:
        """Tell whether a value lies in the range."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high


class Choices(Parameters):
    """Values to choose from."""

    type: Literal["categorical"]
    choices: tuple[Choice, ...] = Field(min_length=2, description="The values")

    def holds(self, value: Any) -> bool:
        """Tell whether a value is one of the choices; 1 is not True here."""
        return any(value == choice and type(value) is type(choice) for choice in self.choices)


SearchRange = Annotated[IntegerRange | FloatRange | Choices, Field(discriminator="type")]


class EarlyStopping(Parameters):
    """How a boosting candidate finds its number of rounds, up to its `n_estimators`."""

    rounds: int = Field(ge=1, description="Rounds without a lower error after which to stop")
    held_back_share: float = Field(
        gt=0, le=0.5, description="Share of the training wines that the error is measured on"
    )


class PublishedFigures(Parameters):
    """What somebody printed for a model on the held-out wines."""

    rmse: float = Field(ge=0, description="Root mean squared error")
    r2: float = Field(le=1, description="Coefficient of determination")


class Candidate(Parameters):
    """A model that takes part in the comparison; adding one is a few lines of YAML."""

    estimator: str = Field(
        pattern=r"^\w+(\.\w+)+$",
        description="Class path of an estimator with scikit-learn's interface",
    )
    settings: dict[str, Any] = Field(default={}, description="Arguments of the estimator")
    scale: bool = Field(
        default=False, description="Standardise the measurements (for distances and kernels)"
    )
    early_stopping: EarlyStopping | None = Field(
        default=None, description="For estimators that take early_stopping_rounds, as XGBoost's"
    )
    enabled: bool = Field(default=True, description="Whether it takes part")
    search_space: dict[str, SearchRange] = Field(
        default={}, description="Settings to tune and where to search; none: it is not tuned"
    )
    tune: bool = Field(default=True, description="Whether the tuning pipeline searches the space")
    quick_tune: bool = Field(default=False, description="Whether the default run does so as well")
    published: PublishedFigures | None = Field(
        default=None, description="Figures that a table sets beside ours; none: it is not in it"
    )

    def with_settings(self, settings: dict[str, Any]) -> "Candidate":
        """Return the candidate with some settings replaced."""
        return self.model_copy(update={"settings": self.settings | settings})


@dataclass(frozen=True)
class FittedCandidate:
    """A candidate fitted on wines.

    Attributes:
        model: A scikit-learn pipeline that takes the twelve inputs.
        curve: Error (RMSE) on held-back wines by round; empty without early stopping.
        rounds: Number of rounds that early stopping chose; None without it.
    """

    model: "Model"
    curve: tuple[float, ...] = ()
    rounds: int | None = None


def build_model(candidate: Candidate, seed: int) -> "Model | EarlyStopped":
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

    kind = _load_estimator(candidate.estimator)
    try:
        estimator = kind(**candidate.settings)
        known = estimator.get_params()
        if "random_state" in known:
            estimator.set_params(random_state=seed)
    except (TypeError, ValueError, AttributeError) as error:
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
    model = Pipeline([("inputs", inputs), ("estimator", estimator)])
    stopping = candidate.early_stopping
    if stopping is None:
        return model
    if "early_stopping_rounds" not in known:
        raise WineQualityError(
            f"Candidate {candidate.estimator} cannot stop early: take early_stopping out of its "
            "training parameters."
        )
    from wine_quality.modelling.boosting import EarlyStopped

    return EarlyStopped(model, stopping.rounds, stopping.held_back_share, seed)


def _load_estimator(path: str) -> Any:
    try:
        return resolve_name(":".join(path.rsplit(".", 1)))
    # importing runs somebody's module, which may fail in any way
    except Exception as error:
        what = "Correct"
        if isinstance(error, ModuleNotFoundError) and error.name:
            package = error.name.partition(".")[0]
            what = f"Install what has {package} ('pip install {package}' for most), or correct"
        raise WineQualityError(
            f"Candidate {path} cannot be imported: {error}. {what} its estimator in the training "
            "parameters."
        ) from error


def fit_candidate(candidate: Candidate, wines: pd.DataFrame, seed: int) -> FittedCandidate:
    """Fit a candidate on labelled wines.

    Raises:
        WineQualityError: The candidate cannot be built, or there are too few wines.
    """
    return unwrap(build_model(candidate, seed).fit(wines[list(INPUTS)], wines[QUALITY]))


def unwrap(fitted: Any) -> FittedCandidate:
    """Take the plain pipeline out of a fitted model that stopped early."""
    if hasattr(fitted, "curve_"):
        return FittedCandidate(fitted.model_, tuple(map(float, fitted.curve_)), fitted.rounds_)
    return FittedCandidate(fitted)
