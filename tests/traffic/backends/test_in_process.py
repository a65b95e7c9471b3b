"""The service within this process."""

from pathlib import Path
from typing import NoReturn

import pandas as pd
import pytest

from wine_quality.database.errors import DatabaseError, DatabaseUnavailableError
from wine_quality.errors import WineQualityError
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.predictor import ModelDescription, Predictor
from wine_quality.traffic.backend_contract import NOON, BackendContract, contract_wines
from wine_quality.traffic.backends import (
    Backend,
    BackendContext,
    BackendUnavailableError,
    create_backend,
)


class TestInProcess(BackendContract):
    @pytest.fixture
    def backend(self, context: BackendContext) -> Backend:
        return create_backend("in_process", {}, context)


class Answers:
    """A model that always gives the same."""

    def predict(self, wines: pd.DataFrame) -> list[float]:
        return [1.0] * len(wines)


def test_a_repeated_request_gets_the_first_answer_even_from_a_newer_model(
    context: BackendContext,
) -> None:
    asked = {"event_time": NOON, "source": "test", "request_id": "newer model"}
    first = create_backend("in_process", {}, context).predict(contract_wines(3), **asked)
    newer = BackendContext(Predictor(Answers(), "wine-quality", "4"), context.log)
    again = create_backend("in_process", {}, newer).predict(contract_wines(3), **asked)
    pd.testing.assert_frame_equal(again, first)


def test_there_is_no_answer_without_the_log(context: BackendContext, tmp_path: Path) -> None:
    (tmp_path / "inference.db").write_text("no database, but long enough to be looked at" * 100)
    broken = BackendContext(context.predictor, InferenceLog(f"sqlite:///{tmp_path}/inference.db"))
    with pytest.raises(DatabaseError):
        create_backend("in_process", {}, broken).predict(
            contract_wines(3), event_time=NOON, source="test", request_id="r"
        )


def test_it_names_its_model_and_why_it_is_not_ready(
    context: BackendContext, tmp_path: Path
) -> None:
    backend = create_backend("in_process", {}, context)
    assert backend.describe_model() == ModelDescription("wine-quality", "1")

    (tmp_path / "file").write_text("no folder")
    broken = BackendContext(context.predictor, InferenceLog(f"sqlite:///{tmp_path}/file/log.db"))
    health = create_backend("in_process", {}, broken).check_health()
    assert not health.ready
    assert "cannot be made" in health.reason


def test_a_log_that_does_not_answer_may_come_back(context: BackendContext) -> None:
    class Lost(InferenceLog):
        def find_request(self, *_: object) -> NoReturn:
            raise DatabaseUnavailableError("The database does not answer.")

        append_predictions = append_ground_truth = find_request

    lost = BackendContext(context.predictor, Lost("sqlite:///nowhere.db"))
    labels = pd.DataFrame({"prediction_id": ["a"], "quality": [5]})
    for name, config in (("in_process", {}), ("mlflow_server", {"version": "1"})):
        backend = create_backend(name, config, lost)
        with pytest.raises(BackendUnavailableError, match="does not answer"):
            backend.predict(contract_wines(2), event_time=NOON, source="test", request_id="r")
        with pytest.raises(BackendUnavailableError, match="does not answer"):
            backend.submit_ground_truth(labels)


def test_it_needs_a_champion_and_a_log_and_nothing_else(context: BackendContext) -> None:
    for poor in (BackendContext(), BackendContext(predictor=context.predictor)):
        with pytest.raises(WineQualityError, match="needs a champion and an inference log"):
            create_backend("in_process", {}, poor)
    with pytest.raises(WineQualityError, match=r"\(url: Extra inputs .* knows the settings none"):
        create_backend("in_process", {"url": "http://localhost"}, context)
