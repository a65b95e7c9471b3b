"""Wines as requests write them down, checked once: here, as arrays, and nowhere after.

Source of the forms of `/invocations`: MLflow documentation, "Deploy MLflow Model as a Local
Inference Server". Inputs without column names cannot be wines.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from wine_quality.serving.bodies import parse_json
from wine_quality.serving.problems import FieldError, ProblemError, unusable
from wine_quality.serving.schemas import FORMS, MOMENT, SOURCE, Params
from wine_quality.wines import (
    INPUTS,
    MEASUREMENT_NAMES,
    MEASUREMENTS,
    PARTS_OF_TOTALS,
    TYPE,
    WINE_TYPES,
)

CSV = "text/csv"
MISSING_IN_CSV = frozenset(
    {"", "NA", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "NULL", "null", "None"}
)
"""What a CSV file may say of a measurement that was not made; pandas reads these so, too."""

_POSSIBLE_LOW, _POSSIBLE_HIGH = np.array([m.possible for m in MEASUREMENTS], dtype=np.float64).T
_PLAUSIBLE_LOW, _PLAUSIBLE_HIGH = np.array([m.plausible for m in MEASUREMENTS], dtype=np.float64).T
_PLACE = {name: k for k, name in enumerate(MEASUREMENT_NAMES)}
_NUMBERS = frozenset({float, int, type(None)})
_TYPES, _INPUTS = frozenset(WINE_TYPES), frozenset(INPUTS)
_measurements_of = itemgetter(*MEASUREMENT_NAMES)
_type_of = itemgetter(TYPE)
_RED_WINE, _EVENT_TIME, _SOURCE = "red_wine", "event_time", "source"
_WINE_NAMES = frozenset({*INPUTS, _RED_WINE, _EVENT_TIME})

_T = TypeVar("_T")
_Row = Sequence[Any]
"""Eleven values that should be measurements, or None."""
_NOTHING: _Row = (None,) * len(MEASUREMENTS)
_Table = tuple[list[Any], list[_Row]]
"""The types and rows of n wines, unchecked."""
Place = Callable[[int], str]
"""Where the i-th wine stands in a body; with a dot at its end, or empty."""


@dataclass(frozen=True, eq=False)
class Wines:
    """The n wines of a request, all of which can be.

    Attributes:
        types: n times `red` or `white`.
        measurements: Shape (n, 11), NaN for what is missing.
        event_times: n moments, None where none was given.
        source: Who asks; None if not said.
        implausible: Row and column of each measurement that no real wine is known to have.
    """

    types: Sequence[str]
    measurements: NDArray[np.float64]
    event_times: Sequence[datetime | None]
    source: str | None
    implausible: Sequence[tuple[int, int]]

    def __len__(self) -> int:
        """How many."""
        return len(self.types)

    def warnings(self) -> Sequence[list[str]]:
        """What no real wine is known to have, in words, for each wine."""
        found: list[list[str]] = [[] for _ in self.types]
        for i, k in self.implausible:
            m = MEASUREMENTS[k]
            value = f"{m.name}: {self.measurements[i, k]:g} {m.unit}".rstrip()
            found[i].append(f"{value} is not from {m.plausible[0]:g} to {m.plausible[1]:g}")
        for part, whole in PARTS_OF_TOTALS:
            parts, wholes = (self.measurements[:, _PLACE[name]].tolist() for name in (part, whole))
            for i, (x, y) in enumerate(zip(parts, wholes, strict=True)):
                if x > y:
                    found[i].append(f"{part} is more than {whole}")
        return found


def read_wine(body: bytes) -> Wines:
    """Read the body of `/predict`.

    Raises:
        ProblemError: 422 with the names of all values that cannot be.
    """
    wine = parse_json(body)
    mistakes: list[FieldError] = []
    source = _source(wine, mistakes)
    return _wines([wine], lambda _: "", source, mistakes, frozenset({_SOURCE}))


def read_batch(body: bytes, limit: int) -> Wines:
    """Read the body of `/predict/batch`.

    Args:
        body: JSON.
        limit: Most wines.

    Raises:
        ProblemError: 413 if they are too many; 422 with the names of all values that cannot be.
    """
    content = parse_json(body)
    wines = content.get("wines") if isinstance(content, dict) else None
    if not isinstance(wines, list) or not wines:
        raise unusable([FieldError(field="wines", message="should be a list of at least one wine")])
    check_rows(len(wines), limit)
    mistakes = [
        FieldError(field=str(name), message="is not known here: leave it out")
        for name in content.keys() - {"wines", _SOURCE}
    ]
    source = _source(content, mistakes)
    return _wines(wines, lambda i: f"wines.{i}.", source, mistakes)


def read_table(body: bytes, media_type: str, limit: int) -> Wines:
    """Read the body of `/invocations`.

    Columns beyond the twelve inputs are passed over, as MLflow does. A missing value is null, or
    NaN, which Python's own JSON writer makes of it.

    Args:
        body: JSON in one of `FORMS`, or CSV with a header.
        media_type: `application/json` or `text/csv`.
        limit: Most rows.

    Raises:
        ProblemError: 422 if it holds no wines, or a value that cannot be; 413 if it has too many.
    """
    if media_type == CSV:
        types, rows = _from_csv(body, limit)
        params = Params.model_validate({})
    else:
        form, content, params = _invocation(body)
        types, rows = _READERS[form](form, content, limit)
    n = len(rows)
    measurements, implausible = _checked(types, rows, lambda i: f"{i}.", [], nan_is_missing=True)
    return Wines(types, measurements, [params.event_time] * n, params.source, implausible)


# One wine, or a list of them


def _wines(
    wines: Sequence[Any],
    place: Place,
    source: str | None,
    mistakes: list[FieldError],
    beside: frozenset[str] = frozenset(),
) -> Wines:
    event_times: Sequence[datetime | None] = [None] * len(wines)
    try:
        types, rows = list(map(_type_of, wines)), list(map(_measurements_of, wines))
        beyond = set().union(*wines) - beside - _INPUTS
    except (KeyError, TypeError):
        beyond = {None}
    if beyond == {_EVENT_TIME}:
        event_times = [_event_time(wine, place(i), mistakes) for i, wine in enumerate(wines)]
    elif beyond:
        # an input is missing, or something else stands there
        found = [_one_by_one(w, place(i), beside, mistakes) for i, w in enumerate(wines)]
        types, rows, event_times = (list(column) for column in zip(*found, strict=True))
    measurements, implausible = _checked(types, rows, place, mistakes, nan_is_missing=False)
    return Wines(types, measurements, event_times, source, implausible)


def _one_by_one(
    wine: Any, prefix: str, beside: frozenset[str], mistakes: list[FieldError]
) -> tuple[Any, _Row, datetime | None]:
    """A wine's type, measurements and event time; harmless ones where there is a mistake."""
    here = prefix.rstrip(".") or "body"
    if not isinstance(wine, dict):
        mistakes.append(FieldError(field=here, message="should be an object"))
        return WINE_TYPES[0], _NOTHING, None
    mistakes += [
        FieldError(field=f"{prefix}{name}", message=_unknown(name))
        for name in wine
        if name not in _WINE_NAMES and name not in beside
    ]
    mistakes += [
        FieldError(field=f"{prefix}{name}", message="is missing: give null if it was not measured")
        for name in MEASUREMENT_NAMES
        if name not in wine
    ]
    kind: Any = wine.get(TYPE)
    if (TYPE in wine) == (_RED_WINE in wine):
        text = "give the wine's type, red or white (or red_wine, 0 or 1; not both)"
        mistakes.append(FieldError(field=here, message=text))
        kind = WINE_TYPES[0]
    elif _RED_WINE in wine:
        number = wine[_RED_WINE]
        if type(number) is not int or number not in (0, 1):
            mistakes.append(FieldError(field=f"{prefix}{_RED_WINE}", message="should be 0 or 1"))
        kind = "red" if number else "white"
    row = tuple(wine.get(name) for name in MEASUREMENT_NAMES)
    return kind, row, _event_time(wine, prefix, mistakes)


