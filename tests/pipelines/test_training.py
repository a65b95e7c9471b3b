import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from pydantic import ValidationError
from sklearn.pipeline import Pipeline
from yaml import safe_load

from wine_quality.contracts import LABELLED_WINES
from wine_quality.datasets import ChampionDataset, ModelRegistryDataset, ModelVersionDataset
from wine_quality.drift.reference import Reference
from wine_quality.errors import WineQualityError
from wine_quality.modelling.candidates import Candidate, PublishedFigures
from wine_quality.modelling.metrics import METRICS, score_slices
from wine_quality.modelling.model_card import CardTexts, errors_by_quality
from wine_quality.modelling.promotion import PromotionSettings
from wine_quality.pipelines.training import create_pipeline, nodes
from wine_quality.pipelines.training.figures import (
    collect_figures,
    plot_comparison,
    plot_importance,
    plot_learning_curve,
    plot_predictions,
    plot_quality_errors,
    plot_residuals,
)
from wine_quality.pipelines.training.parameters import (
    AnalysisParameters,
    ComparisonParameters,
    TrainingParameters,
)
from wine_quality.pipelines.training.published import compare_with_published, judge_as_published
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import (
    INPUTS,
    PREDICTION,
    QUALITY,
    WINE_TYPES,
    fingerprint,
    wine_hashes,
)

CANDIDATES = {
    "tree": Candidate(estimator="sklearn.tree.DecisionTreeClassifier", settings={"max_depth": 3}),
    "forest": Candidate(
        estimator="sklearn.ensemble.ExtraTreesRegressor", settings={"n_estimators": 20}
    ),
}
BOOSTED = Candidate.model_validate(
    {
        "estimator": "xgboost.XGBRegressor",
        "settings": {"n_estimators": 60, "learning_rate": 0.3, "max_depth": 3, "n_jobs": 1},
        "early_stopping": {"rounds": 5, "held_back_share": 0.2},
    }
)
# predicts the mean whatever the wine
CRIPPLED = Candidate(estimator="sklearn.dummy.DummyRegressor")
BUILT = {"estimator": "sklearn.tree.DecisionTreeRegressor", "settings": {"max_depth": 2}}
HELD_OUT = draw_wines(100, 21)
ANALYSIS = AnalysisParameters(
    seed=3, bootstrap_resamples=100, permutation_repeats=2, learning_curve_shares=(0.5, 1)
)
TEXTS = CardTexts(
    data="Drawn wines.",
    licence="CC0",
    citation="None.",
    intended_use="Tests.",
    not_for="wines",
    limits="tasters differ",
    predicted="wine quality",
)
WINE_AUDIT = {
    "read": 340,
    "accepted": 340,
    "rejected": 0,
    "by_type": {"red": 80, "white": 260},
    "by_quality": {"5": 140, "6": 200},
    "exact_duplicates": 3,
    "missing": {"pH": 2},
}
SPLIT_AUDIT = {
    "training_rows": 240,
    "held_out_rows": 100,
    "held_out_rows_in_training": 0,
    "distinct_complete_rows": 90,
    "distinct_complete_rows_in_training": 0,
}


def comparison_parameters(**changes):
    plain = {"metric": "rmse", "seed": 2009, "cross_validation": {"folds": 3, "repeats": 1}}
    return ComparisonParameters.model_validate(plain | changes)


def scores(metric_by_fold, **metrics):
    by_type = {f"rmse_{wine_type}": 0.6 for wine_type in WINE_TYPES}
    everything = dict.fromkeys(METRICS, 0.5) | by_type | {"rmse": np.mean(metric_by_fold)}
    return {
        "settings": {},
        "tuned": "as configured",
        "metrics": everything | metrics,
        "folds": [{"rmse": value, "mae": value / 2} for value in metric_by_fold],
        "rounds": [],
        "curve": [],
    }


def compare(parameters=None, **results):
    folds = pd.DataFrame({"repeat_0": [0, 1]})
    return nodes.compare_candidates(folds, parameters or comparison_parameters(), **results)


def fit_best(wines, comparison, **candidates):
    results = {name: {"settings": c.model_dump(mode="json")} for name, c in candidates.items()}
    return nodes.fit_best_candidate(wines, comparison, comparison_parameters(), **results)


