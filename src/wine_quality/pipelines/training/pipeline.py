"""Candidates → comparison → the best, refitted and judged → a registered version → champion."""

from collections.abc import Sequence

from kedro.pipeline import Pipeline

from wine_quality.modelling import model_card
from wine_quality.pipelines.steps import step
from wine_quality.pipelines.training import figures, nodes, published

PARAMETERS = "params:training.comparison"
ANALYSIS = "params:training.analysis"
PROMOTION = "params:promotion"
FIGURES = (
    *("comparison", "predictions", "residuals", "quality_errors", "importance"),
    "learning_curve",
)


def create_candidate_pipeline(candidate: str, is_published: bool) -> Pipeline:
    """Build the template that every candidate goes through, in a namespace of its own.

    Args:
        candidate: Its name.
        is_published: Whether somebody printed figures of it, which ours are set beside.
    """
    judged = step(
        published.judge_as_published,
        _same("training_wines", "held_out_wines")
        | {
            "candidate": f"params:training.candidates.{candidate}",
            "scores": f"{candidate}_scores",
            "parameters": PARAMETERS,
        },
        f"{candidate}_as_published",
    )
    return Pipeline(
        [
            step(
                nodes.cross_validate_candidate,
                {
                    "training_wines": "training_wines",
                    "folds": "folds",
                    "candidate": f"params:training.candidates.{candidate}",
                    "best_settings": f"{candidate}_best_settings",
                    "parameters": PARAMETERS,
                },
                f"{candidate}_scores",
            ),
            *([judged] if is_published else []),
        ],
        namespace=candidate,
        prefix_datasets_with_namespace=False,
    )


def create_pipeline(candidates: Sequence[str], with_figures: Sequence[str] = ()) -> Pipeline:
    """Build the training pipeline.

    Args:
        candidates: Names of the candidates that take part.
        with_figures: Those of them that somebody printed figures of.
    """
    templates = sum(
        (create_candidate_pipeline(name, name in with_figures) for name in candidates), Pipeline([])
    )
    scores = {name: f"{name}_scores" for name in candidates}
    steps = [
        step(nodes.assign_folds, ["training_wines", PARAMETERS], "folds"),
        step(
            nodes.compare_candidates,
            {"folds": "folds", "parameters": PARAMETERS} | scores,
            "comparison",
        ),
        step(
            nodes.fit_best_candidate,
            _same("training_wines", "comparison") | {"parameters": PARAMETERS} | scores,
            "model",
        ),
        step(nodes.predict_held_out, ["model", "held_out_wines"], "reference"),
        step(
            nodes.describe_reference,
            _same("training_wines", "reference", "comparison") | scores,
            "reference_profile",
        ),
        step(nodes.evaluate_model, "reference", "held_out_metrics"),
        step(nodes.estimate_intervals, ["reference", ANALYSIS], "held_out_intervals"),
        step(model_card.errors_by_quality, "reference", "quality_errors"),
        step(nodes.measure_importance, ["model", "held_out_wines", ANALYSIS], "importance"),
        step(
            nodes.trace_learning_curve,
            _same("training_wines", "folds", "model") | {"analysis": ANALYSIS},
            "learning_curve",
        ),
        step(
            nodes.write_model_card,
            _same(
                *("reference", "training_wines", "held_out_metrics", "held_out_intervals"),
                *("comparison", "quality_errors", "importance", "wine_audit", "split_audit"),
            )
            | {"parameters": PARAMETERS, "texts": "params:training.model_card"}
            | scores,
            ["model_card_md", "model_card_html"],
        ),
        step(
            nodes.describe_version,
            _same(
                *("model", "reference", "held_out_metrics", "comparison", "training_wines"),
                *("reference_profile", "model_card_md", "model_card_html"),
            )
            | scores,
            "registered_version",
        ),
        step(
            nodes.decide_promotion,
            ["model_registry", "registered_version", "reference", PARAMETERS, PROMOTION],
            ["champion", "promotion"],
        ),
    ]
    shown = [
        step(figures.plot_comparison, ["comparison", PARAMETERS], "comparison_figure"),
        step(figures.plot_predictions, "reference", "predictions_figure"),
        step(figures.plot_residuals, "reference", "residuals_figure"),
        step(figures.plot_quality_errors, "quality_errors", "quality_errors_figure"),
        step(figures.plot_importance, "importance", "importance_figure"),
        step(figures.plot_learning_curve, "learning_curve", "learning_curve_figure"),
        step(
            figures.collect_figures,
            [f"{name}_figure" for name in FIGURES],
            "training_figures_html",
        ),
    ]
    if with_figures:
        as_published = {name: f"{name}_as_published" for name in with_figures}
        steps.append(step(published.compare_with_published, as_published, "published_comparison"))
    return Pipeline(
        [*steps, *shown, templates], namespace="training", prefix_datasets_with_namespace=False
    )


def _same(*names: str) -> dict[str, str]:
    """Give each argument the dataset of its name."""
    return {name: name for name in names}