def _unknown(name: str) -> str:
    meant = _MEANT.get(_spelling(name))
    return f"is not known: write {meant}" if meant else "is not known here: leave it out"


def _event_time(
    wine: Mapping[str, Any], prefix: str, mistakes: list[FieldError]
) -> datetime | None:
    return _optional(MOMENT, wine, _EVENT_TIME, prefix, mistakes)


def _source(content: Any, mistakes: list[FieldError]) -> str | None:
    return _optional(SOURCE, content, _SOURCE, "", mistakes) if isinstance(content, dict) else None


def _optional(
    kind: TypeAdapter[_T],
    content: Mapping[str, Any],
    name: str,
    prefix: str,
    mistakes: list[FieldError],
) -> _T | None:
    if name not in content:
        return None
    try:
        return kind.validate_python(content[name])
    except ValidationError as error:
        message = error.errors(include_url=False, include_input=False)[0]["msg"]
        mistakes.append(FieldError(field=f"{prefix}{name}", message=message))
        return None


# The one check


def _checked(
    types: Sequence[Any],
    rows: Sequence[_Row],
    place: Place,
    mistakes: list[FieldError],
    *,
    nan_is_missing: bool,
) -> tuple[NDArray[np.float64], Sequence[tuple[int, int]]]:
    """The measurements, shape (n, 11), and where the implausible ones stand.

    Args:
        types: n values that should be types.
        rows: n times eleven values that should be measurements or None.
        place: Where they stand.
        mistakes: What has been found before.
        nan_is_missing: Whether a NaN is a missing value; else it is none.

    Raises:
        ProblemError: 422 if there are mistakes.
    """
    if not mistakes and _are_types(types) and _NUMBERS.issuperset(map(type, chain(*rows))):
        # a whole number may be too long for any float
        with suppress(OverflowError):
            measurements = np.array(rows, dtype=np.float64)
            usual = (measurements >= _PLAUSIBLE_LOW) & (measurements <= _PLAUSIBLE_HIGH)
            if usual.all():
                return measurements, ()
            missing = np.isnan(measurements)
            possible = (measurements >= _POSSIBLE_LOW) & (measurements <= _POSSIBLE_HIGH)
            if (possible | missing).all() and (nan_is_missing or not _holds_nan(missing, rows)):
                strange = zip(*np.nonzero(~usual & ~missing), strict=True)
                return measurements, [(int(i), int(k)) for i, k in strange]
    mistakes += _mistakes(types, rows, place, nan_is_missing)
    raise unusable(mistakes)


