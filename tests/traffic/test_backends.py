"""Backends: found by name or class path, and the one within this process."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wine_quality.errors import WineQualityError
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.predictor import ModelDescription, Predictor
from wine_quality.traffic.backends import (
    BACKENDS,
    Backend,
    BackendContext,
    Health,
    InProcessBackend,
    create_backend,
)
from wine_quality.wines import MEASUREMENTS

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class HalfOfAlcohol:
    def predict(self, wines: pd.DataFrame) -> np.ndarray:
        return wines["alcohol"].to_numpy() / 2


def make_wines(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"type": "red", **{m.name: rng.uniform(*m.plausible, n) for m in MEASUREMENTS}}
    )


@pytest.fixture
def context(tmp_path: Path) -> BackendContext:
    return BackendContext(
        predictor=Predictor(HalfOfAlcohol(), "wine-quality", "3"),
        log=InferenceLog(f"sqlite:///{tmp_path}/inference.db"),
    )


def test_in_process_predicts_and_logs(context: BackendContext) -> None:
    backend = create_backend("in_process", {}, context)
    wines = make_wines(3).set_axis([5, 1, 3])

    answer = backend.predict(wines, event_time=NOON, source="test", request_id="r")

    assert answer.index.tolist() == [5, 1, 3]
    assert answer["prediction"].tolist() == (wines["alcohol"] / 2).tolist()
    assert context.log is not None
    logged = context.log.read()
    assert logged["prediction_id"].tolist() == answer["prediction_id"].tolist()
    assert set(logged["source"]) == {"test"}
    assert set(logged["event_time"]) == {pd.Timestamp(NOON)}
    again = backend.predict(wines, event_time=NOON, source="test", request_id="r")
    pd.testing.assert_frame_equal(again, answer)


def test_in_process_takes_ground_truth(context: BackendContext) -> None:
    backend = create_backend("in_process", {}, context)
    answer = backend.predict(make_wines(3), event_time=NOON, source="test", request_id="r")
    labels = answer[["prediction_id"]].assign(quality=6, labelled_at=NOON)
    assert backend.submit_ground_truth(labels) == 3
    assert backend.submit_ground_truth(labels) == 0


def test_in_process_names_its_model_and_its_health(context: BackendContext, tmp_path: Path) -> None:
    backend = create_backend("in_process", {}, context)
    assert backend.describe_model() == ModelDescription("wine-quality", "3")
    assert backend.check_health() == Health(ready=True)

    (tmp_path / "file").write_text("no folder")
    broken = BackendContext(context.predictor, InferenceLog(f"sqlite:///{tmp_path}/file/log.db"))
    health = create_backend("in_process", {}, broken).check_health()
    assert not health.ready
    assert "cannot be made" in health.reason


def test_in_process_needs_a_champion_and_a_log_and_nothing_else(context: BackendContext) -> None:
    for poor in (BackendContext(), BackendContext(predictor=context.predictor)):
        with pytest.raises(WineQualityError, match="needs a champion and an inference log"):
            create_backend("in_process", {}, poor)
    with pytest.raises(WineQualityError, match="has no setting url"):
        create_backend("in_process", {"url": "http://localhost"}, context)


MODULE = """
import pandas as pd
from wine_quality.traffic.backends import Backend, Health
from wine_quality.serving.predictor import ModelDescription

class OurBackend(Backend):
    def __init__(self, config):
        self.config = config

    @classmethod
    def from_config(cls, config, context):
        return cls(config)

    def predict(self, wines, *, event_time, source, request_id):
        raise NotImplementedError

    def submit_ground_truth(self, labels):
        return 0

    def describe_model(self):
        return ModelDescription("ours", self.config["version"])

    def check_health(self):
        return Health(ready=True)

not_a_class = OurBackend({})
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "our_team_backends"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / "broken_backends.py").write_text("import no_such_package_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_a_team_brings_its_own_by_class_path(module: str) -> None:
    backend = create_backend(f"{module}.OurBackend", {"version": "9"}, BackendContext())
    assert isinstance(backend, Backend)
    assert backend.describe_model() == ModelDescription("ours", "9")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("in_proces", r"no backend 'in_proces': choose in_process, or give the path of a class"),
        ("", r"no backend '': choose in_process"),
        ("our_team_backends.TheirBackend", "cannot be imported .*TheirBackend"),
        ("no_such_package_anywhere.Backend", "cannot be imported .*no_such_package_anywhere"),
        ("broken_backends.Backend", "cannot be imported .*no_such_package_anywhere"),
        (".Backend", "no backend '.Backend'|cannot be imported"),
        ("our_team_backends.not_a_class", "'our_team_backends.not_a_class' is no backend"),
        ("pathlib.Path", r"is no backend: give a subclass of wine_quality\.traffic\.backends\."),
    ],
)
def test_a_backend_that_is_none(module: str, name: str, message: str) -> None:
    with pytest.raises(WineQualityError, match=message) as caught:
        create_backend(name, {}, BackendContext())
    assert "\n" not in str(caught.value)


def test_every_short_name_is_a_backend() -> None:
    assert BACKENDS["in_process"] is InProcessBackend
    assert all(issubclass(backend, Backend) for backend in BACKENDS.values())


def test_an_abstract_backend_cannot_be_made() -> None:
    class Half(Backend):
        @classmethod
        def from_config(cls, config: Mapping[str, Any], context: BackendContext) -> "Half":
            return cls()  # type: ignore[abstract]

    with pytest.raises(TypeError, match="abstract"):
        Half.from_config({}, BackendContext())
