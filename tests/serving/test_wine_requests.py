"""One reader of wines: what it takes is what the document says, in whatever form they come."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wine_quality.serving.problems import ProblemError
from wine_quality.serving.schemas import WINE_SCHEMAS
from wine_quality.serving.wine_requests import CSV, read_batch, read_table, read_wine
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, MEASUREMENTS, TYPE
from wine_quality.wines import WINE_EXAMPLE as WINE

JSON = "application/json"
ROW = list(WINE.values())


def fields(refused: Any) -> list[str]:
    return [error.field for error in refused.value.errors]


def read(body: Any, limit: int = 10) -> Any:
    return read_table(json.dumps(body).encode(), JSON, limit)


def read_csv(text: str, limit: int = 10) -> Any:
    return read_table(text.encode(), CSV, limit)


# The document


odd = st.sampled_from(
    [None, True, False, 0, 1, 2, -1, 7.5, 1e300, 10**400, "", "red", "7", [], {}, "2026-01-31"]
)
values = st.one_of(
    odd,
    st.floats(-10, 3500, allow_nan=False),
    st.sampled_from([m.possible[1] for m in MEASUREMENTS]),
)


@given(
    changed=st.dictionaries(
        st.sampled_from([*INPUTS, "red_wine", "Alcohol", "x"]), values, max_size=3
    ),
    left_out=st.sets(st.sampled_from(INPUTS), max_size=2),
    source=st.none() | st.sampled_from(["cellar", "", "a b", 3, "x" * 65]),
)
def test_the_reader_takes_what_the_document_says(
    changed: dict[str, Any], left_out: set[str], source: Any
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    wine = {k: v for k, v in {**WINE, **changed}.items() if k not in left_out}
    single = wine if source is None else {**wine, "source": source}
    checker = jsonschema.Draft202012Validator
    valid = checker(WINE_SCHEMAS["PredictRequest"]).is_valid(single)
    # 1.0 and True are an integer 1 in JSON Schema and in Python, and not to us
    number = wine.get("red_wine", 0)
    valid &= type(number) is int
    body = json.dumps(single).encode()
    if valid:
        wines = read_wine(body)
        assert wines.source == source
        expected = [math.nan if wine[name] is None else wine[name] for name in MEASUREMENT_NAMES]
        np.testing.assert_array_equal(wines.measurements, [expected])
    else:
        with pytest.raises(ProblemError) as refused:
            read_wine(body)
        assert refused.value.status == 422
        assert refused.value.errors


def test_every_mistake_of_every_wine_is_named() -> None:
    wines = [
        WINE,
        {**WINE, "pH": 15, "alcohol": "strong", "Density": 1},
        3,
        {k: v for k, v in WINE.items() if k not in {TYPE, "density"}},
        {**WINE, TYPE: "rosé", "event_time": "yesterday"},
    ]
    with pytest.raises(ProblemError) as refused:
        read_batch(json.dumps({"wines": wines, "source": "a b"}).encode(), 10)
    assert sorted(fields(refused)) == [
        "source", "wines.1.Density", "wines.1.alcohol", "wines.1.pH", "wines.2",
        "wines.3", "wines.3.density", "wines.4.event_time", "wines.4.type",
    ]  # fmt: skip
    messages = {e.field: e.message for e in refused.value.errors}
    assert messages["wines.1.Density"] == "is not known: write density"
    assert messages["wines.1.pH"] == "should be null or a number from 0 to 14"
    assert messages["wines.3.density"] == "is missing: give null if it was not measured"


@pytest.mark.parametrize("m", MEASUREMENTS, ids=lambda m: m.name)
def test_what_is_plausible_is_possible(m: Any) -> None:
    assert m.possible[0] <= m.plausible[0] < m.plausible[1] <= m.possible[1]


def test_the_shortest_lists_are_refused() -> None:
    for body, status in (({"wines": []}, 422), ({"wines": [WINE] * 3}, 413), ([], 422), (3, 422)):
        with pytest.raises(ProblemError) as refused:
            read_batch(json.dumps(body).encode(), 2)
        assert refused.value.status == status


# A thing said twice


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ([*WINE, "alcohol"], ["alcohol"]),
        ([*WINE, "vintage", "vintage"], ["vintage"]),
        ([*WINE, "fixed acidity"], ["fixed acidity"]),
        ([*WINE, "Fixed-Acidity"], ["Fixed-Acidity"]),
        ([*WINE, "ph"], ["ph"]),
        ([*WINE, "sulfates"], ["sulfates"]),
        ([*WINE, "totalSulphurDioxide"], ["totalSulphurDioxide"]),
        ([*WINE, "red_wine"], ["red_wine"]),
        ([*WINE, "pH", "PH"], ["pH", "PH"]),
    ],
)
def test_a_column_that_is_there_twice_is_refused_by_name(
    columns: list[str], named: list[str]
) -> None:
    row = [*ROW, *[1.0] * (len(columns) - len(ROW))]
    record = dict(zip(columns, row, strict=True))
    forms: list[Any] = [{"dataframe_split": {"columns": columns, "data": [row]}}]
    if len(record) == len(row):
        forms += [
            {"dataframe_records": [record]},
            {"inputs": {name: [value] for name, value in record.items()}},
            {"instances": [WINE, record]},
        ]
    for form in forms:
        with pytest.raises(ProblemError) as refused:
            read(form)
        assert fields(refused) == named
    text = ",".join(columns) + "\n" + ",".join(map(str, row))
    with pytest.raises(ProblemError) as refused:
        read_csv(text)
    assert fields(refused) == named


def test_other_columns_are_passed_over() -> None:
    columns = ["", "vintage", *WINE, "phone", "winetype"]
    wines = read({"dataframe_split": {"columns": columns, "data": [[0, 1997, *ROW, "x", None]]}})
    np.testing.assert_array_equal(wines.measurements, [ROW[1:]])


# CSV


def test_a_csv_is_read_as_mlflow_reads_it() -> None:
    text = (
        '\ufeff"",' + ",".join(reversed(WINE)) + ',"a, note"\r\n'
        + "0," + ",".join(map(str, reversed(ROW))) + ',"one\r\ntwo"\r\n'
        + "\r\n"
        + "1," + ",".join(["NaN", "NA", "", "null", "1e0", *map(str, reversed(ROW[:7]))]) + ",\r\n"
    )  # fmt: skip
    wines = read_csv(text)
    assert wines.types == ["red", "red"]
    first, second = wines.measurements
    np.testing.assert_array_equal(first, ROW[1:])
    # alcohol, sulphates, pH and density are missing, total sulfur dioxide is 1e0
    assert np.isnan(second).tolist() == [False] * 7 + [True] * 4
    assert second[6] == 1


HEADER = ",".join(WINE)
LINE = ",".join(map(str, ROW))


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("", 422, "lacks the column(s) type, fixed_acidity"),
        (HEADER, 422, "The CSV holds no rows"),
        (HEADER + "\n\n\n", 422, "The CSV holds no rows"),
        (HEADER.replace(",", ";") + "\n" + LINE.replace(",", ";"), 422, "lacks the column(s) type"),
        (HEADER + "\n" + LINE + ",1", 422, "12 values a line"),
        (HEADER + "\n" + LINE + "\n3", 422, "12 values a line"),
        (HEADER + '\n"red' + LINE, 422, "Line 2 of the CSV cannot be read"),
        (HEADER + '\n"red"x' + LINE, 422, "Line 2 of the CSV cannot be read"),
        (HEADER + "\n" + "x" * 200_000 + LINE, 422, "Line 2 of the CSV cannot be read"),
        (HEADER + ("\n" + LINE) * 11, 413, "11 rows are more than the 10"),
        (HEADER + "\n" * 1_000_000, 413, "11 rows are more than the 10"),
        (HEADER + "\n" + LINE.replace("red", "rosé"), 422, "1 value cannot"),
        *[
            (HEADER + "\n" + LINE.replace("9.4", value), 422, "1 value cannot")
            for value in ("1_0", "９", "inf", "1e400", "0x9", "9,4".replace(",", ";"), "101", "-1")
        ],
    ],
)
def test_what_is_no_csv_of_wines_is_refused(text: str, status: int, said: str) -> None:
    with pytest.raises(ProblemError) as refused:
        read_csv(text)
    assert refused.value.status == status
    assert said in refused.value.detail


def test_a_csv_in_another_encoding_is_refused() -> None:
    with pytest.raises(ProblemError, match="UTF-8"):
        read_table((HEADER + ",Jahrgäng\n").encode("latin-1"), CSV, 10)


numbers = st.none() | st.floats(0, 0.5).filter(lambda x: x > 1e-300)


@given(rows=st.lists(st.lists(numbers, min_size=11, max_size=11), min_size=1, max_size=5))
def test_all_forms_read_the_same(rows: list[list[float | None]]) -> None:
    # density alone has no plausible value below 0.5
    rows = [[*row[:7], None, *row[8:]] for row in rows]
    records = [{TYPE: "white", **dict(zip(MEASUREMENT_NAMES, row, strict=True))} for row in rows]
    split = {"columns": list(INPUTS), "data": [["white", *row] for row in rows]}
    columns = {name: [record[name] for record in records] for name in INPUTS}
    lines = [",".join("" if v is None else repr(v) for v in ("white", *row)) for row in rows]
    text = "\n".join([",".join(INPUTS), *(line.replace("'white'", "white") for line in lines)])
    expected = np.array(rows, dtype=np.float64)
    batch = read_batch(json.dumps({"wines": records}).encode(), 10)
    for found in (
        batch,
        *(read({"dataframe_split": split}), read({"dataframe_records": records})),
        *(read({"inputs": columns}), read({"instances": records}), read_csv(text)),
    ):
        np.testing.assert_array_equal(found.measurements, expected)
        assert found.types == ["white"] * len(rows)
        assert sorted(found.implausible) == sorted(batch.implausible)
        assert found.warnings() == batch.warnings()