def found_for(candidate, wines, **changes):
    """What tuning writes down."""
    return {
        "candidate": "forest",
        "estimator": candidate.estimator,
        "scale": candidate.scale,
        "early_stopping": None,
        "configured": candidate.settings,
        "training_wines": fingerprint(wines),
        "metric": "rmse",
        "finished": 12,
        "configured_value": 0.7,
        "value": 0.69,
        "settings": {"n_estimators": 7},
    } | changes


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
        labelled_wines, folds, CANDIDATES["forest"], {}, comparison_parameters()
    )
    assert Candidate.model_validate(found["settings"]) == CANDIDATES["forest"]
    assert found["tuned"] == "as configured"
    assert (found["rounds"], found["curve"]) == ([], [])
    assert [(fold["repeat"], fold["fold"]) for fold in found["folds"]] == [(0, 0), (0, 1), (0, 2)]
    for metric in METRICS:
        assert found["metrics"][metric] == pytest.approx(
            np.mean([fold[metric] for fold in found["folds"]])
        )
        for wine_type in WINE_TYPES:
            name = f"{metric}_{wine_type}"
            assert found["metrics"][name] == pytest.approx(
                np.nanmean([fold[name] for fold in found["folds"]])
            )
    # it learns something
    assert found["metrics"]["rmse"] < labelled_wines[QUALITY].std()


@pytest.mark.parametrize(
    ("candidate", "named"),
    [
        (
            Candidate(estimator="sklearn.tree.NoTree"),
            "cannot be imported: .*has no attribute 'NoTree'",
        ),
        (
            Candidate(estimator="sklearn.tree.DecisionTreeRegressor", settings={"max_depth": -1}),
            "with .*cannot be fitted: .*max_depth",
        ),
    ],
)
def test_a_candidate_with_wrong_settings_is_named(labelled_wines, folds, candidate, named):
    with pytest.raises(WineQualityError, match=f"{candidate.estimator} {named}"):
        nodes.cross_validate_candidate(
            labelled_wines, folds, candidate, {}, comparison_parameters()
        )


def test_a_candidate_runs_with_the_settings_that_tuning_found(labelled_wines, folds):
    forest = CANDIDATES["forest"]
    found = nodes.cross_validate_candidate(
        labelled_wines, folds, forest, found_for(forest, labelled_wines), comparison_parameters()
    )
    assert found["settings"]["settings"] == {"n_estimators": 7}
    assert found["tuned"] == "tuned, best of 12 trials"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"training_wines": "0123456789abcdef"}, "tuned on other wines"),
        ({"estimator": "sklearn.tree.DecisionTreeRegressor"}, "tuned with another estimator"),
        ({"configured": {"n_estimators": 1}}, "configured anew since tuning"),
        ({"scale": True}, "configured anew since tuning"),
        (
            {"early_stopping": {"rounds": 3, "held_back_share": 0.1}},
            "configured anew since tuning",
        ),
        ({"metric": "mae"}, "tuned by mae"),
        ({"value": 0.7}, "the best of 12 trials"),
        ({"value": 0.71}, "the best of 12 trials"),
        # of the first edition, where settings outside of the search space were not tried
        ({"configured_value": None}, "tuned without a comparison with these: tune again"),
    ],
)
def test_settings_that_were_not_found_better_for_this_are_not_used(
    labelled_wines, folds, caplog, changes, why
):
    forest = CANDIDATES["forest"]
    found = nodes.cross_validate_candidate(
        labelled_wines,
        folds,
        forest,
        found_for(forest, labelled_wines, **changes),
        comparison_parameters(),
    )
    assert found["settings"]["settings"] == forest.settings
    assert found["tuned"] == f"as configured ({why})"
    if caplog.records:
        assert why in caplog.text


def test_settings_that_the_first_edition_found_are_used(labelled_wines, folds):
    forest = CANDIDATES["forest"]
    old = found_for(forest, labelled_wines)
    del old["scale"], old["early_stopping"]
    found = nodes.cross_validate_candidate(
        labelled_wines, folds, forest, old, comparison_parameters()
    )
    assert found["tuned"] == "tuned, best of 12 trials"


def test_boosting_keeps_its_rounds_and_its_curve(labelled_wines, folds):
    found = nodes.cross_validate_candidate(
        labelled_wines, folds, BOOSTED, {}, comparison_parameters()
    )
    assert len(found["rounds"]) == 3
    assert 1 <= min(found["rounds"]) <= max(found["rounds"]) <= 60
    # the curve goes on for the rounds after which it stopped
    assert len(found["curve"]) == min(60, found["rounds"][0] + 5)
    assert min(found["curve"]) == found["curve"][found["rounds"][0] - 1]
    built = Candidate.model_validate(found["settings"])
    assert built.early_stopping == BOOSTED.early_stopping


