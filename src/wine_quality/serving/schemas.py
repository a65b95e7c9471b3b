"""Requests and answers of the service. Wines derive from `wines.MEASUREMENTS`."""

from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
    field_validator,
    model_validator,
)

from wine_quality.wines import (
    MEASUREMENT_NAMES,
    MEASUREMENTS,
    QUALITY,
    QUALITY_BOUNDS,
    QUALITY_IS_WHOLE,
    WINE_EXAMPLE,
    WineType,
)

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_SCALE = f"{QUALITY_BOUNDS[0]} to {QUALITY_BOUNDS[1]}"
SOURCE_PATTERN = r"^[A-Za-z0-9_.:-]{1,64}$"

_NOT_GIVEN: Any = None
"""Default of what may be left out; the schema has no null there."""

Source = Annotated[
    str, Field(pattern=SOURCE_PATTERN, description="Who asks; a word for the inference log")
]


def _moment(value: Any) -> Any:
    # JSON writes moments as text; a number would be taken for seconds since 1970
    if not isinstance(value, str):
        raise ValueError("should be a text like 2026-01-31T12:00:00Z")  # noqa: TRY004
    return value


def within_the_calendar(moment: datetime) -> datetime:
    """Pass a moment on that a database can hold; `ValueError` for others."""
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError("should lie between 1970 and 2200")
    return moment


Moment = Annotated[
    AwareDatetime,
    Field(strict=False),
    BeforeValidator(_moment, json_schema_input_type=AwareDatetime),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _WineRequest(_Request):
    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["type"]}, {"required": ["red_wine"]}],
            "example": WINE_EXAMPLE,
        }
    )

    type: WineType = Field(_NOT_GIVEN, description="Kind of wine; or give red_wine")
    red_wine: Literal[0, 1] = Field(
        _NOT_GIVEN,
        description="The older way to give the type: 1 red, 0 white",
    )
    event_time: Moment = Field(
        _NOT_GIVEN,
        description="When the wine was measured, 1970 to 2200, with a timezone; now, if not given",
    )

    @field_validator("event_time")
    @classmethod
    def _calendar(cls, moment: datetime) -> datetime:
        return within_the_calendar(moment)

    @model_validator(mode="after")
    def _one_type(self) -> "_WineRequest":
        if (self.type is None) == (self.red_wine is None):
            raise ValueError("give the wine's type, red or white (or red_wine, 0 or 1; not both)")
        return self

    @property
    def kind(self) -> WineType:
        """The type, whichever way it was given."""
        given: WineType | None = self.type
        return given or ("red" if self.red_wine else "white")


def _measurement_fields() -> dict[str, Any]:
    fields = {}
    for m in MEASUREMENTS:
        (low, high), (usual_low, usual_high) = m.possible, m.plausible
        unit = f" in {m.unit}" if m.unit else ""
        text = (
            f"{m.description}{unit}; possible {low:g} to {high:g}, plausible {usual_low:g} to "
            f"{usual_high:g}; null if not measured"
        )
        field = Field(ge=low, le=high, allow_inf_nan=False, description=text)
        fields[m.name] = (Annotated[float | None, field], ...)
    return fields


WineRequest: Any = create_model(
    "Wine",
    __base__=_WineRequest,
    __doc__="A wine: its type and eleven measurements, any of which may be null.",
    **_measurement_fields(),
)
measurements_of = attrgetter(*MEASUREMENT_NAMES)
"""A wine's eleven measurements in canonical order, None for what is missing."""


class PredictRequest(WineRequest):  # type: ignore[misc]
    """One wine, and who asks."""

    source: Source = Field(_NOT_GIVEN, description="Who asks; a word for the inference log")


class BatchRequest(_Request):
    """Wines, and who asks."""

    wines: list[WineRequest] = Field(min_length=1, description="The wines")
    source: Source = Field(_NOT_GIVEN, description="Who asks; a word for the inference log")


class _LabelRequest(_Request):
    prediction_id: UUID = Field(description="As the service answered it")
    labelled_at: Moment = Field(
        _NOT_GIVEN,
        description="When it was tasted, 1970 to 2200, with a timezone; now, if not given",
    )

    @field_validator("labelled_at")
    @classmethod
    def _calendar(cls, moment: datetime) -> datetime:
        return within_the_calendar(moment)


def _quality_field() -> dict[str, Any]:
    low, high = QUALITY_BOUNDS
    field = Field(ge=low, le=high, allow_inf_nan=False, description=_SCALE)
    return {QUALITY: (Annotated[int if QUALITY_IS_WHOLE else float, field], ...)}


Label: Any = create_model(
    "Label",
    __base__=_LabelRequest,
    __doc__="What a taster said of a wine that was predicted.",
    **_quality_field(),
)
quality_of = attrgetter(QUALITY)


class GroundTruthRequest(_Request):
    """Labels; all of them are written, or none."""

    labels: list[Label] = Field(min_length=1, description="The labels")


class Prediction(BaseModel):
    """What the model says of one wine."""

    prediction_id: UUID = Field(description="Name of the prediction; ground truth refers to it")
    prediction: float = Field(description=f"Predicted quality, on the scale {_SCALE}")
    model_version: str = Field(description="The version that answered")
    warnings: list[str] = Field(description="Measurements that no real wine is known to have")


class PredictionBatchAnswer(BaseModel):
    """What the model says of several wines."""

    predictions: list[Prediction] = Field(description="In the order of the wines")


class InvocationsAnswer(BaseModel):
    """MLflow's answer, and what the inference log knows the predictions by."""

    predictions: list[float] = Field(description="Predicted quality, in the order of the rows")
    prediction_ids: list[UUID] = Field(description="Names of the predictions, in the same order")
    model_version: str = Field(description="The version that answered")


class GroundTruthAnswer(BaseModel):
    """What became of the labels."""

    received: int = Field(description="Labels in the request")
    new: int = Field(description="How many of them the log did not have")


class ModelEventAnswer(BaseModel):
    """Something that happened to the model."""

    kind: Literal["loaded", "refused"]
    version: str
    reason: str = Field(description="Why it was refused; empty if it was loaded")
    at: datetime


class ModelAnswer(BaseModel):
    """The version that answers."""

    name: str = Field(description="Name in the registry")
    version: str = Field(description="Version in the registry")
    alias: str = Field(description="The alias that is followed")
    runtime: Literal["onnx", "scikit-learn"] = Field(description="What computes the predictions")
    runtime_reason: str = Field(description="Why it is not ONNX Runtime; empty if it is")
    verified: bool = Field(description="Whether the file's digest was the registry's")
    metrics: dict[str, float] = Field(description="Scores on the held-out wines")
    registered_at: datetime | None = Field(description="When it was registered")
    since: datetime = Field(description="Since when this process answers with it")
    refused: ModelEventAnswer | None = Field(description="A newer version that must not answer")
    events: list[ModelEventAnswer] = Field(description="What happened to the model, newest last")


class HealthAnswer(BaseModel):
    """Whether the service can do its work."""

    status: Literal["alive", "ready"]


class IndexAnswer(BaseModel):
    """What this is."""

    name: str
    description: str
    links: dict[str, str]


REQUESTS: tuple[type[BaseModel], ...] = (PredictRequest, BatchRequest, GroundTruthRequest)
