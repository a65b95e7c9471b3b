from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.io import DatasetError
from kedro_datasets.partitions import PartitionedDataset
from pandas.testing import assert_frame_equal
from pydantic import ValidationError
from yaml import safe_load

from wine_quality.contracts import LABELLED_WINES
from wine_quality.drift.log_reader import LABELLED_DTYPES
from wine_quality.errors import WineQualityError
from wine_quality.pipelines.processing import create_pipeline, nodes
from wine_quality.pipelines.processing.audit import audit, audit_leakage
from wine_quality.pipelines.processing.parameters import ProcessingParameters
from wine_quality.pipelines.processing.reading import (
    FIELDS,
    LABELLED_COLUMNS,
    LINE,
    REASON,
    SOURCE,
    read_file,
    read_files,
    sort_rows,
)
from wine_quality.pipelines.retraining.parameters import RetrainingParameters
from wine_quality.system.project import project_folder
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import (
    INPUTS,
    MEASUREMENT_NAMES,
    MEASUREMENTS,
    QUALITY,
    TYPE,
    fingerprint,
    wine_groups,
)

VALUES = {
    "fixed_acidity": "7.4",
    "volatile_acidity": "0.7",
    "citric_acid": "0",
    "residual_sugar": "1.9",
    "chlorides": "0.076",
    "free_sulfur_dioxide": "11",
    "total_sulfur_dioxide": "34",
    "density": "0.9978",
    "pH": "3.51",
    "sulphates": "0.56",
    "alcohol": "9.4",
    QUALITY: "5",
}
HEADER = ";".join(f'"{name.replace("_", " ")}"' for name in VALUES)
ROW = ";".join(VALUES.values())
KAGGLE_HEADER = ",".join([TYPE, *VALUES])
KAGGLE_ROW = ",".join(["white", *VALUES.values()])


def parameters(allow=(), **split):
    plain = {"method": "hash", "held_out_share": 0.2, "seed": 2009} | split
    return ProcessingParameters.model_validate({"allow": allow, "split": plain})


def text_row(**changes):
    """One row as `read_files` gives it."""
    plain = {TYPE: "red"} | VALUES | {SOURCE: "a.csv", LINE: 2, FIELDS: ""}
    return pd.DataFrame([plain | changes]).astype(dict.fromkeys((*LABELLED_COLUMNS, FIELDS), str))


def rejected_reason(**changes):
    accepted, rejected = sort_rows(text_row(**changes))
    assert accepted.empty
    assert rejected[list(changes)].iloc[0].to_dict() == changes
    return rejected[REASON].iloc[0]


def wines_of(*rows):
    """Typed wines: a plain red one, changed as each of the rows says."""
    plain = {TYPE: "red"} | {name: float(VALUES[name]) for name in MEASUREMENT_NAMES}
    plain |= {QUALITY: 5, SOURCE: "a.csv", LINE: 2}
    return pd.DataFrame([plain | row for row in rows])


# Reading a file


def test_ucis_form():
    table = read_file("winequality-red.csv", f"{HEADER}\n{ROW}\n{ROW}\n")
    expected = {TYPE: "red"} | VALUES | {SOURCE: "winequality-red.csv", FIELDS: ""}
    assert table.to_dict("records") == [expected | {LINE: 2}, expected | {LINE: 3}]
    assert list(table) == [*LABELLED_COLUMNS, SOURCE, LINE, FIELDS]


def test_kaggles_form():
    table = read_file("train_wine_data.csv", f"{KAGGLE_HEADER}\n{KAGGLE_ROW}\n")
    expected = {TYPE: "white"} | VALUES | {SOURCE: "train_wine_data.csv", LINE: 2, FIELDS: ""}
    assert table.to_dict("records") == [expected]


def test_a_type_column_outdoes_the_files_name():
    assert read_file("red.csv", f"{KAGGLE_HEADER}\n{KAGGLE_ROW}")[TYPE].tolist() == ["white"]


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeff{HEADER}\n{ROW}\n",
        f"{HEADER}\r\n{ROW}\r\n",
        f"{HEADER}\n{ROW}",
        f"{HEADER}\r{ROW}\r",
        HEADER + "\n" + ";".join(f'"{value}"' for value in VALUES.values()),
        HEADER + "\n" + ";".join(f" {value} " for value in VALUES.values()),
        HEADER.replace('"', "") + "\n" + ROW,
    ],
    ids=["BOM", "CRLF", "no last line end", "CR", "quoted values", "spaces", "bare names"],
)
def test_the_same_wine_in_other_clothes(text):
    assert_frame_equal(read_file("red.csv", text), read_file("red.csv", f"{HEADER}\n{ROW}\n"))