def _are_types(types: Sequence[Any]) -> bool:
    try:
        return _TYPES.issuperset(types)
    except TypeError:
        return False


def _holds_nan(missing: NDArray[np.bool_], rows: Sequence[_Row]) -> bool:
    """Whether one of the values was a NaN, and not the None that has become one."""
    return any(rows[i][k] is not None for i, k in np.argwhere(missing).tolist())


def _mistakes(
    types: Sequence[Any], rows: Sequence[_Row], place: Place, nan_is_missing: bool
) -> Iterable[FieldError]:
    """Name what `_checked` does not pass."""
    for i, (kind, row) in enumerate(zip(types, rows, strict=True)):
        if not isinstance(kind, str) or kind not in _TYPES:
            message = f"should be one of {', '.join(WINE_TYPES)}"
            yield FieldError(field=f"{place(i)}{TYPE}", message=message)
        for m, value in zip(MEASUREMENTS, row, strict=True):
            low, high = m.possible
            nan = isinstance(value, float) and math.isnan(value)
            if not (
                value is None
                or (nan and nan_is_missing)
                or (type(value) in _NUMBERS and low <= value <= high)
            ):
                message = f"should be null or a number from {low:g} to {high:g} {m.unit}".rstrip()
                yield FieldError(field=f"{place(i)}{m.name}", message=message)


# Tables


def _invocation(body: bytes) -> tuple[str, Any, Params]:
    content = parse_json(body)
    if not isinstance(content, dict):
        raise ProblemError(422, f"Give an object with one of {', '.join(FORMS)}.")
    given = [form for form in FORMS if form in content]
    if len(given) != 1 or content.keys() - {*FORMS, "params"}:
        raise ProblemError(422, f"Give exactly one of {', '.join(FORMS)}, and nothing but params.")
    params = content.get("params")
    try:
        return given[0], content[given[0]], Params.model_validate({} if params is None else params)
    except ValidationError:
        raise ProblemError(
            422, "params may hold source (a word) and event_time (a moment with a timezone)."
        ) from None