def test_candidates_are_ranked_by_the_metric():
    results = {"b": scores([0.8, 0.6]), "a": scores([0.5, 0.7]), "c": scores([0.6, 0.6])}
    table = compare(**results)
    # a and c are equal: the name decides
    assert table[["candidate", "rank"]].to_numpy().tolist() == [["a", 1], ["c", 2], ["b", 3]]
    assert table["rmse"].tolist() == pytest.approx([0.6, 0.6, 0.7])
    assert table["rmse_std"].tolist() == pytest.approx([np.sqrt(0.02), 0, np.sqrt(0.02)])
    assert set(METRICS) < set(table)
    assert {"rmse_red", "rmse_white", "tuned"} < set(table)


def test_the_distance_to_the_best_is_taken_fold_by_fold():
    table = compare(best=scores([0.5, 0.7]), level=scores([0.6, 0.8]), noisy=scores([0.9, 0.6]))
    best, level, noisy = (row for _, row in table.iterrows())
    assert best["behind"] == best["behind_low"] == best["behind_high"] == 0
    # the same distance on every fold leaves no doubt, however the folds differ
    assert [level["behind"], level["behind_low"], level["behind_high"]] == pytest.approx([0.1] * 3)
    assert noisy["behind"] == pytest.approx(0.15)
    assert noisy["behind_low"] < 0 < noisy["behind_high"]


def test_candidates_may_be_ranked_by_another_metric():
    results = {"a": scores([0.5, 0.7], mae=0.4), "b": scores([0.8, 0.6], mae=0.3)}
    table = compare(comparison_parameters(metric="mae"), **results)
    assert table["candidate"].tolist() == ["b", "a"]
    assert "mae_std" in table
    assert "rmse_std" not in table


def test_the_best_candidate_is_fitted_on_all_training_wines(labelled_wines):
    candidates = {"a": CANDIDATES["tree"], "b": CRIPPLED, "c": CANDIDATES["forest"]}
    comparison = pd.DataFrame({"candidate": ["b", "a", "c"], "rank": [1, 2, 3]})
    model = fit_best(labelled_wines, comparison, **candidates)
    assert model.predict(HELD_OUT) == pytest.approx(labelled_wines[QUALITY].mean())


def test_the_best_boosting_is_a_plain_pipeline(labelled_wines):
    comparison = pd.DataFrame({"candidate": ["boosted"]})
    model = fit_best(labelled_wines, comparison, boosted=BOOSTED)
    assert type(model) is Pipeline
    assert type(model[-1]).__module__.startswith("xgboost")
    assert model[-1].n_estimators < 60
    assert model[-1].early_stopping_rounds is None


def test_the_reference_is_held_out_wines_with_predictions(labelled_wines):
    comparison = pd.DataFrame({"candidate": ["tree"]})
    model = fit_best(labelled_wines, comparison, tree=CANDIDATES["tree"])
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
    comparison = pd.DataFrame({"candidate": ["tree", "forest"], "tuned": ["as configured", "x"]})
    metrics = {"all": {"rmse": 0.66666, "r2": 0.4}, "red": {"rmse": 1}}
    packed = nodes.describe_version(
        "model",
        reference,
        metrics,
        comparison,
        labelled_wines,
        {"rows": 5},
        "# Card",
        "<h1>Card</h1>",
        tree={"settings": BUILT},
    )
    assert packed.model == "model"
    assert packed.reference is reference
    profile = json.loads(packed.files["reference/profile.json"])
    assert packed.files | {"reference/profile.json": profile} == {
        "model_card.md": "# Card",
        "model_card.html": "<h1>Card</h1>",
        "reference/profile.json": {"rows": 5},
    }


def test_monitoring_compares_with_all_wines_of_a_version(labelled_wines, reference):
    comparison = pd.DataFrame({"candidate": ["tree", "forest"]})
    off = {"out_of_fold": (labelled_wines[QUALITY] + 1.0).tolist()}
    other = {"out_of_fold": labelled_wines[QUALITY].astype(float).tolist()}
    plain = nodes.describe_reference(labelled_wines, reference, comparison, tree=off, forest=other)
    described = Reference.from_dict(plain)
    assert described.rows == len(labelled_wines) + len(reference)
    # the training wines come with what the winner's folds said of them
    known = labelled_wines[[*INPUTS, QUALITY]].assign(prediction=off["out_of_fold"])
    expected = Reference.from_wines(pd.concat([known, reference], ignore_index=True))
    assert described == expected