def test_blank_lines_are_no_wines_and_do_not_move_the_line_numbers():
    text = f"{HEADER}\n\n{ROW}\n   \n;;;;;;;;;;;\n\r\n{ROW}\n\n"
    assert read_file("red.csv", text)[LINE].tolist() == [3, 7]
    assert read_file("red.csv", f"\n\n{HEADER}\n{ROW}")[LINE].tolist() == [4]


def test_a_value_over_several_lines_is_found_at_its_first():
    text = HEADER + "\n" + ROW.replace("7.4", '"7.4\n\n"') + "\n" + ROW
    table = read_file("red.csv", text)
    assert table[LINE].tolist() == [2, 5]
    assert table["fixed_acidity"].tolist() == ["7.4", "7.4"]


@pytest.mark.parametrize(
    "line", [f"{ROW};6", ROW.rpartition(";")[0], "7.4", "7,4"], ids=["more", "fewer", "one", "none"]
)
def test_a_ragged_line_keeps_its_values(line):
    table = read_file("red.csv", f"{HEADER}\n{ROW}\n{line}\n{ROW}")
    assert table[FIELDS].tolist() == ["", line.replace(";", "|"), ""]
    assert table[LINE].tolist() == [2, 3, 4]
    assert (table.loc[1, list(VALUES)] == "").all()


def test_a_missing_value_is_kept_as_nothing():
    table = read_file("red.csv", f"{HEADER}\n{ROW.replace('3.51', '')}")
    assert table["pH"].tolist() == [""]


def test_other_columns_are_left_out():
    text = f"id,{KAGGLE_HEADER},id\n17,{KAGGLE_ROW},18\n"
    table = read_file("wines.csv", text)
    assert table["alcohol"].tolist() == ["9.4"]
    assert "id" not in table


@pytest.mark.parametrize("text", ["", " \n\r\n ", "\ufeff", "\ufeff\n\n"])
def test_an_empty_file_is_an_error(text):
    with pytest.raises(WineQualityError, match=r"red\.csv is empty: replace it by a wine file"):
        read_file("red.csv", text)


@pytest.mark.parametrize("end", ["", "\n", "\n\n;;\n"])
def test_a_header_without_wines_is_an_error(end):
    with pytest.raises(WineQualityError, match=r"red\.csv has a header and no wine"):
        read_file("red.csv", HEADER + end)


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        (HEADER.replace("alcohol", "spirit"), "column alcohol is"),
        (HEADER.replace('"pH";', "").replace(';"quality"', ""), "columns pH, quality are"),
        (HEADER.replace("pH", "PH"), "column pH is"),
    ],
)
def test_a_missing_column_is_named(header, missing):
    with pytest.raises(WineQualityError, match=f"red.csv: {missing} missing from the"):
        read_file("red.csv", f"{header}\n{ROW}")


def advice(text: str) -> str:
    with pytest.raises(WineQualityError) as caught:
        read_file("red.csv", text)
    return str(caught.value)


@pytest.mark.parametrize(
    "before",
    ["Wines of 2009", "Wines, red; from Minho, Portugal; and others", "a;b;c\n\n# of 2009"],
)
def test_lines_before_the_header_are_to_be_removed(before):
    number = before.count("\n") + 2
    said = f"red.csv: its header is in line {number}: remove the lines before it."
    assert advice(f"{before}\n{HEADER}\n{ROW}\n") == said
    # whatever its quality is called
    assert advice(f"{before}\n{HEADER.replace('quality', 'score')}\n{ROW}\n") == said


@pytest.mark.parametrize("row", [ROW, ROW.replace(";", ",")])
def test_a_file_without_a_header_needs_one(row):
    assert advice(f"{row}\n{row}\n") == (
        "red.csv has no header, its first line holds a wine: put a line with the names of its "
        f"columns before it ({', '.join(VALUES)}), in their order."
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quality": "score"}, "rename score to quality"),
        ({"quality": "Quality"}, "rename Quality to quality"),
        ({"pH": "ph", "chlorides": "chloride"}, "rename chloride to chlorides, ph to pH"),
        (
            {"total sulfur dioxide": "total sulphur dioxide", "quality": "target"},
            "rename total_sulphur_dioxide to total_sulfur_dioxide, target to quality",
        ),
    ],
)
def test_a_column_of_another_name_is_to_be_renamed(changes, said):
    header = HEADER
    for ours, theirs in changes.items():
        header = header.replace(f'"{ours}"', f'"{theirs}"')
    them = "it" if len(changes) == 1 else "them"
    assert advice(f"{header}\n{ROW}").endswith(
        f"): {said}, if that is what is meant; else add {them}, or remove the file."
    )


