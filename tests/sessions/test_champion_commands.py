"""`kedro champion`: who is champion, promotion by hand, rollback."""

from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from wine_quality.modelling.registry import CHALLENGER, CHAMPION

PROJECT = Path(__file__).parents[2]
MODEL = "wine-quality"


@pytest.fixture
def client(fresh_root):
    """A registry of three versions, the second of which must not be served."""
    client = MlflowClient(f"sqlite:///{fresh_root}/mlflow.db")
    client.create_registered_model(MODEL)
    for tags in (
        {"candidate": "forest", "held_out_rmse": "0.6100", "onnx": "yes"},
        {"onnx_parity": "failed", "onnx": "it differs by 2 points"},
        {"candidate": "blend"},
    ):
        client.create_model_version(MODEL, source=fresh_root.as_uri(), tags=tags)
    return client


@pytest.fixture
def champion(project_command):
    """Runs `kedro champion …`; gives status and output."""
    return partial(project_command, "champion")


def alias_of(client, alias):
    number = client.get_registered_model(MODEL).aliases.get(alias)
    # MLflow gives a number from SQLite and text from a server
    return None if number is None else str(number)


def test_promotion_and_rollback_by_hand(client, champion):
    client.set_registered_model_alias(MODEL, CHALLENGER, "3")
    assert champion("promote", "1") == (0, "Champion of wine-quality is version 1.\n")
    status, output = champion("promote", "3")
    assert (status, output) == (
        0,
        "Champion of wine-quality is version 3; before it was version 1.\n",
    )
    assert (alias_of(client, CHAMPION), alias_of(client, CHALLENGER)) == ("3", None)
    assert champion("rollback") == (0, "Champion of wine-quality is version 1 again.\n")
    assert alias_of(client, CHAMPION) == "1"


def test_the_champion_is_shown_with_what_it_says_of_itself(client, champion):
    champion("promote", "3")
    champion("promote", "1")
    client.set_registered_model_alias(MODEL, CHALLENGER, "2")
    status, output = champion("show")
    assert status == 0
    assert output.splitlines() == [
        "champion of wine-quality: version 1, candidate forest, held out rmse 0.6100, onnx yes",
        "challenger of wine-quality: version 2, onnx it differs by 2 points",
        "champions before, the newest last: 3",
    ]


def test_an_empty_registry_is_shown(fresh_root, champion):
    status, output = champion("show")
    assert status == 0
    assert output.splitlines() == [
        "champion of wine-quality: none",
        "challenger of wine-quality: none",
        "champions before, the newest last: none",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("promote", "9"), "wine-quality has no version 9: the newest is 3"),
        (("promote", "best"), "wine-quality has no version best"),
        (
            ("promote", "2"),
            "Version 2 of wine-quality cannot become champion: it differs by 2 points",
        ),
        (("rollback",), "wine-quality had no champion before the present one"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_changes_nothing(client, champion, arguments, message):
    champion("promote", "1")
    status, output = champion(*arguments)
    assert status == 1
    assert output.startswith(f"Error: {message}")
    assert len(output.splitlines()) == 1
    assert alias_of(client, CHAMPION) == "1"


def test_an_environment_that_does_not_exist_is_named(champion):
    status, output = champion("show", env="prodution")
    assert status == 1
    assert output.startswith("Error: There is no environment 'prodution'")
