"""MLflow's scoring protocol: four ways to write down a table.

Source: MLflow documentation, "Deploy MLflow Model as a Local Inference Server", accepted inputs of
`/invocations`. Text and `tf.Tensor`-like inputs without column names cannot be wines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pydantic_core
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wine_quality.serving.problems import FieldError, ProblemError, unusable
from wine_quality.serving.schemas import Moment, Source, within_the_calendar
from wine_quality.wines import INPUTS, MEASUREMENTS, TYPE, WINE_EXAMPLE, WINE_TYPES

FORMS = ("dataframe_split", "dataframe_records", "inputs", "instances")
_NOT_GIVEN: Any = None


class Params(BaseModel):
    """What MLflow calls params; the model has none, the inference log has two."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: Source = Field(_NOT_GIVEN, description="Who asks")
    event_time: Moment = Field(_NOT_GIVEN, description="When the wines were measured")


@dataclass(frozen=True)
class Table:
    """Wines of a request.

    Attributes:
        types: n times `red` or `white`.
        measurements: Shape (n, 11), NaN for what is missing.
        source: Who asks; None if not said.
        event_time: When they were measured; None if not said.
    """

    types: list[str]
    measurements: NDArray[np.float64]
    source: str | None
    event_time: datetime | None


def read_invocation(body: bytes, limit: int) -> Table:
    """Read a request in MLflow's protocol.

    Columns beyond the twelve inputs are passed over, as MLflow does; a missing value is null or
    NaN, which Python's own JSON writer makes of it.

    Args:
        body: JSON.
        limit: Most rows.

    Raises:
        ProblemError: 422 if it holds no wines, or a value that cannot be; 413 if it has too many.
    """
    try:
        content = pydantic_core.from_json(body, allow_inf_nan=True)
    except ValueError:
        raise ProblemError(422, "The body is not JSON.") from None
    if not isinstance(content, dict):
        raise ProblemError(422, f"Give an object with one of {', '.join(FORMS)}.")
    given = [form for form in FORMS if form in content]
    others = [str(key)[:60] for key in content if key not in (*FORMS, "params")]
    if len(given) != 1 or others:
        raise ProblemError(422, f"Give exactly one of {', '.join(FORMS)}, and nothing but params.")
    params = _params(content.get("params"))
    columns = _columns(given[0], content[given[0]])
    n = len(columns[TYPE])
    if not n:
        raise ProblemError(422, f"{given[0]} holds no rows.")
    if n > limit:
        raise ProblemError(413, f"{n} rows are more than the {limit} that a request may have.")
    return Table(*_checked(columns, n), params.source, params.event_time)


def _params(given: Any) -> Params:
    try:
        params = Params.model_validate({} if given is None else given)
        if params.event_time is not None:
            within_the_calendar(params.event_time)
    except (ValidationError, ValueError):
        raise ProblemError(
            422, "params may hold source (a word) and event_time (a moment with a timezone)."
        ) from None
    return params


def _columns(form: str, content: Any) -> Mapping[str, Sequence[Any]]:
    """The twelve inputs by name, equally long."""
    rows: Any = content
    if form == "dataframe_split":
        rows = _split_rows(content)
    elif isinstance(content, dict) and form != "dataframe_records":
        values = {name: v if isinstance(v, list) else [v] for name, v in content.items()}
        return _complete(form, values)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ProblemError(422, f"{form} should be rows whose values are given by column name.")
    _complete(form, rows[0] if rows else dict.fromkeys(INPUTS))
    try:
        return {name: [row[name] for row in rows] for name in INPUTS}
    except KeyError as error:
        raise ProblemError(422, f"A row of {form} lacks {error.args[0]}: give null.") from None


def _split_rows(content: Any) -> list[dict[str, Any]]:
    columns, data = (
        (content.get("columns"), content.get("data")) if isinstance(content, dict) else (None, None)
    )
    if not (
        isinstance(columns, list)
        and all(isinstance(name, str) for name in columns)
        and isinstance(data, list)
        and all(isinstance(row, list) and len(row) == len(columns) for row in data)
    ):
        raise ProblemError(
            422, "dataframe_split should hold columns (names) and data (rows of that length)."
        )
    return [dict(zip(columns, row, strict=True)) for row in data]


def _complete(form: str, columns: Mapping[str, Any]) -> Mapping[str, Any]:
    missing = [name for name in INPUTS if name not in columns]
    if missing:
        raise ProblemError(422, f"{form} lacks the column(s) {', '.join(missing)}: add them.")
    lengths = {len(v) for name, v in columns.items() if name in INPUTS and isinstance(v, list)}
    if len(lengths) > 1:
        raise ProblemError(422, f"The columns of {form} are not equally long.")
    return columns


def _checked(columns: Mapping[str, Sequence[Any]], n: int) -> tuple[list[str], NDArray[np.float64]]:
    mistakes = [
        FieldError(field=f"{i}.{TYPE}", message=f"should be one of {', '.join(WINE_TYPES)}")
        for i, kind in enumerate(columns[TYPE])
        if not isinstance(kind, str) or kind not in WINE_TYPES
    ]
    measurements = np.empty((n, len(MEASUREMENTS)))
    for k, m in enumerate(MEASUREMENTS):
        low, high = m.possible
        for i, value in enumerate(columns[m.name]):
            number = _number(value)
            if number is None or number < low or number > high:
                message = f"should be null or a number from {low:g} to {high:g} {m.unit}".rstrip()
                mistakes.append(FieldError(field=f"{i}.{m.name}", message=message))
            else:
                measurements[i, k] = number
    if mistakes:
        raise unusable(mistakes)
    return list(columns[TYPE]), measurements


def _number(value: Any) -> float | None:
    """A measurement; NaN if it is missing, None if it is no number."""
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


_ROW = list(WINE_EXAMPLE.values())
_TABLE: dict[str, dict[str, Any]] = {
    "dataframe_split": {
        "type": "object",
        "required": ["columns", "data"],
        "properties": {
            "columns": {"type": "array", "items": {"type": "string"}},
            "data": {"type": "array", "items": {"type": "array"}},
            "index": {"description": "Passed over"},
        },
        "example": {"columns": list(WINE_EXAMPLE), "data": [_ROW]},
    },
    "dataframe_records": {"type": "array", "minItems": 1, "items": {"type": "object"}},
    "inputs": {"description": "Columns by name, or rows by column name"},
    "instances": {"description": "Rows by column name, or columns by name"},
}
INVOCATION_SCHEMA: dict[str, Any] = {
    "title": "Invocation",
    "type": "object",
    "description": f"Exactly one of {', '.join(FORMS)}; the columns are {', '.join(INPUTS)}.",
    "properties": {
        **_TABLE,
        "params": {"anyOf": [{"$ref": "#/components/schemas/Params"}, {"type": "null"}]},
    },
    "additionalProperties": False,
    "oneOf": [{"required": [form]} for form in FORMS],
    "example": {"dataframe_split": _TABLE["dataframe_split"]["example"]},
}
"""The request's schema. It names the columns in words: four forms of a table say it no better."""