def test_a_column_that_is_nowhere_is_to_be_added():
    header = HEADER.replace('"alcohol"', '"vineyard";"year"')
    assert advice(f"{header}\n{ROW};1").endswith("): add it, or remove the file.")
    # which of several it is, nobody can say
    header = HEADER.replace('"quality"', '"score";"points"')
    assert advice(f"{header}\n{ROW};1").endswith("): add it, or remove the file.")


def test_nothing_but_delimiters_is_no_header():
    with pytest.raises(WineQualityError, match=r"red\.csv: columns fixed_acidity, .* are missing"):
        read_file("red.csv", ";;;\n;;;\n")


@pytest.mark.parametrize(
    ("text", "column"),
    [
        (f'{HEADER};"free_sulfur_dioxide"\n{ROW};1', "free_sulfur_dioxide"),
        (f"{KAGGLE_HEADER},type\n{KAGGLE_ROW},red", "type"),
    ],
)
def test_a_repeated_column_is_named(text, column):
    with pytest.raises(WineQualityError, match=f"x.csv: column {column} stands twice"):
        read_file("x.csv", text)


def test_a_column_that_has_the_name_of_another_is_to_be_renamed():
    header = HEADER.replace("citric acid", "volatile acidity")
    with pytest.raises(
        WineQualityError,
        match="volatile_acidity stands twice in the header: rename one of the two, since "
        "citric_acid is missing",
    ):
        read_file("red.csv", f"{header}\n{ROW}")


@pytest.mark.parametrize("name", ["wines.csv", "red-and-white.csv"])
def test_a_name_that_does_not_tell_the_type_is_an_error(name):
    with pytest.raises(WineQualityError, match=f"{name} has no `type` column.*one of red, white"):
        read_file(name, f"{HEADER}\n{ROW}")


def test_what_is_no_csv_is_an_error_with_file_and_line():
    text = f"{HEADER}\n{ROW}\n" + "7" * 200_000
    with pytest.raises(WineQualityError, match=r"red\.csv: line 3 is not CSV \(field larger"):
        read_file("red.csv", text)


# Reading a folder


def test_files_are_read_in_the_order_of_their_names():
    files = {
        "white.csv": lambda: f"{HEADER}\n{ROW}",
        "red.csv": f"{HEADER}\n{ROW}\n{ROW}",
    }
    table = read_files(files)
    assert table[SOURCE].tolist() == ["red.csv", "red.csv", "white.csv"]
    assert table[TYPE].tolist() == ["red", "red", "white"]
    assert table[LINE].tolist() == [2, 3, 2]
    assert table.index.tolist() == [0, 1, 2]


def test_a_folder_without_files_is_an_error():
    with pytest.raises(WineQualityError, match="holds no CSV file"):
        read_files({})


def raw_folder(folder: Path) -> dict:
    settings = {"filename_suffix": ".csv", "dataset": "text.TextDataset"}
    return PartitionedDataset(path=str(folder), **settings).load()


def test_the_node_reads_a_folder(tmp_path):
    (tmp_path / "red.csv").write_text(f"{HEADER}\n{ROW}\n")
    table = nodes.read_wines(raw_folder(tmp_path))
    assert table[[SOURCE, LINE, "alcohol"]].to_numpy().tolist() == [["red.csv", 2, "9.4"]]


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "red.csv").write_bytes(f"{HEADER}\n{ROW} é".encode("latin-1"))
    with pytest.raises(WineQualityError, match=r"red\.csv is not UTF-8 text.*save it as UTF-8"):
        nodes.read_wines(raw_folder(tmp_path))
    with pytest.raises(WineQualityError, match=r"red\.csv is not UTF-8 text"):
        read_files({"red.csv": (tmp_path / "red.csv").read_text})