def _from_split(form: str, content: Any, limit: int) -> _Table:
    names, data = (
        (content.get("columns"), content.get("data")) if isinstance(content, dict) else (None, None)
    )
    if not (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and isinstance(data, list)
        and all(isinstance(row, list) and len(row) == len(names) for row in data)
    ):
        raise ProblemError(
            422, f"{form} should hold columns (names) and data (rows of that length)."
        )
    return _from_rows(form, names, data, limit)


def _from_rows(form: str, names: Sequence[str], data: Sequence[Any], limit: int) -> _Table:
    """Rows whose values stand in the order of their columns' names."""
    _check_names(form, names)
    check_rows(len(data), limit, form)
    places = [names.index(name) for name in INPUTS]
    return [row[places[0]] for row in data], list(map(itemgetter(*places[1:]), data))


def _from_records(form: str, rows: Any, limit: int) -> _Table:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ProblemError(422, f"{form} should be rows whose values are given by column name.")
    check_rows(len(rows), limit, form)
    _check_names(form, list(dict.fromkeys(chain(*rows))))
    try:
        return list(map(_type_of, rows)), list(map(_measurements_of, rows))
    except KeyError as error:
        raise ProblemError(422, f"A row of {form} lacks {error.args[0]}: give null.") from None


def _from_either(form: str, content: Any, limit: int) -> _Table:
    """Columns by name, a single value standing for a column of one; or records."""
    if not isinstance(content, dict):
        return _from_records(form, content, limit)
    _check_names(form, list(content))
    columns = [v if isinstance(v, list) else [v] for v in map(content.__getitem__, INPUTS)]
    if len(set(map(len, columns))) > 1:
        raise ProblemError(422, f"The columns of {form} are not equally long.")
    check_rows(len(columns[0]), limit, form)
    return columns[0], list(zip(*columns[1:], strict=True))


def _from_csv(body: bytes, limit: int) -> _Table:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ProblemError(422, "The CSV is not encoded in UTF-8.") from None
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = next(lines, [])
        # empty lines count, and are left out
        data = list(islice(lines, limit + 1))
    except csv.Error:
        raise ProblemError(422, f"Line {lines.line_num} of the CSV cannot be read.") from None
    if len(data) > limit:
        check_rows(len(data), limit)
    rows = [line for line in data if line]
    if any(len(row) != len(names) for row in rows):
        raise ProblemError(422, f"The CSV should have {len(names)} values a line, as its header.")
    types, texts = _from_rows("The CSV", names, rows, limit)
    return types, [tuple(map(_number_in_csv, row)) for row in texts]


def _number_in_csv(text: str) -> float | str | None:
    """The number that a text is; None where it says that there is none; else the text."""
    if text in MISSING_IN_CSV:
        return None
    try:
        # Python reads 1_000 and the digits of all scripts
        return float(text) if text.isascii() and "_" not in text else text
    except ValueError:
        return text


def _check_names(form: str, names: Sequence[str]) -> None:
    """Refuse a table that lacks an input, or has it more than once in any spelling."""
    times = Counter(names)
    mistakes = [
        FieldError(field=name, message="is the name of more than one column: keep one")
        for name, n in times.items()
        if n > 1
    ]
    for name in times.keys() - _INPUTS:
        if (meant := _MEANT.get(_spelling(name))) in times:
            message = f"means {meant}, which is there too: keep one"
            mistakes.append(FieldError(field=name, message=message))
    if mistakes:
        raise unusable(mistakes)
    missing = [name for name in INPUTS if name not in times]
    if missing:
        raise ProblemError(422, f"{form} lacks the column(s) {', '.join(missing)}: add them.")


def _spelling(name: str) -> str:
    """What all spellings of a column's name have in common."""
    letters = "".join(letter for letter in name.lower() if letter.isalnum())
    return letters.replace("sulph", "sulf")


def check_rows(n: int, limit: int, form: str = "The request") -> None:
    """Refuse a request with no rows, or with more than it may have."""
    if n > limit:
        raise ProblemError(413, f"{n} rows are more than the {limit} that a request may have.")
    if not n:
        raise ProblemError(422, f"{form} holds no rows.")


_MEANT = {**{_spelling(name): name for name in INPUTS}, _spelling(_RED_WINE): TYPE}
_READERS: Mapping[str, Callable[[str, Any, int], _Table]] = {
    "dataframe_split": _from_split,
    "dataframe_records": _from_records,
    "inputs": _from_either,
    "instances": _from_either,
}