def test_what_a_version_says_of_itself(labelled_wines, reference):
    comparison = pd.DataFrame({"candidate": ["tree", "forest"], "tuned": ["as configured", "x"]})
    metrics = {"all": {"rmse": 0.66666, "r2": 0.4}, "red": {"rmse": 1}}
    packed = nodes.describe_version(
        *("model", reference, metrics, comparison, labelled_wines, {}, "", ""),
        tree={"settings": BUILT},
    )
    assert packed.tags == {
        "candidate": "tree",
        "built_with": json.dumps(BUILT),
        "settings": "as configured",
        "training_wines": fingerprint(labelled_wines),
        "held_out_wines": fingerprint(HELD_OUT),
        "held_out_rmse": "0.6667",
        "held_out_r2": "0.4000",
    }
    assert (packed.fitted == wine_hashes(labelled_wines)).all()


# Figures


def test_the_comparison_shows_the_best_on_top():
    table = compare(second_best=scores([0.8, 0.6]), best=scores([0.5, 0.5]))
    figure = plot_comparison(table, comparison_parameters())
    bars, red, white, behind = figure.data
    assert list(bars.y) == ["best", "second best"]
    assert list(bars.x) == pytest.approx([0.5, 0.7])
    assert list(bars.error_x.array) == pytest.approx([0, np.sqrt(0.02)])
    assert list(bars.text) == ["0.500", "0.700"]
    assert (red.name, white.name) == ("red", "white")
    assert list(red.x) == table["rmse_red"].tolist()
    # beside the whiskers, not on them
    assert figure.layout.scattermode == "group"
    assert figure.layout.barmode == "overlay"
    assert {red.offsetgroup, white.offsetgroup} == {"red", "white"}
    assert bars.marker.opacity < 1
    assert list(behind.y) == ["second best"]
    assert list(behind.x) == pytest.approx([0.2])
    assert figure.layout.yaxis.autorange == "reversed"
    assert len(set(bars.marker.color)) == 2


def test_residuals_are_predicted_less_given(reference):
    figure = plot_residuals(reference)
    assert [trace.name for trace in figure.data] == ["red", "white"]
    assert np.concatenate([trace.y for trace in figure.data]) == pytest.approx(np.full(100, 0.25))


def test_errors_are_shown_by_quality_and_type(reference):
    figure = plot_quality_errors(errors_by_quality(reference))
    red, white, bias = figure.data
    assert list(red.y) == pytest.approx([0.25] * len(red.y))
    assert sum(red.customdata) + sum(white.customdata) == len(reference)
    assert list(bias.x) == sorted(reference[QUALITY].unique())


def test_the_wines_of_each_quality_stand_below_it_where_no_line_strikes_them():
    errors = {"quality": [5, 5, 9], "type": ["red", "white", "white"], "wines": [139, 1292, 2]}
    figure = plot_quality_errors(pd.DataFrame(errors).assign(mae=0.5, bias=0.1))
    axis = figure.layout.xaxis
    assert list(axis.tickvals) == [5, 9]
    assert list(axis.ticktext) == ["5<br>139, 1,292", "9<br>0, 2"]
    assert axis.title.text.endswith("red, white")
    assert all(trace.text is None for trace in figure.data)


def test_the_most_important_input_is_on_top():
    table = pd.DataFrame({"input": ["alcohol", "pH"], "increase": [0.1, 0.0], "spread": [0.01, 0]})
    figure = plot_importance(table)
    assert list(figure.data[0].y) == ["alcohol", "pH"]
    assert figure.data[0].marker.opacity < 1
    assert figure.layout.yaxis.autorange == "reversed"


def test_a_learning_curve_has_both_errors():
    table = pd.DataFrame({"wines": [50, 100], "training_mae": [0.1, 0.2]})
    figure = plot_learning_curve(table.assign(validation_mae=[0.6, 0.5]))
    assert [list(trace.y) for trace in figure.data] == [[0.6, 0.5], [0.1, 0.2]]
    # both axes begin at zero; their zeros would overlap without a distance
    assert min(figure.layout.xaxis.ticklabelstandoff, figure.layout.yaxis.ticklabelstandoff) > 0


def test_one_page_holds_all_figures_and_the_script_once(reference):
    figures = [plot_residuals(reference), plot_predictions(reference)]
    page = collect_figures(*figures)
    for figure in figures:
        assert json.dumps(figure.layout.title.text)[1:-1] in page
    assert page.count("<script") <= collect_figures(figures[0]).count("<script") + 1
    assert len(page) < 1.5 * len(collect_figures(figures[0]))
    assert "<script src=" not in page


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
    text = (Path(__file__).parents[2] / "conf/base/parameters_training.yml").read_text()
    plain = safe_load(text.replace("${globals:seed}", "2009"))["training"]
    assert TrainingParameters.model_validate(plain)
    for candidate in plain["candidates"].values():
        candidate["enabled"] = False
    with pytest.raises(ValidationError, match="at least one candidate must be enabled"):
        TrainingParameters.model_validate(plain)