def test_the_byte_that_is_no_text_is_found(tmp_path):
    (tmp_path / "red.csv").write_bytes(f"{HEADER}\n{ROW}\nô é ".encode() + b"\xe9;\n")
    where = r"red\.csv is not UTF-8 text \(.* in line 3, column 5\): save it as UTF-8"
    with pytest.raises(WineQualityError, match=where):
        nodes.read_wines(raw_folder(tmp_path))


@pytest.mark.parametrize("begin", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0"], ids=["xlsx", "xls"])
def test_an_excel_file_is_called_one(tmp_path, begin):
    (tmp_path / "red.csv").write_bytes(begin + b"\x14\x00\xff")
    with pytest.raises(WineQualityError, match=r"^red\.csv is an Excel file: export it as CSV\.$"):
        nodes.read_wines(raw_folder(tmp_path))


@pytest.mark.parametrize("separator", ["\t", "|"])
def test_another_separator_is_named_as_what_is_wrong(separator):
    text = f"{HEADER}\n{ROW}\n".replace(";", separator)
    with pytest.raises(WineQualityError, match=r"red\.csv is not separated by ';' or ',' \("):
        read_file("red.csv", text)


def test_other_trouble_with_a_file_is_passed_on(tmp_path):
    (tmp_path / "red.csv").write_text(f"{HEADER}\n{ROW}\n")
    loaders = raw_folder(tmp_path)
    (tmp_path / "red.csv").unlink()
    with pytest.raises(DatasetError, match=r"red\.csv"):
        nodes.read_wines(loaders)


# Sorting rows


def test_a_wine_is_accepted_with_typed_columns():
    wines, rejected = sort_rows(text_row())
    assert rejected.empty
    assert LABELLED_WINES.validate(wines).equals(wines)
    assert wines.to_dict("records") == wines_of({}).to_dict("records")


@pytest.mark.parametrize("missing", [("pH",), MEASUREMENT_NAMES[1:]])
def test_missing_measurements_are_accepted_as_long_as_there_is_one(missing):
    wines, _ = sort_rows(text_row(**dict.fromkeys(missing, "")))
    assert wines[list(missing)].isna().all(axis=None)
    assert len(wines) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({FIELDS: "7.4|0.7"}, "wrong number of fields"),
        ({TYPE: "rosé"}, "type is none of red, white: rosé"),
        ({TYPE: "Red"}, "type is none of red, white: Red"),
        ({TYPE: ""}, "type is none of red, white: "),
        ({"pH": "3,51"}, "pH has a decimal comma where a point has to be: 3,51"),
        ({"alcohol": "inf"}, "alcohol is not a number: inf"),
        ({"alcohol": "nan"}, "alcohol is not a number: nan"),
        ({"alcohol": "NA"}, "alcohol is not a number: NA"),
        ({"alcohol": "0x10"}, "alcohol is not a number: 0x10"),
        ({"pH": "14.1"}, "pH is impossible: 14.1"),
        ({"chlorides": "-0.1"}, "chlorides is impossible: -0.1"),
        ({QUALITY: ""}, "quality is missing"),
        ({QUALITY: "good"}, "quality is not a number: good"),
        ({QUALITY: "5.5"}, "quality is not a whole number from 0 to 10: 5.5"),
        ({QUALITY: "11"}, "quality is not a whole number from 0 to 10: 11"),
        ({QUALITY: "-1"}, "quality is not a whole number from 0 to 10: -1"),
        (dict.fromkeys(MEASUREMENT_NAMES, ""), "all measurements are missing"),
    ],
)
def test_a_row_that_cannot_be_a_wine_is_rejected_with_its_values(changes, reason):
    assert rejected_reason(**changes) == reason


def test_the_first_reason_counts():
    assert rejected_reason(type="rosé", pH="sour", quality="") == (
        "type is none of red, white: rosé"
    )


@pytest.mark.parametrize("measurement", MEASUREMENTS, ids=lambda m: m.name)
def test_the_bounds_of_the_possible_are_possible(measurement):
    low, high = measurement.possible
    rows = pd.concat([text_row(**{measurement.name: str(value)}) for value in (low, high)])
    wines, rejected = sort_rows(rows.reset_index(drop=True))
    assert wines[measurement.name].tolist() == [low, high]
    assert rejected.empty


NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(str),
    st.integers(-5, 15).map(str),
    st.sampled_from(["", "5", "3.1", "1e2", "1e999", "-0", "NULL", "½", "٣"]),
)
CELLS = st.one_of(NUMBERS, st.text(st.characters(exclude_categories=["Cs"]), max_size=6))


