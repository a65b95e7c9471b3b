"""Backends are found by name or class path, and told what they know."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from wine_quality.errors import WineQualityError
from wine_quality.parameters import Parameters
from wine_quality.serving.predictor import ModelDescription
from wine_quality.traffic.backends import (
    BACKENDS,
    Backend,
    BackendContext,
    BackendUnavailableError,
    InProcessBackend,
    create_backend,
    read_config,
)

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
        ("in_proces", r"no backend 'in_proces': choose in_process, .*lake, or give the path"),
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
    assert list(BACKENDS) == ["in_process", "service", "mlflow_server", "sagemaker", "lake"]
    assert BACKENDS["in_process"] is InProcessBackend
    assert all(issubclass(backend, Backend) for backend in BACKENDS.values())


def test_an_abstract_backend_cannot_be_made() -> None:
    class Half(Backend):
        @classmethod
        def from_config(cls, config: Mapping[str, Any], context: BackendContext) -> "Half":
            return cls()  # type: ignore[abstract]

    with pytest.raises(TypeError, match="abstract"):
        Half.from_config({}, BackendContext())


def test_settings_that_cannot_be_are_named() -> None:
    class Ours(Parameters):
        url: str
        seconds: float = 1.0

    assert read_config(Ours, {"url": "a"}, "ours") == Ours(url="a")
    with pytest.raises(WineQualityError) as caught:
        read_config(Ours, {"seconds": "long", "yrl": "a"}, "ours")
    message = str(caught.value)
    assert "url: Field required; seconds: Input should be" in message
    assert "yrl: Extra inputs" in message
    assert message.endswith("It knows the settings url, seconds.")


def test_what_may_pass_is_told_from_what_is_final() -> None:
    assert issubclass(BackendUnavailableError, WineQualityError)
    assert BackendUnavailableError("busy", 2.5).retry_after == 2.5
    assert BackendUnavailableError("gone").retry_after is None
