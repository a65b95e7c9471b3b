"""What the service loads, and what it refuses to open."""

import pytest

from tests import crafted_versions as crafted
from wine_quality.modelling.loading import BrokenVersionError
from wine_quality.serving.__main__ import main
from wine_quality.serving.served_model import ModelLoader


@pytest.fixture
def saved(registered, tmp_path):
    return crafted.save_model(registered.model, tmp_path / "model")


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "it-ran"


@pytest.mark.parametrize("kind", crafted.CRAFTED)
def test_nothing_of_a_crafted_version_runs(registered, settings, saved, marker, kind) -> None:
    crafted.swap_skops(saved, crafted.skops_with(crafted.CRAFTED[kind](marker)))
    crafted.register(registered.registry.name, saved)
    loader = ModelLoader.of(settings)
    with pytest.raises(BrokenVersionError, match=r"Version 1 of .* is refused: it"):
        loader.load(loader.wanted())
    assert not marker.exists()


def test_a_pickle_beside_the_model_is_not_opened(registered, settings, saved, marker) -> None:
    crafted.pickle_beside(saved, marker)
    crafted.register(registered.registry.name, saved)
    loader = ModelLoader.of(settings)
    with pytest.raises(BrokenVersionError, match=r"beside its model\.skops lies model\.pkl"):
        loader.load(loader.wanted())
    assert not marker.exists()


@pytest.mark.parametrize("names", ["", "our_team.Blend, other.Type ,"])
def test_a_teams_types_are_named_by_a_setting(settings, names) -> None:
    loader = ModelLoader.of(settings.model_copy(update={"trusted_types": names}))
    assert loader._trusted_types == ({"our_team.Blend", "other.Type"} if names else set())


def test_the_champion_is_checked_before_mlflow_serves_it(
    registered, saved, marker, monkeypatch, capsys
) -> None:
    name = registered.registry.name
    monkeypatch.setenv("WINE_QUALITY_REGISTERED_MODEL", name)
    arguments = ["check", "--tracking-uri", registered.tracking_uri]
    assert main(arguments) == 1
    assert f"has no champion of {name} yet: train one" in capsys.readouterr().err
    crafted.register(name, saved)
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"models:/{name}/1\n"
    crafted.swap_skops(saved, crafted.skops_with(crafted.constructor(marker)))
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"Error: Version 1 of {name} is refused: it holds types that are")
    assert not marker.exists()