@st.composite
def tables(draw):
    """Text tables of wines in which some cells are anything at all."""
    rows = draw(st.integers(1, 6))
    table = pd.concat([text_row(**{LINE: i + 2}) for i in range(rows)], ignore_index=True)
    cell = st.tuples(st.integers(0, rows - 1), st.sampled_from((*LABELLED_COLUMNS, FIELDS)), CELLS)
    for row, column, value in draw(st.lists(cell, max_size=8)):
        table.loc[row, column] = value
    return table


@settings(max_examples=30)
@given(tables())
def test_nothing_disappears(table):
    before = table.copy()
    wines, rejected = sort_rows(table)
    assert_frame_equal(table, before)
    # accepted + rejected = read, each row on one side
    assert sorted([*wines[LINE], *rejected[LINE]]) == table[LINE].tolist()
    assert (rejected[REASON] != "").all()
    original = table[table[LINE].isin(rejected[LINE])].reset_index(drop=True)
    assert_frame_equal(rejected.drop(columns=REASON), original)
    # what is accepted keeps the contract, and says what the text said
    assert_frame_equal(LABELLED_WINES.validate(wines), wines)
    for row in wines.to_dict("records"):
        text = table.set_index(LINE).loc[row[LINE]]
        for name in (*MEASUREMENT_NAMES, QUALITY):
            assert (text[name] == "" and np.isnan(row[name])) or (
                float(text[name]) == pytest.approx(row[name], rel=1e-14)
            )


@settings(max_examples=30)
@given(st.lists(st.lists(st.text("0.5;x\"' \r\n", max_size=4), max_size=14), max_size=5))
def test_whatever_a_file_holds_is_read_or_refused_in_words(lines):
    text = HEADER + "\n" + "\n".join(";".join(cells) for cells in lines)
    try:
        table = read_file("red.csv", text)
    except WineQualityError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert refusal.startswith("red.csv")
        return
    wines, rejected = sort_rows(table)
    assert len(wines) + len(rejected) == len(table)
    assert table[LINE].is_monotonic_increasing
    assert table[LINE].between(2, text.count("\n") + text.count("\r") + 1).all()


# Audit


def test_the_audits_numbers():
    wines = wines_of(
        {},
        {},  # exact duplicate
        {QUALITY: 6},  # contradicts the two
        {"pH": np.nan},
        {"pH": np.nan, "alcohol": 3.0},  # implausible
        {"pH": np.nan},  # exact duplicate: missing equals missing
        {"pH": np.nan, QUALITY: 7},  # contradicts
        {TYPE: "white", SOURCE: "b.csv"},
    )
    rejected = pd.DataFrame({REASON: ["pH is not a number: x", "pH is not a number: y", "late"]})
    assert audit(wines, rejected) == {
        "read": 11,
        "accepted": 8,
        "rejected": 3,
        "rejected_by_reason": {"late": 1, "pH is not a number": 2},
        "by_file": {"a.csv": 7, "b.csv": 1},
        "by_type": {"red": 7, "white": 1},
        "by_quality": {"5": 6, "6": 1, "7": 1},
        "exact_duplicates": 2,
        "contradictory_groups": 2,
        "missing": {"pH": 4},
        "implausible": {"alcohol": 1},
        "fingerprint": fingerprint(wines),
    }


def test_an_audit_of_nothing_odd():
    wines, rejected = sort_rows(text_row())
    found = nodes.audit_wines(wines, rejected)
    assert (found["read"], found["accepted"], found["rejected"]) == (1, 1, 0)
    assert found["rejected_by_reason"] == found["missing"] == found["implausible"] == {}


def test_the_leakages_numbers():
    training = wines_of({}, {}, {"pH": np.nan}, {"alcohol": 12.0})
    held_out = wines_of(
        {},  # stands in training
        {},  # so does its copy
        {QUALITY: 9},  # by its inputs
        {"pH": np.nan},  # missing equals missing
        {"alcohol": 13.0},
        {TYPE: "white"},
    )
    assert audit_leakage(training, held_out) == {
        "training_rows": 4,
        "held_out_rows": 6,
        "held_out_rows_in_training": 4,
        # complete and distinct: the plain one, its contradiction, the strong one, the white one
        "distinct_complete_rows": 4,
        "distinct_complete_rows_in_training": 1,
    }


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_split_by_hash_never_leaks(seed):
    wines = draw_wines(80, seed, duplicates=True, missing=True).assign(**{SOURCE: "a.csv"})
    training, held_out = nodes.split_wines(wines, parameters(seed=seed, held_out_share=0.5))
    assert nodes.audit_split(training, held_out)["held_out_rows_in_training"] == 0


