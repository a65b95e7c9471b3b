"""The predictor refuses what cannot be a wine."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wine_quality.errors import WineQualityError
from wine_quality.serving.predictor import (
    ModelDescription,
    Predictor,
    check_wines,
)
from wine_quality.wines import INPUTS, MEASUREMENTS

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MakeWines = Callable[..., pd.DataFrame]


class HalfOfAlcohol:
    """A model that shows what it was given."""

    def __init__(self) -> None:
        self.seen: list[pd.DataFrame] = []

    def predict(self, wines: pd.DataFrame) -> np.ndarray:
        self.seen.append(wines)
        return wines["alcohol"].fillna(10).to_numpy() / 2


class Answers:
    """A model that always gives the same."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, wines: pd.DataFrame) -> Any:
        return self.answer


# The predictor


def test_the_model_gets_the_twelve_inputs_in_order(make_wines: MakeWines) -> None:
    wines = make_wines(5).iloc[:, ::-1].assign(quality=6, remark="good")
    wines.index = pd.Index(list("abcde"))
    wines.loc["b", "pH"] = np.nan
    before = wines.copy()
    model = HalfOfAlcohol()

    predictions = Predictor(model, "wine-quality", "3").predict(wines)

    np.testing.assert_array_equal(predictions, wines["alcohol"] / 2)
    assert list(model.seen[0].columns) == list(INPUTS)
    assert math.isnan(model.seen[0].loc["b", "pH"])
    pd.testing.assert_frame_equal(wines, before)


def test_no_wines_have_no_predictions(make_wines: MakeWines) -> None:
    predictor = Predictor(Answers("would fail"), "wine-quality", "3")
    assert predictor.predict(make_wines(0)).shape == (0,)


def test_a_predictor_says_who_it_is() -> None:
    assert Predictor(HalfOfAlcohol(), "wine-quality", "3").description == ModelDescription(
        "wine-quality", "3"
    )


@pytest.mark.parametrize("answer", [[[5.0], [6.0]], [5.0], [5.0, math.nan], [5.0, math.inf], 5.0])
def test_a_model_that_answers_nonsense_is_named(make_wines: MakeWines, answer: Any) -> None:
    predictor = Predictor(Answers(answer), "wine-quality", "3")
    with pytest.raises(WineQualityError, match="wine-quality version 3 did not answer 2 wines"):
        predictor.predict(make_wines(2))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        *(
            (m.name, m.possible[1] * 1.01, f"row 1, {m.name}: .* \\(possible: {m.possible[0]} to")
            for m in MEASUREMENTS
        ),
        ("alcohol", -0.1, r"row 1, alcohol: -0.1 \(possible: 0 to 100 % vol.\)"),
        ("alcohol", math.inf, r"row 1, alcohol: inf \(possible"),
        ("alcohol", -math.inf, r"row 1, alcohol: -inf \(possible"),
        ("alcohol", "much", r"row 1, alcohol: 'much' \(possible"),
        ("type", "rosé", r"row 1, type: 'rosé' \(possible: red or white\)"),
        ("type", None, r"row 1, type: missing \(possible: red or white\)"),
        ("type", "", r"row 1, type: '' \(possible"),
        ("type", "Red", r"row 1, type: 'Red' \(possible"),
    ],
)
def test_what_cannot_be_a_wine_is_named_by_row_and_column(
    make_wines: MakeWines, column: str, value: object, message: str
) -> None:
    wines = make_wines(3).astype(object)
    wines.loc[1, column] = value
    with pytest.raises(WineQualityError, match=message) as caught:
        check_wines(wines)
    assert "\n" not in str(caught.value)
    assert "row 0" not in str(caught.value)


def test_rows_are_named_by_the_frames_index_and_the_first_mistakes_suffice(
    make_wines: MakeWines,
) -> None:
    wines = make_wines(5).set_axis(list("abcde"))
    wines.loc["d", "pH"] = 99
    wines.loc["b", "density"] = 0
    wines.loc["b", "type"] = "pink"
    wines.loc["e", ["alcohol", "chlorides"]] = -1
    with pytest.raises(WineQualityError) as caught:
        check_wines(wines)
    message = str(caught.value)
    assert message.index("row b") < message.index("row d")
    assert "row e" not in message
    assert "and 2 more" in message


@pytest.mark.parametrize("value", [[1.0], {"a": 1}, pd.Timestamp("2026-01-01")])
def test_a_column_of_another_kind_is_named(make_wines: MakeWines, value: object) -> None:
    with pytest.raises(WineQualityError, match="alcohol"):
        check_wines(make_wines(2).assign(alcohol=[value, value]))


@pytest.mark.parametrize(
    "values", [pd.array([12, None], dtype="Int64"), ["12", None], [Decimal(12), None], [12, None]]
)
def test_numbers_may_come_in_any_dress(make_wines: MakeWines, values: Any) -> None:
    checked = check_wines(make_wines(2).assign(alcohol=values))
    np.testing.assert_array_equal(checked["alcohol"], [12.0, np.nan])


def test_columns_must_be_there_once(make_wines: MakeWines) -> None:
    wines = make_wines(2)
    with pytest.raises(WineQualityError, match=r"lack the column\(s\) type, pH"):
        check_wines(wines.drop(columns=["pH", "type"]))
    with pytest.raises(WineQualityError, match="have pH more than once"):
        check_wines(pd.concat([wines, wines[["pH"]]], axis=1))
