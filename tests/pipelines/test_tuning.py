import json

import pytest

from wine_quality import pipeline_registry
from wine_quality.modelling.candidates import Candidate, PublishedFigures
from wine_quality.modelling.tuning import Budget, FinishedTrial, SearchSettings, Study
from wine_quality.pipelines.training import nodes as training
from wine_quality.pipelines.training.parameters import ComparisonParameters, TrainingParameters
from wine_quality.pipelines.tuning import create_pipeline, nodes

TREE = Candidate.model_validate(
    {
        "estimator": "sklearn.tree.DecisionTreeRegressor",
        "settings": {"max_depth": 10},
        "search_space": {"max_depth": {"type": "int", "low": 1, "high": 10}},
    }
)
COMPARISON = ComparisonParameters.model_validate(
    {"metric": "rmse", "seed": 2009, "cross_validation": {"folds": 3, "repeats": 1}}
)


@pytest.fixture
def tune(run_pipeline, labelled_wines, tmp_path):
    """Runs the tuning pipeline of a tree with a database of the test's own."""
    seen: list[FinishedTrial] = []

    def run():
        given = {
            "training_wines": labelled_wines,
            "tree_study": Study("tree", f"sqlite:///{tmp_path}/optuna.db", seen.append),
            "params:training.candidates.tree": TREE,
            "params:training.comparison": COMPARISON,
            "params:tuning.search": SearchSettings(folds=2, seed=2009, prune=False),
            "params:tuning.long": Budget(trials=4, minutes=5),
        }
        return run_pipeline(create_pipeline(["tree"], "long"), given)

    run.seen = seen
    return run


def test_the_pipeline_ends_in_the_best_settings_which_training_uses(tune, labelled_wines):
    made = tune()
    best = made["tree_best_settings"]
    assert json.loads(json.dumps(best)) == best
    assert best["value"] == min(trial.value for trial in tune.seen)
    table = made["tuning_results"]
    assert table["candidate"].tolist() == ["tree"]
    assert table["best"].tolist() == [best["value"]]
    assert table["finished"].tolist() == [4]

    folds = training.assign_folds(labelled_wines, COMPARISON)
    scores = training.cross_validate_candidate(labelled_wines, folds, TREE, best, COMPARISON)
    assert scores["settings"]["settings"] == best["settings"]
    assert scores["tuned"] == "tuned, best of 4 trials"


def test_where_no_trial_is_better_training_says_as_configured(tune, labelled_wines):
    best = tune()["tree_best_settings"]
    # as if the configured settings were a point that no drawn one beats, outside of the space
    best = best | {"configured_value": best["value"]}
    folds = training.assign_folds(labelled_wines, COMPARISON)
    scores = training.cross_validate_candidate(labelled_wines, folds, TREE, best, COMPARISON)
    assert scores["settings"]["settings"] == TREE.settings
    assert scores["tuned"] == "as configured (the best of 4 trials)"


def test_running_it_again_repeats_no_trial(tune):
    first = tune()
    tune.seen.clear()
    assert tune()["tree_best_settings"] == first["tree_best_settings"]
    assert tune.seen == []


def test_results_are_told_in_words():
    found = {
        "metric": "mae",
        "finished": 9,
        "pruned": 2,
        "configured_value": 0.6,
        "value": 0.5,
        "settings": {"rate": 0.123456, "depth": 3, "kind": "a"},
    }
    table = nodes.summarise_tuning(boosted=found)
    assert table["settings"].tolist() == ["rate 0.1235, depth 3, kind a"]
    assert table["configured"].tolist() == [0.6]
    table = nodes.summarise_tuning(boosted=found | {"value": 0.6})
    assert table["settings"].tolist() == ["as configured"]


@pytest.mark.parametrize("budget", ["quick", "long"])
def test_a_budget_is_a_parameter(budget):
    assert f"params:tuning.{budget}" in create_pipeline(["tree"], budget).inputs()


def test_without_candidates_there_is_nothing_to_do():
    assert create_pipeline([], "quick").nodes == []


# who is tuned


@pytest.fixture
def names():
    def find(**candidates):
        parameters = TrainingParameters.model_construct(candidates=candidates)
        return pipeline_registry.name_candidates(parameters)

    return find


def test_only_enabled_candidates_with_a_space_are_tuned(names):
    found = names(
        tuned=TREE,
        quick=TREE.model_copy(update={"quick_tune": True}),
        left_out=TREE.model_copy(update={"tune": False, "quick_tune": True}),
        disabled=TREE.model_copy(update={"enabled": False, "quick_tune": True}),
        without=Candidate(estimator=TREE.estimator, quick_tune=True),
    )
    assert found.compared == ("tuned", "quick", "left_out", "without")
    assert found.tuned == ("tuned", "quick")
    assert found.quick == ("quick",)
    assert found.published == ()


def test_whose_figures_were_published_is_compared_with_them(names):
    printed = TREE.model_copy(update={"published": PublishedFigures(rmse=0.1, r2=0.9)})
    found = names(printed=printed, other=TREE, off=printed.model_copy(update={"enabled": False}))
    assert found.published == ("printed",)