# Accepting


def test_rejected_rows_stop_the_run_and_are_shown():
    wines, rejected = sort_rows(
        pd.concat([text_row(), text_row(pH="sour", line=7)], ignore_index=True)
    )
    with pytest.raises(
        WineQualityError,
        match=r"1 of 2 rows rejected, the first at a\.csv line 7: pH is not a number: sour\. .*"
        r"--params processing\.allow=\[rejected_rows\]",
    ):
        nodes.accept_wines(wines, rejected, parameters())
    with pytest.raises(WineQualityError, match="1 of 2"):
        nodes.accept_wines(wines, rejected, parameters(allow=["leakage"]))


def test_rejected_rows_may_be_allowed():
    wines, rejected = sort_rows(pd.concat([text_row(), text_row(pH="x")], ignore_index=True))
    accepted = nodes.accept_wines(wines, rejected, parameters(allow=["rejected_rows"]))
    assert_frame_equal(accepted, wines)


def test_no_wine_at_all_stops_the_run_even_if_allowed():
    wines, rejected = sort_rows(text_row(pH="sour"))
    with pytest.raises(WineQualityError, match="No row is a wine"):
        nodes.accept_wines(wines, rejected, parameters(allow=["rejected_rows"]))


# Splitting


def test_a_split_by_hash_takes_every_wine_once_and_keeps_equal_ones_together(labelled_wines):
    wines = labelled_wines.assign(**{SOURCE: "a.csv", LINE: range(len(labelled_wines))})
    training, held_out = nodes.split_wines(wines, parameters())
    assert sorted([*training[LINE], *held_out[LINE]]) == wines[LINE].tolist()
    assert training[LINE].is_monotonic_increasing
    assert held_out[LINE].is_monotonic_increasing
    assert len(held_out) == pytest.approx(len(wines) / 5, abs=20)
    groups = wine_groups(wines)
    assert not set(groups[training[LINE]]) & set(groups[held_out[LINE]])
    again, _ = nodes.split_wines(wines, parameters())
    assert_frame_equal(again, training)


@pytest.mark.parametrize(("seed", "lacking"), [(0, "judge a model by"), (8, "train on")])
def test_too_few_wines_cannot_be_split(seed, lacking):
    with pytest.raises(WineQualityError, match=f"All 2 wines .* nothing to {lacking}: bring more"):
        nodes.split_wines(wines_of({}, {}), parameters(seed=seed))


def test_a_file_is_held_out_as_it_stands():
    wines = wines_of({LINE: 2}, {SOURCE: "b.csv", LINE: 3}, {LINE: 4})
    training, held_out = nodes.split_wines(wines, parameters(method="file", held_out_file="b.csv"))
    assert training[LINE].tolist() == [2, 4]
    assert held_out[LINE].tolist() == [3]


@pytest.mark.parametrize("name", ["c.csv", "a.csv"])
def test_a_file_that_cannot_be_held_out_is_named(name):
    wines = wines_of({})
    with pytest.raises(WineQualityError, match=rf"{name} cannot be held out.*\(a\.csv\)"):
        nodes.split_wines(wines, parameters(method="file", held_out_file=name))


def test_a_leaking_split_stops_the_run():
    wines = wines_of({}, {"alcohol": 12.0})
    leakage = nodes.audit_split(wines, wines.head(1))
    with pytest.raises(
        WineQualityError, match=r"1 of 1 held-out wines also stand.*allow=\[leakage\]"
    ):
        nodes.approve_split(wines, wines.head(1), leakage, parameters(allow=["rejected_rows"]))


def test_a_leaking_split_may_be_allowed_by_name():
    wines = wines_of({}, {"alcohol": 12.0})
    leakage = nodes.audit_split(wines, wines.head(1))
    training, held_out = nodes.approve_split(
        wines, wines.head(1), leakage, parameters(allow=["leakage"])
    )
    assert_frame_equal(training, wines)
    assert_frame_equal(held_out, wines.head(1))


# Labelled traffic


