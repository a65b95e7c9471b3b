"""Two trainings at once: each decides about its own version."""

import re

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import load_text

from tests.sessions.conftest import ONE_CANDIDATE
from wine_quality.modelling.registry import CHALLENGER, CHAMPION

MODEL = "wine-quality"
STUMP = f"{ONE_CANDIDATE},training.candidates.decision_tree_classifier.settings.max_depth=1"
TREES = (
    "training.candidates.decision_tree_classifier.enabled=false,"
    "training.candidates.k_neighbors_regressor.enabled=false"
)
DECISION = re.compile(r"wine-quality version (\d+) is (champion|challenger)")


@pytest.mark.slow
def test_two_trainings_in_one_folder_each_decide_about_their_own_version(
    after_whole_run, start_apart
):
    client = MlflowClient(f"sqlite:///{after_whole_run}/mlflow.db")
    # a first champion, so that whichever is faster is promoted
    client.delete_registered_model(MODEL)
    training = ("--env", "test", "--pipelines", "training")
    processes = {
        "decision_tree_classifier": start_apart(*training, "--params", STUMP, root=after_whole_run),
        "extra_trees_regressor": start_apart(*training, "--params", TREES, root=after_whole_run),
    }
    outcomes = {name: process.communicate(timeout=600) for name, process in processes.items()}
    for name, process in processes.items():
        output, errors = outcomes[name]
        assert process.returncode == 0, output + errors
        assert "Traceback" not in output + errors
        version, _ = DECISION.search(output).groups()
        assert client.get_model_version(MODEL, version).tags["candidate"] == name
        # its own files went with it, not the other's
        run = client.get_run(client.get_model_version(MODEL, version).run_id)
        card = load_text(f"{run.info.artifact_uri}/model_card.md")
        assert card.startswith(f"# Model card: wine quality by {name.replace('_', ' ')}")
    champion = client.get_model_version_by_alias(MODEL, CHAMPION)
    assert champion.tags["candidate"] == "extra_trees_regressor"
    aliases = client.get_registered_model(MODEL).aliases
    assert {str(version) for version in aliases.values()} <= {"1", "2"}
    if CHALLENGER in aliases:
        assert aliases[CHALLENGER] != aliases[CHAMPION]


def test_a_champion_that_somebody_else_registered_is_told_before_the_first_node(
    after_whole_run, kedro_here
):
    client = MlflowClient(f"sqlite:///{after_whole_run}/mlflow.db")
    foreign = client.create_model_version(MODEL, source=after_whole_run.as_uri())
    client.set_registered_model_alias(MODEL, CHAMPION, foreign.version)
    outcome = kedro_here(
        *("--env", "test", "--pipelines", "training", "--params", STUMP), root=after_whole_run
    )
    assert outcome.status == 0, outcome.output + outcome.errors
    said = " ".join(outcome.output.split())
    warning = f"Version {foreign.version}, the champion of wine-quality, has no reference"
    assert said.index(warning) < said.index("training: assign folds")
    new = str(int(foreign.version) + 1)
    assert f"version {new} is challenger; version {foreign.version} stays champion" in said
    assert f"'kedro champion promote {new}'" in said
    assert str(client.get_registered_model(MODEL).aliases[CHALLENGER]) == new
