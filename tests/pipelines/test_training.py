import mlflow
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from pydantic import ValidationError

from wine_quality.datasets import ChampionDataset, ModelVersionDataset, PreviousChampionDataset
from wine_quality.errors import WineQualityError
from wine_quality.modelling.candidates import Candidate
from wine_quality.modelling.metrics import METRICS, score_slices
from wine_quality.modelling.registry import RegisteredVersion
from wine_quality.pipelines.training import create_pipeline, nodes
from wine_quality.pipelines.training.figures import plot_comparison, plot_predictions
from wine_quality.pipelines.training.parameters import ComparisonParameters, TrainingParameters
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import INPUTS, LABELLED_WINES, PREDICTION, QUALITY, fingerprint

CANDIDATES = {
    "tree": Candidate(estimator="sklearn.tree.DecisionTreeClassifier", settings={"max_depth": 3}),
    "forest": Candidate(
        estimator="sklearn.ensemble.ExtraTreesRegressor", settings={"n_estimators": 20}
    ),
}
# predicts the mean whatever the wine
CRIPPLED = Candidate(estimator="sklearn.dummy.DummyRegressor")
HELD_OUT = draw_wines(100, 21)


def comparison_parameters(**changes):
    plain = {"metric": "rmse", "seed": 2009, "cross_validation": {"folds": 3, "repeats": 1}}
    return ComparisonParameters.model_validate(plain | changes)


def scores(metric_by_fold, **metrics):
    return {
        "settings": {},
        "metrics": dict.fromkeys(METRICS, 0.5) | {"rmse": np.mean(metric_by_fold)} | metrics,
        "folds": [{"rmse": value, "mae": value / 2} for value in metric_by_fold],
    }


@pytest.fixture
def folds(labelled_wines):
    return nodes.assign_folds(labelled_wines, comparison_parameters())


@pytest.fixture
def reference(labelled_wines):
    return HELD_OUT.assign(**{PREDICTION: HELD_OUT[QUALITY] + 0.25})


# Nodes


def test_folds_are_as_the_parameters_say(labelled_wines):
    parameters = comparison_parameters(cross_validation={"folds": 4, "repeats": 2})
    folds = nodes.assign_folds(labelled_wines, parameters)
    assert folds.shape == (240, 2)
    assert set(folds["repeat_0"]) == set(folds["repeat_1"]) == {0, 1, 2, 3}


def test_too_many_folds_are_an_error(labelled_wines):
    parameters = comparison_parameters(cross_validation={"folds": 200, "repeats": 1})
    with pytest.raises(WineQualityError, match="cannot be divided into 200 parts"):
        nodes.assign_folds(labelled_wines, parameters)


def test_a_candidate_is_scored_on_every_fold(labelled_wines, folds):
    found = nodes.cross_validate_candidate(
        labelled_wines, folds, CANDIDATES["forest"], comparison_parameters()
    )
    assert found["settings"] == CANDIDATES["forest"].model_dump()
    assert [(fold["repeat"], fold["fold"]) for fold in found["folds"]] == [(0, 0), (0, 1), (0, 2)]
    for metric in METRICS:
        assert found["metrics"][metric] == pytest.approx(
            np.mean([fold[metric] for fold in found["folds"]])
        )
    # it learns something
    assert found["metrics"]["rmse"] < labelled_wines[QUALITY].std()


@pytest.mark.parametrize(
    ("candidate", "named"),
    [
        (Candidate(estimator="sklearn.tree.NoTree"), "cannot be built.*has no 'NoTree'"),
        (
            Candidate(estimator="sklearn.tree.DecisionTreeRegressor", settings={"max_depth": -1}),
            "cannot be fitted: .*max_depth",
        ),
    ],
)
def test_a_candidate_with_wrong_settings_is_named(labelled_wines, folds, candidate, named):
    with pytest.raises(WineQualityError, match=f"{candidate.estimator} with .*{named}"):
        nodes.cross_validate_candidate(labelled_wines, folds, candidate, comparison_parameters())


def test_candidates_are_ranked_by_the_metric():
    results = {"b": scores([0.8, 0.6]), "a": scores([0.5, 0.7]), "c": scores([0.6, 0.6])}
    table = nodes.compare_candidates(comparison_parameters(), **results)
    # a and c are equal: the name decides
    assert table[["candidate", "rank"]].to_numpy().tolist() == [["a", 1], ["c", 2], ["b", 3]]
    assert table["rmse"].tolist() == pytest.approx([0.6, 0.6, 0.7])
    assert table["rmse_std"].tolist() == pytest.approx([np.sqrt(0.02), 0, np.sqrt(0.02)])
    assert set(METRICS) < set(table)