class Verdicts:
    """What monitoring has recorded: bad data in version 4's windows of 2026-03-01."""

    def windows_judged(self, verdict):
        assert verdict == "data_quality"
        day = pd.Timestamp("2026-03-01", tz="UTC")
        return pd.DataFrame(
            {
                "window_start": [day],
                "window_end": [day + pd.Timedelta("1D")],
                "model_version": ["4"],
            }
        )


class Traffic:
    def __init__(self, rows):
        self.rows = rows

    def newest(self, most):
        return self.rows.tail(most) if most else self.rows.iloc[:0]


def retraining(**changes):
    text = (project_folder() / "conf/base/parameters_retraining.yml").read_text()
    plain = safe_load(text)["retraining"]
    return RetrainingParameters.model_validate(plain | {"use_traffic": True} | changes)


def labelled_traffic(wines):
    plain = {"prediction_id": "x", "source": "shop", "prediction": 5.0, "model_version": "3"}
    moments = pd.Timestamp("2026-03-01", tz="UTC") + pd.to_timedelta(range(len(wines)), unit="h")
    rows = wines[[*INPUTS, QUALITY]].assign(**plain, event_time=moments)
    return rows[list(LABELLED_DTYPES)].astype(LABELLED_DTYPES)


def test_labelled_traffic_joins_the_raw_wines_if_asked_for(labelled_wines):
    raw = labelled_wines.head(40).assign(**{SOURCE: "a.csv", LINE: 2})
    rows = labelled_traffic(draw_wines(12, 77))
    rows.loc[[2, 3], "model_version"] = "4"
    usable, quarantine, audit = nodes.sort_traffic(raw, Traffic(rows), Verdicts(), retraining())
    assert len(usable) == 50
    assert quarantine["rule"].tolist() == ["data_quality"] * 2
    assert (audit["used"], audit["labelled"], audit["accepted"]) == (True, 12, 10)
    training, held_out = nodes.split_wines(usable, parameters())
    assert len(training) + len(held_out) == 50
    assert set(LABELLED_WINES.validate(training)[SOURCE]) == {"a.csv", "shop"}


def test_labelled_traffic_is_not_read_if_nobody_asks(labelled_wines):
    raw = labelled_wines.assign(**{SOURCE: "a.csv", LINE: 2})
    rows = Traffic(labelled_traffic(draw_wines(3, 77)))
    off = retraining(use_traffic=False)
    usable, quarantine, audit = nodes.sort_traffic(raw, rows, None, off)
    assert usable is raw
    assert quarantine.empty
    assert (audit["used"], audit["labelled"]) == (False, 0)


# Parameters


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"allow": ["leakages"]}, "leakage"),
        ({"method": "random"}, "method"),
        ({"method": "grouped"}, "use `hash`"),
        ({"held_out_share": 0}, "held_out_share"),
        ({"held_out_share": 0.6}, "held_out_share"),
        ({"method": "file"}, "needs held_out_file"),
        ({"seeds": 1}, "seeds"),
    ],
)
def test_wrong_parameters_are_named(wrong, named):
    with pytest.raises(ValidationError, match=named):
        parameters(**wrong)


# The pipeline


def without_traffic(raw, parameters):
    return {
        "raw_wines": raw,
        "labelled_traffic": Traffic(labelled_traffic(draw_wines(3, 77))),
        "recorded_verdicts": Verdicts(),
        "params:processing": parameters,
        "params:retraining": retraining(use_traffic=False),
    }


def uci_files(wines):
    """Wines as UCI's two files hold them."""
    files = {}
    for kind, part in wines.groupby(TYPE):
        lines = [";".join("" if pd.isna(x) else str(x) for x in row) for row in
                 part[list(VALUES)].itertuples(index=False)]  # fmt: skip
        files[f"winequality-{kind}"] = "\n".join([HEADER, *lines])
    return files


