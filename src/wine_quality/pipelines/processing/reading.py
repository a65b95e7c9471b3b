"""Reads raw wine files as text and sorts their rows into accepted and rejected wines."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from itertools import pairwise

import numpy as np
import pandas as pd
from kedro.io import DatasetError

from wine_quality.errors import WineQualityError
from wine_quality.wines import (
    INPUTS,
    MEASUREMENT_NAMES,
    MEASUREMENTS,
    QUALITY,
    QUALITY_BOUNDS,
    QUALITY_DTYPE,
    QUALITY_IS_WHOLE,
    TYPE,
    WINE_TYPES,
)

SOURCE, LINE, FIELDS, REASON = "source", "line", "fields", "reason"
LABELLED_COLUMNS = (*INPUTS, QUALITY)
# how the files of today's Excel begin, which are ZIP archives, and those of older ones
_EXCEL = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
# lines in which a header is looked for that is not the first
_PREAMBLE = 20
_LONGEST_HEADER = 10_000


def read_file(source: str, text: str) -> pd.DataFrame:
    """Read one raw file in UCI's or Kaggle's form, keeping every value as it is written.

    UCI's form separates by `;`, has spaces in its names and tells the type by the file's name;
    Kaggle's separates by `,`, has underscores and a `type` column.

    Args:
        source: The file's name, for messages and for the type of a file without a `type` column.
        text: Its content.

    Returns:
        One row for each line of data with the thirteen labelled columns as strings, `source`,
        `line` (1 is the header's line) and `fields` (the line's values joined by `|` where their
        number is not the header's, else empty).

    Raises:
        WineQualityError: The file is empty, holds no wine, or its header lacks or repeats a column.
    """
    # a byte order mark would become part of the first column's name
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise WineQualityError(f"{source} is empty: replace it by a wine file or remove it.")
    first_line = next(line for line in text.splitlines() if line.strip())
    lines = _lines(source, text, _delimiter(first_line))
    # a file of nothing but delimiters has no header
    _, header = next(lines, (1, []))
    names = _names(header)
    _check_header(source, names, text)

    width = len(names)
    records, numbers, ragged = [], [], []
    for number, values in lines:
        fits = len(values) == width
        records.append(values if fits else [""] * width)
        ragged.append("" if fits else "|".join(values))
        numbers.append(number)
    if not records:
        raise WineQualityError(f"{source} has a header and no wine: add wines or remove the file.")
    table = pd.DataFrame(records, columns=names, dtype=str)
    if TYPE not in table:
        table[TYPE] = _type_from_name(source)
    table = pd.DataFrame({name: table[name].str.strip() for name in LABELLED_COLUMNS})
    table[SOURCE], table[LINE], table[FIELDS] = source, np.array(numbers, dtype=np.int64), ragged
    return table


def _lines(source: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, values) of every line that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    # a quoted value may go on for lines: the first one is where a person has to look
    first = 1
    try:
        for values in reader:
            if any(value.strip() for value in values):
                yield first, values
            first = reader.line_num + 1
    except csv.Error as error:
        raise WineQualityError(f"{source}: line {first} is not CSV ({error}): fix it.") from error


def _delimiter(line: str) -> str:
    return ";" if line.count(";") > line.count(",") else ","


def _names(header: Iterable[str]) -> list[str]:
    return [name.strip().replace(" ", "_") for name in header]


def _check_header(source: str, names: list[str], text: str) -> None:
    missing = [c for c in LABELLED_COLUMNS if c not in names and c != TYPE]
    repeated = [a for a, b in pairwise(sorted(names)) if a == b and a in LABELLED_COLUMNS]
    if repeated:
        advice = (
            f"rename one of the two, since {missing[0]} is missing"
            if missing
            else "remove one of the two"
        )
        raise WineQualityError(
            f"{source}: column {repeated[0]} stands twice in the header: {advice}."
        )
    if missing:
        _check_place_of_header(source, names, text)
    if missing and len(names) == 1:
        raise WineQualityError(
            f"{source} is not separated by ';' or ',' (its first line is {names[0]}): save it as "
            "CSV, or remove the file."
        )
    if missing:
        one = len(missing) == 1
        column, are, it = ("column", "is", "it") if one else ("columns", "are", "them")
        renamed = _find_renamed(missing, names)
        advice = f"add {it}, or remove the file"
        if renamed:
            pairs = ", ".join(f"{theirs} to {ours}" for ours, theirs in renamed.items())
            advice = f"rename {pairs}, if that is what is meant; else {advice}"
        raise WineQualityError(
            f"{source}: {column} {', '.join(missing)} {are} missing from the header "
            f"({', '.join(names)}): {advice}."
        )


def _check_place_of_header(source: str, names: list[str], text: str) -> None:
    """Refuse a file that has lines before its header, or no header.

    Raises:
        WineQualityError: It is one.
    """
    for number, line in enumerate(text.splitlines()[:_PREAMBLE], start=1):
        if len(line) > _LONGEST_HEADER:
            continue
        found = _names(next(csv.reader([line], delimiter=_delimiter(line)), []))
        # quality may have another name, of which the next message tells
        if names != found and len({*INPUTS} & {*found}) >= len(MEASUREMENT_NAMES):
            raise WineQualityError(
                f"{source}: its header is in line {number}: remove the lines before it."
            )
    is_number = _numbers(pd.Series(names, dtype=str)).notna()
    if len(names) > 1 and is_number.sum() > len(names) / 2:
        raise WineQualityError(
            f"{source} has no header, its first line holds a wine: put a line with the names of "
            f"its columns before it ({', '.join((*MEASUREMENT_NAMES, QUALITY))}), in their order."
        )


def _find_renamed(missing: list[str], names: list[str]) -> dict[str, str]:
    """Find the columns of a header that may be those that are missing; by the missing one's name.

    Those that are spelt alike, and, if quality alone remains, the only other one.
    """
    unknown = {name.lower(): name for name in names if name not in LABELLED_COLUMNS and name}
    renamed = {}
    for ours in missing:
        for like in get_close_matches(ours.lower(), unknown, n=1, cutoff=0.8):
            renamed[ours] = unknown.pop(like)
    if [*set(missing) - renamed.keys()] == [QUALITY] and len(unknown) == 1:
        renamed[QUALITY] = unknown.popitem()[1]
    return renamed


def _type_from_name(source: str) -> str:
    named = [wine_type for wine_type in WINE_TYPES if wine_type in source.lower()]
    if len(named) != 1:
        raise WineQualityError(
            f"{source} has no `{TYPE}` column and its name does not tell the type: "
            f"add the column, or put one of {', '.join(WINE_TYPES)} into the file's name."
        )
    return named[0]


def read_files(files: Mapping[str, str | Callable[[], str]]) -> pd.DataFrame:
    """Read a folder of raw files, in the order of their names.

    Args:
        files: Text, or a function that loads it, by file name.

    Returns:
        The rows of all files as `read_file` gives them.

    Raises:
        WineQualityError: There is no file, or one cannot be read; the message names it.
    """
    if not files:
        raise WineQualityError("The raw folder holds no CSV file: put wine files into it.")
    tables = []
    for source, content in sorted(files.items()):
        try:
            tables.append(read_file(source, content if isinstance(content, str) else content()))
        except (UnicodeDecodeError, DatasetError) as error:
            # Kedro's datasets wrap what went wrong
            problem = error.__cause__ if isinstance(error, DatasetError) else error
            if not isinstance(problem, UnicodeDecodeError):
                raise
            raise WineQualityError(_about_bytes(source, problem)) from error
    return pd.concat(tables, ignore_index=True)


def _about_bytes(source: str, problem: UnicodeDecodeError) -> str:
    """Say why a file is no text, and where a person has to look."""
    content, start = problem.object, problem.start
    if content.startswith(_EXCEL):
        return f"{source} is an Excel file: export it as CSV."
    before = content[:start]
    # what comes before is text; a character may take several bytes
    column = len(before[before.rfind(b"\n") + 1 :].decode()) + 1
    line = before.count(b"\n") + 1
    return (
        f"{source} is not UTF-8 text ({problem.reason} in line {line}, column {column}): save it "
        "as UTF-8."
    )


def sort_rows(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sort rows into wines that can be true and rows that cannot.

    A missing measurement is accepted (models impute it) as long as one other is present; a missing
    type or quality, text in a number, an impossible value or a wrong number of fields is rejected.

    Args:
        table: n rows as `read_files` gives them.

    Returns:
        Accepted wines with typed columns, `source` and `line`; and rejected rows with every
        original value as text, `source`, `line`, `fields` and `reason`. Their lengths sum to n.
    """
    numbers = {name: _numbers(table[name]) for name in (*MEASUREMENT_NAMES, QUALITY)}
    reasons = pd.Series("", index=table.index)

    def reject(rows: pd.Series, reason: str, shown: str | None = None) -> None:
        text = f"{reason}: " + table[shown] if shown else reason
        new = rows & (reasons == "")
        reasons[new] = text[new] if isinstance(text, pd.Series) else text

    reject(table[FIELDS] != "", "wrong number of fields")
    reject(~table[TYPE].isin(WINE_TYPES), f"{TYPE} is none of {', '.join(WINE_TYPES)}", TYPE)
    for name in (*MEASUREMENT_NAMES, QUALITY):
        comma = table[name].str.fullmatch(r"[+-]?\d+,\d+")
        reject(comma, f"{name} has a decimal comma where a point has to be", name)
        reject((table[name] != "") & numbers[name].isna(), f"{name} is not a number", name)
    for m in MEASUREMENTS:
        outside = (numbers[m.name] < m.possible[0]) | (numbers[m.name] > m.possible[1])
        reject(outside, f"{m.name} is impossible", m.name)
    quality = numbers[QUALITY]
    reject(quality.isna(), f"{QUALITY} is missing")
    low, high = QUALITY_BOUNDS
    kind = "whole number" if QUALITY_IS_WHOLE else "number"
    possible = quality.between(low, high) & ((quality % 1 == 0) | (not QUALITY_IS_WHOLE))
    reject(~possible, f"{QUALITY} is not a {kind} from {low} to {high}", QUALITY)
    reject(
        pd.concat([numbers[name] for name in MEASUREMENT_NAMES], axis=1).isna().all(axis=1),
        "all measurements are missing",
    )

    accepted = reasons == ""
    wines = pd.DataFrame({TYPE: table[TYPE]} | numbers | {SOURCE: table[SOURCE], LINE: table[LINE]})
    wines = wines[accepted].astype({QUALITY: QUALITY_DTYPE}).reset_index(drop=True)
    rejected = table[~accepted].assign(**{REASON: reasons[~accepted]}).reset_index(drop=True)
    return wines, rejected


def _numbers(text: pd.Series) -> pd.Series:
    """Parse finite decimal numbers; anything else, empty text included, becomes NaN."""
    numbers = pd.to_numeric(text.where(text != ""), errors="coerce").astype(float)
    return numbers.where(np.isfinite(numbers))