def test_candidates_may_be_ranked_by_another_metric():
    results = {"a": scores([0.5, 0.7], mae=0.4), "b": scores([0.8, 0.6], mae=0.3)}
    table = nodes.compare_candidates(comparison_parameters(metric="mae"), **results)
    assert table["candidate"].tolist() == ["b", "a"]
    assert "mae_std" in table
    assert "rmse_std" not in table


def test_the_best_candidate_is_fitted_on_all_training_wines(labelled_wines):
    candidates = {"a": CANDIDATES["tree"], "b": CRIPPLED, "c": CANDIDATES["forest"]}
    comparison = pd.DataFrame({"candidate": ["b", "a", "c"], "rank": [1, 2, 3]})
    model = nodes.fit_best_candidate(
        labelled_wines, comparison, comparison_parameters(), **candidates
    )
    assert model.predict(HELD_OUT) == pytest.approx(labelled_wines[QUALITY].mean())


def test_the_reference_is_held_out_wines_with_predictions(labelled_wines):
    comparison = pd.DataFrame({"candidate": ["tree"]})
    model = nodes.fit_best_candidate(
        labelled_wines, comparison, comparison_parameters(), tree=CANDIDATES["tree"]
    )
    reference = nodes.predict_held_out(model, HELD_OUT.assign(source="x.csv"))
    assert list(reference) == [*INPUTS, QUALITY, PREDICTION]
    assert_frame_equal(reference.drop(columns=PREDICTION), HELD_OUT)
    # a classifier's whole numbers, too, are a number of points
    assert reference[PREDICTION].dtype == float
    assert reference[PREDICTION].between(3, 9).all()


def test_the_model_is_scored_on_the_reference(reference):
    found = nodes.evaluate_model(reference)
    assert found == score_slices(reference)
    assert found["all"]["mae"] == pytest.approx(0.25)


def test_a_version_says_what_it_is(labelled_wines, reference):
    comparison = pd.DataFrame({"candidate": ["tree", "forest"]})
    metrics = {"all": {"rmse": 0.66666, "r2": 0.4}, "red": {"rmse": 1}}
    packed = nodes.describe_version("model", reference, metrics, comparison, labelled_wines)
    assert packed.model == "model"
    assert packed.reference is reference
    assert packed.tags == {
        "candidate": "tree",
        "training_wines": fingerprint(labelled_wines),
        "held_out_wines": fingerprint(HELD_OUT),
        "held_out_rmse": "0.6667",
        "held_out_r2": "0.4000",
    }


@pytest.mark.parametrize("shift", [None, 0.25, 2.0])
def test_a_promotion_is_decided_once_for_report_and_registry(reference, shift):
    version = RegisteredVersion("wine-quality", "2", "run", {})
    previous = shift and (
        RegisteredVersion("wine-quality", "1", "run", {}),
        reference.assign(prediction=reference[QUALITY] + shift),
    )
    report, registry = nodes.decide_promotion(version, reference, previous, comparison_parameters())
    assert report == registry
    assert (report["version"], report["promoted"]) == ("2", shift != 0.25)


# Figures


def test_the_comparison_shows_the_best_on_top(reference):
    table = nodes.compare_candidates(
        comparison_parameters(), second_best=scores([0.8, 0.6]), best=scores([0.5, 0.5])
    )
    figure = plot_comparison(table, comparison_parameters())
    bars = figure.data[0]
    assert list(bars.y) == ["best", "second best"]
    assert list(bars.x) == pytest.approx([0.5, 0.7])
    assert list(bars.error_x.array) == pytest.approx([0, np.sqrt(0.02)])
    assert list(bars.text) == ["0.500", "0.700"]
    assert figure.layout.yaxis.autorange == "reversed"
    assert len(set(bars.marker.color)) == 2


def test_predictions_are_shown_by_type_and_quality(reference):
    figure = plot_predictions(reference)
    assert [trace.name for trace in figure.data] == ["red", "white", "exact"]
    reds = reference[reference["type"] == "red"]
    assert list(figure.data[0].x) == reds[QUALITY].tolist()
    assert list(figure.data[0].y) == (reds[QUALITY] + 0.25).tolist()
    low, high = reference[QUALITY].min(), reference[QUALITY].max()
    assert list(figure.data[2].x) == list(figure.data[2].y) == [low, high]


