"""Requests and answers of the service. Wines derive from `wines.MEASUREMENTS`."""

from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    create_model,
)

from wine_quality.wines import (
    INPUTS,
    MEASUREMENT_NAMES,
    MEASUREMENTS,
    QUALITY,
    QUALITY_BOUNDS,
    QUALITY_IS_WHOLE,
    TYPE,
    WINE_EXAMPLE,
    WINE_TYPES,
    Measurement,
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
    AfterValidator(within_the_calendar),
]
MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)
SOURCE: TypeAdapter[str] = TypeAdapter(Source)


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Params(_Request):
    """What MLflow calls params; the model has none, the inference log has two."""

    source: Source = Field(_NOT_GIVEN, description="Who asks")
    event_time: Moment = Field(_NOT_GIVEN, description="When the wines were measured")


class _LabelRequest(_Request):
    prediction_id: UUID = Field(description="As the service answered it")
    labelled_at: Moment = Field(
        _NOT_GIVEN,
        description="When it was tasted, 1970 to 2200, with a timezone; now, if not given",
    )


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


# Wines are read as arrays, by `wine_requests`, which a test compares with these.

_SOURCE_SCHEMA = {
    "type": "string", "pattern": SOURCE_PATTERN,
    "description": "Who asks; a word for the inference log",
}  # fmt: skip


def _measurement_schema(m: Measurement) -> dict[str, Any]:
    (low, high), (usual_low, usual_high) = m.possible, m.plausible
    unit = f" in {m.unit}" if m.unit else ""
    return {
        "anyOf": [{"type": "number", "minimum": low, "maximum": high}, {"type": "null"}],
        "description": (
            f"{m.description}{unit}; possible {low:g} to {high:g}, plausible {usual_low:g} to "
            f"{usual_high:g}; null if not measured"
        ),
    }


def _wine_schema(title: str, description: str, **more: Any) -> dict[str, Any]:
    return {
        "title": title,
        "description": description,
        "type": "object",
        "additionalProperties": False,
        "properties": {
            TYPE: {
                "type": "string", "enum": list(WINE_TYPES),
                "description": "Kind of wine; or give red_wine",
            },
            "red_wine": {
                "type": "integer", "enum": [0, 1],
                "description": "The older way to give the type: 1 red, 0 white",
            },
            "event_time": {
                "type": "string", "format": "date-time",
                "description": (
                    "When the wine was measured, 1970 to 2200, with a timezone; now, if not given"
                ),
            },
            **{m.name: _measurement_schema(m) for m in MEASUREMENTS},
            **more,
        },
        "required": list(MEASUREMENT_NAMES),
        "oneOf": [{"required": [TYPE]}, {"required": ["red_wine"]}],
        "example": WINE_EXAMPLE,
    }  # fmt: skip


_ROW = list(WINE_EXAMPLE.values())
_FORMS: dict[str, dict[str, Any]] = {
    "dataframe_split": {
        "type": "object",
        "required": ["columns", "data"],
        "properties": {
            "columns": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
            "data": {"type": "array", "items": {"type": "array"}},
            "index": {"description": "Passed over"},
        },
        "example": {"columns": list(WINE_EXAMPLE), "data": [_ROW]},
    },
    "dataframe_records": {"type": "array", "minItems": 1, "items": {"type": "object"}},
    "inputs": {"description": "Columns by name, or rows by column name"},
    "instances": {"description": "Rows by column name, or columns by name"},
}
FORMS = tuple(_FORMS)
"""MLflow's ways to write down a table in JSON."""
WINE_SCHEMAS: dict[str, dict[str, Any]] = {
    "Wine": _wine_schema(
        "Wine", "A wine: its type and eleven measurements, any of which may be null."
    ),
    "PredictRequest": _wine_schema(
        "PredictRequest", "One wine, and who asks.", source=_SOURCE_SCHEMA
    ),
    "BatchRequest": {
        "title": "BatchRequest",
        "description": "Wines, and who asks.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "wines": {
                "type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Wine"},
                "description": "The wines",
            },
            "source": _SOURCE_SCHEMA,
        },
        "required": ["wines"],
    },
    # it names the columns in words: four forms of a table say it no better
    "Invocation": {
        "title": "Invocation",
        "type": "object",
        "description": f"Exactly one of {', '.join(FORMS)}; the columns are {', '.join(INPUTS)}.",
        "properties": {
            **_FORMS,
            "params": {"anyOf": [{"$ref": "#/components/schemas/Params"}, {"type": "null"}]},
        },
        "additionalProperties": False,
        "oneOf": [{"required": [form]} for form in FORMS],
        "example": {"dataframe_split": _FORMS["dataframe_split"]["example"]},
    },
    "InvocationTable": {
        "title": "InvocationTable",
        "type": "string",
        "description": f"CSV with a header; the columns are {', '.join(INPUTS)}.",
        "example": f"{','.join(WINE_EXAMPLE)}\n{','.join(str(v) for v in _ROW)}\n",
    },
}  # fmt: skip


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

    kind: Literal["loaded", "refused", "withdrawn"]
    version: str
    reason: str = Field(description="Why it was refused; empty otherwise")
    at: datetime


class VersionAnswer(BaseModel):
    """A version that answers."""

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


class ChallengerAnswer(BaseModel):
    """The version that answers beside the champion."""

    shadow_share: float = Field(description="Share of requests that it answers for the log too")
    canary_share: float = Field(description="Share of clients whom it answers")
    trouble: str = Field(description="Why its answers are missing; empty if none are")
    version: VersionAnswer | None = Field(description="The version; null if there is none")
    events: list[ModelEventAnswer] = Field(description="What happened to it, newest last")


class ModelAnswer(VersionAnswer):
    """The version that answers, and the challenger."""

    challenger: ChallengerAnswer | None = Field(
        description="Null where neither shadow nor canary is asked for"
    )


class HealthAnswer(BaseModel):
    """Whether the service can do its work."""

    status: Literal["alive", "ready"]
    warnings: list[str] = Field([], description="What is amiss though the service can answer")


class IndexAnswer(BaseModel):
    """What this is."""

    name: str
    description: str
    links: dict[str, str]