def test_the_pipeline_carries_files_to_training_and_held_out_wines(run_pipeline, labelled_wines):
    files = uci_files(labelled_wines)
    files["winequality-red"] += "\n7.4;spoilt\n"
    raw = {name: (lambda text=text: text) for name, text in files.items()}
    made = run_pipeline(
        create_pipeline(),
        without_traffic(raw, parameters(allow=["rejected_rows"])),
    )
    accepted = made["accepted_wines"]
    columns = list(LABELLED_COLUMNS)
    assert_frame_equal(
        accepted[columns].sort_values(columns, ignore_index=True),
        labelled_wines[columns].sort_values(columns, ignore_index=True),
    )
    assert made["rejected_wines"][FIELDS].tolist() == ["7.4|spoilt"]
    assert made["wine_audit"]["read"] == 241
    assert made["wine_audit"]["exact_duplicates"] == labelled_wines.duplicated().sum() > 0
    assert made["wine_audit"]["by_file"].keys() == {
        "winequality-red.csv",
        "winequality-white.csv",
    }
    training, held_out = made["training_wines"], made["held_out_wines"]
    assert made["split_audit"]["training_rows"] == len(training)
    assert made["split_audit"]["held_out_rows_in_training"] == 0
    assert len(training) + len(held_out) == 240
    assert 30 <= len(held_out) <= 66
    assert_frame_equal(LABELLED_WINES.validate(training), training)
    assert set(training[TYPE]) == set(held_out[TYPE]) == {"red", "white"}


def test_the_pipelines_figures_show_the_wines(run_pipeline, labelled_wines):
    raw = {name: (lambda text=text: text) for name, text in uci_files(labelled_wines).items()}
    made = run_pipeline(create_pipeline(), without_traffic(raw, parameters()))
    missing = made["missing_values_figure"]
    assert list(missing.data[0].x) == labelled_wines[list(MEASUREMENT_NAMES)].isna().sum().tolist()
    assert [int(text) for text in missing.data[0].text] == list(missing.data[0].x)
    assert missing.layout.title.text == "Missing values among 240 wines"

    boxes = made["box_plots_figure"].data
    assert len(boxes) == 2 * len(MEASUREMENTS)
    reds = labelled_wines[labelled_wines[TYPE] == "red"]
    first = boxes[0]
    assert (first.name, first.median[0]) == ("red", reds["fixed_acidity"].median())
    for box in boxes:
        assert box.lowerfence[0] <= box.q1[0] <= box.median[0] <= box.q3[0] <= box.upperfence[0]

    shown = made["correlations_figure"].data[0]
    assert shown.texttemplate == "%{z:.2f}"
    assert shown.colorbar.title.side == "right"
    correlations = shown.z
    assert np.diag(correlations).tolist() == [1] * 12
    expected = labelled_wines["density"].corr(labelled_wines["alcohol"], method="spearman")
    at = [*MEASUREMENT_NAMES].index
    assert correlations[at("density"), at("alcohol")] == pytest.approx(expected, abs=0.006)


def test_the_pipeline_stops_at_the_first_gate(run_pipeline):
    raw = {"winequality-red": lambda: f"{HEADER}\n{ROW}\n7.4;spoilt\n"}
    with pytest.raises(
        WineQualityError, match=r"1 of 2 rows rejected.*winequality-red\.csv line 3"
    ):
        run_pipeline(create_pipeline(), without_traffic(raw, parameters()))


# The real files


def test_the_real_uci_files(real_data):
    read = nodes.read_wines(raw_folder(real_data / "uci"))
    wines, rejected = nodes.validate_wines(read)
    found = nodes.audit_wines(wines, rejected)
    assert (found["read"], found["rejected"]) == (6497, 0)
    assert found["by_type"] == {"red": 1599, "white": 4898}
    assert found["exact_duplicates"] == 1177
    assert found["missing"] == found["implausible"] == {}
    training, held_out = nodes.split_wines(wines, parameters())
    leakage = nodes.audit_split(training, held_out)
    assert leakage["held_out_rows"] == pytest.approx(6497 / 5, abs=10)
    assert leakage["held_out_rows_in_training"] == 0


def test_the_real_kaggle_files(real_data):
    read = nodes.read_wines(raw_folder(real_data / "kaggle"))
    wines, rejected = nodes.validate_wines(read)
    found = nodes.audit_wines(wines, rejected)
    assert found["by_file"] == {"test_wine_data.csv": 6497, "train_wine_data.csv": 32485}
    assert found["rejected"] == 0
    split = parameters(method="file", held_out_file="test_wine_data.csv")
    training, held_out = nodes.split_wines(wines, split)
    assert held_out[list(MEASUREMENT_NAMES)].isna().sum().sum() == 38
    leakage = nodes.audit_split(training, held_out)
    assert leakage["distinct_complete_rows"] == 5295
    assert leakage["distinct_complete_rows_in_training"] == 5263
    with pytest.raises(WineQualityError, match="held-out wines also stand among the training"):
        nodes.approve_split(training, held_out, leakage, split)