# Parameters


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"metric": "r2"}, "metric"),
        ({"seed": -1}, "seed"),
        ({"cross_validation": {"folds": 1, "repeats": 1}}, "folds"),
        ({"cross_validation": {"folds": 2, "repeats": 0}}, "repeats"),
        ({"metrics": "rmse"}, "metrics"),
    ],
)
def test_wrong_parameters_are_named(wrong, named):
    with pytest.raises(ValidationError, match=named):
        comparison_parameters(**wrong)


def test_someone_must_take_part():
    off = CRIPPLED.model_copy(update={"enabled": False})
    everything = {"comparison": comparison_parameters(), "candidates": {"a": off, "b": off}}
    with pytest.raises(ValidationError, match="at least one candidate must be enabled"):
        TrainingParameters.model_validate(everything)
    assert TrainingParameters.model_validate(everything | {"candidates": {"a": off, "b": CRIPPLED}})


# The pipeline


@pytest.fixture
def train(run_pipeline, registry, experiment_id, labelled_wines):
    """Runs the training pipeline with candidates, on a registry of the test's own."""

    def run(candidates, held_out=HELD_OUT):
        given = {
            "training_wines": labelled_wines,
            "held_out_wines": held_out,
            "params:training.comparison": comparison_parameters(),
            "registered_version": ModelVersionDataset(model_name=registry.name),
            "previous_champion": PreviousChampionDataset(model_name=registry.name),
            "champion": ChampionDataset(model_name=registry.name),
        }
        given |= {f"params:training.candidates.{name}": c for name, c in candidates.items()}
        with mlflow.start_run(experiment_id=experiment_id):
            return run_pipeline(create_pipeline(list(candidates)), given)

    return run


def test_the_pipeline_ends_in_a_champion(train, registry, labelled_wines):
    made = train(CANDIDATES)
    comparison = made["comparison"]
    assert sorted(comparison["candidate"]) == ["forest", "tree"]
    assert comparison["rmse"].is_monotonic_increasing
    assert made["forest_scores"]["metrics"]["rmse"] in comparison["rmse"].tolist()
    assert set(made["folds"]["repeat_0"]) == {0, 1, 2}

    best = comparison["candidate"].iloc[0]
    champion = registry.champion()
    assert champion.version.version == "1"
    assert champion.version.tags["candidate"] == best
    assert champion.version.tags["training_wines"] == fingerprint(labelled_wines)
    reference = made["reference"]
    assert LABELLED_WINES.validate(reference)[QUALITY].equals(HELD_OUT[QUALITY])
    assert (champion.model.predict(HELD_OUT) == reference[PREDICTION]).all()
    assert_frame_equal(registry.reference("1"), reference)
    assert made["held_out_metrics"] == score_slices(reference)
    assert made["promotion"] == {
        "model": registry.name,
        "version": "1",
        "promoted": True,
        "champion": "1",
        "reason": "it is the first champion",
    }
    assert made["comparison_figure"].data
    assert made["predictions_figure"].data


def test_the_same_wines_and_seed_give_the_same_model_which_stays_challenger(train, registry):
    first, second = train(CANDIDATES), train(CANDIDATES)
    assert_frame_equal(second["reference"], first["reference"])
    assert_frame_equal(second["comparison"], first["comparison"])
    assert second["promotion"]["champion"] == "1"
    assert "gain +0.0000" in second["promotion"]["reason"]
    assert registry.version("champion").version == "1"
    assert registry.version("challenger").version == "2"


def test_champions_change_only_for_the_better(train, registry):
    assert train({"crippled": CRIPPLED})["promotion"]["champion"] == "1"
    better = train({"forest": CANDIDATES["forest"]})["promotion"]
    assert better["reason"].startswith("it is better")
    assert registry.version("champion").version == "2"
    worse = train({"crippled": CRIPPLED})["promotion"]
    assert worse["reason"].startswith("it is not better")
    assert registry.version("champion").version == "2"
    assert registry.version("challenger").version == "3"
    elsewhere = train({"forest": CANDIDATES["forest"]}, held_out=draw_wines(100, 22))["promotion"]
    assert "other held-out wines" in elsewhere["reason"]
    assert registry.version("champion").version == "2"


def test_each_candidate_is_a_namespace_of_its_own():
    pipeline = create_pipeline(["tree", "forest"])
    for name in ("tree", "forest"):
        (node,) = pipeline.filter(node_namespaces=[f"training.{name}"]).nodes
        assert node.name == f"training.{name}.cross_validate_candidate"
        assert node.outputs == [f"{name}_scores"]
    assert pipeline.inputs() == {
        "training_wines",
        "held_out_wines",
        "previous_champion",
        "params:training.comparison",
        "params:training.candidates.tree",
        "params:training.candidates.forest",
    }