# The pipeline


@pytest.fixture
def train(run_pipeline, registry, experiment_id, labelled_wines):
    """Runs the training pipeline with candidates, on a registry of the test's own."""

    def run(candidates, held_out=HELD_OUT):
        given = {
            "training_wines": labelled_wines,
            "held_out_wines": held_out,
            "wine_audit": WINE_AUDIT,
            "split_audit": SPLIT_AUDIT,
            "params:training.comparison": comparison_parameters(),
            "params:promotion": PromotionSettings(),
            "params:training.analysis": ANALYSIS,
            "params:training.model_card": TEXTS,
            "registered_version": ModelVersionDataset(model_name=registry.name),
            "model_registry": ModelRegistryDataset(model_name=registry.name),
            "champion": ChampionDataset(model_name=registry.name),
        }
        given |= {f"params:training.candidates.{name}": c for name, c in candidates.items()}
        given |= {f"{name}_best_settings": {} for name in candidates}
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
        "run_id": champion.version.run_id,
        "promoted": True,
        "champion": "1",
        "judged_against": None,
        "reason": "it is the first champion",
    }
    for name, interval in made["held_out_intervals"]["all"].items():
        assert interval["low"] <= made["held_out_metrics"]["all"][name] <= interval["high"]
    assert set(made["importance"]["input"]) == set(INPUTS)
    assert made["learning_curve"]["wines"].is_monotonic_increasing
    assert made["quality_errors"].query("type == 'all'")["wines"].sum() == len(HELD_OUT)
    assert made["model_card_md"].startswith(f"# Model card: wine quality by {best}")
    assert "None of the 100 held-out wines" in made["model_card_html"]
    assert made["training_figures_html"].startswith("<!doctype html>")
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
    # the champion answers held-out wines that came after it
    assert "on 100 held-out wines that neither was fitted on, gain +0.0000" in elsewhere["reason"]
    assert registry.version("champion").version == "2"


# figures that somebody printed


def test_published_figures_are_set_beside_ours(labelled_wines, folds):
    forest = CANDIDATES["forest"].model_copy(
        update={"published": PublishedFigures(rmse=0.08, r2=0.99)}
    )
    parameters = comparison_parameters()
    found = nodes.cross_validate_candidate(labelled_wines, folds, forest, {}, parameters)
    # judged on the very wines that it is fitted on, which is what leakage comes to
    judged = judge_as_published(labelled_wines, labelled_wines, forest, found, parameters)
    (row,) = compare_with_published(forest=judged).to_dict(orient="records")
    assert row["candidate"] == "forest"
    assert (row["rmse_published"], row["r2_published"]) == (0.08, 0.99)
    assert row["rmse_folds"] == found["metrics"]["rmse"]
    assert row["r2_folds"] == found["metrics"]["r2"]
    assert row["rmse_held_out"] < 0.1 < 0.5 < row["rmse_folds"]
    assert row["r2_held_out"] > 0.9 > row["r2_folds"]


def test_a_candidate_without_published_figures_is_not_judged(labelled_wines):
    with pytest.raises(ValueError, match="no published figures"):
        judge_as_published(
            labelled_wines, HELD_OUT, CANDIDATES["forest"], {}, comparison_parameters()
        )


def test_only_who_has_published_figures_is_in_the_table():
    plain = create_pipeline(["tree", "forest"])
    more = create_pipeline(["tree", "forest"], ["forest"])
    added = {node.name for node in more.nodes} - {node.name for node in plain.nodes}
    assert added == {
        *("training.forest.judge_as_published", "training.compare_with_published"),
    }
    assert more.outputs() - plain.outputs() == {"published_comparison"}


def test_each_candidate_is_a_namespace_of_its_own():
    pipeline = create_pipeline(["tree", "forest"])
    for name in ("tree", "forest"):
        (node,) = pipeline.filter(node_namespaces=[f"training.{name}"]).nodes
        assert node.name == f"training.{name}.cross_validate_candidate"
        assert node.outputs == [f"{name}_scores"]
    assert pipeline.inputs() == {
        "training_wines",
        "held_out_wines",
        "model_registry",
        "wine_audit",
        "split_audit",
        "tree_best_settings",
        "forest_best_settings",
        "params:training.comparison",
        "params:promotion",
        "params:training.analysis",
        "params:training.model_card",
        "params:training.candidates.tree",
        "params:training.candidates.forest",
    }
