"""The predictor refuses what cannot be a wine; the service answers what is in the log."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wine_quality.database.errors import DatabaseError
from wine_quality.errors import WineQualityError
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.prediction_batch import RequestConflictError
from wine_quality.serving.predictor import (
    ModelDescription,
    PredictionService,
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


@pytest.fixture
def service(tmp_path) -> PredictionService:
    log = InferenceLog(f"sqlite:///{tmp_path}/inference.db")
    return PredictionService(Predictor(HalfOfAlcohol(), "wine-quality", "3"), log)


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


# The service


def test_what_was_answered_is_in_the_log(service: PredictionService, make_wines: MakeWines) -> None:
    wines = make_wines(4).set_axis([7, 3, 5, 1]).assign(quality=6)
    wines.loc[5, "alcohol"] = np.nan
    times = pd.Series(pd.date_range(NOON, periods=4, freq="h"))
    before = datetime.now(UTC)

    answer = service.predict(wines, source="test", event_time=times, request_id="r")

    assert answer.dtypes.astype(str).to_dict() == {
        "prediction_id": "str",
        "prediction": "float64",
        "model_version": "str",
    }
    assert answer.index.tolist() == [7, 3, 5, 1]
    assert answer["prediction"].tolist() == (wines["alcohol"].fillna(10) / 2).tolist()
    assert set(answer["model_version"]) == {"3"}
    logged = service.log.read()
    pd.testing.assert_frame_equal(logged[list(answer)], answer.reset_index(drop=True))
    pd.testing.assert_frame_equal(
        logged[list(INPUTS)], wines[list(INPUTS)].reset_index(drop=True).astype({"type": "str"})
    )
    assert logged["event_time"].tolist() == times.tolist()
    assert logged["received_at"].between(before, datetime.now(UTC)).all()
    (latency_ms,) = logged["latency_ms"].unique()
    assert 0 < latency_ms < 60_000


def test_without_an_event_time_a_wine_was_measured_when_it_came(
    service: PredictionService, make_wines: MakeWines
) -> None:
    service.predict(make_wines(2), source="test")
    logged = service.log.read()
    assert (logged["event_time"] == logged["received_at"]).all()


def test_a_repeated_request_gets_the_first_answer_even_from_a_newer_model(
    service: PredictionService, make_wines: MakeWines
) -> None:
    first = service.predict(make_wines(3), source="test", request_id="r")
    service.predictor = Predictor(Answers([1.0, 2.0, 3.0]), "wine-quality", "4")

    again = service.predict(make_wines(3), source="test", request_id="r")

    pd.testing.assert_frame_equal(again, first)
    assert len(service.log.read()) == 3
    with pytest.raises(RequestConflictError):
        service.predict(make_wines(3, seed=1), source="test", request_id="r")


def test_no_wines_are_answered_with_none(service: PredictionService, make_wines: MakeWines) -> None:
    answer = service.predict(make_wines(0), source="test", request_id="r")
    assert list(answer) == ["prediction_id", "prediction", "model_version"]
    assert answer.empty
    assert not service.log.exists()


def test_a_request_with_an_impossible_wine_is_not_logged(
    service: PredictionService, make_wines: MakeWines
) -> None:
    wines = make_wines(3)
    wines.loc[2, "alcohol"] = 101
    with pytest.raises(WineQualityError, match="row 2, alcohol"):
        service.predict(wines, source="test")
    with pytest.raises(WineQualityError, match="event_time needs a date with a timezone"):
        service.predict(make_wines(3), source="test", event_time=datetime(2026, 1, 1))
    assert not service.log.exists()


def test_there_is_no_answer_without_the_log(make_wines: MakeWines, tmp_path) -> None:
    (tmp_path / "inference.db").write_text("no database, but long enough to be looked at" * 100)
    log = InferenceLog(f"sqlite:///{tmp_path}/inference.db")
    service = PredictionService(Predictor(HalfOfAlcohol(), "wine-quality", "3"), log)
    with pytest.raises(DatabaseError):
        service.predict(make_wines(3), source="test")


def test_ground_truth_reaches_the_log(service: PredictionService, make_wines: MakeWines) -> None:
    answer = service.predict(make_wines(3), source="test", event_time=NOON)
    labels = pd.DataFrame(
        {
            "prediction_id": answer["prediction_id"].iloc[:2],
            "quality": [5, 7],
            "labelled_at": NOON + timedelta(days=1),
        }
    )
    assert service.submit_ground_truth(labels) == 2
    assert service.submit_ground_truth(labels) == 0
    assert service.log.read()["quality"].tolist()[:2] == [5, 7]
