"""Candidates → comparison → the best, refitted and judged → a registered version → champion."""

from collections.abc import Sequence

from kedro.pipeline import Pipeline

from wine_quality.pipelines.steps import step
from wine_quality.pipelines.training import figures, nodes

PARAMETERS = "params:training.comparison"


def create_candidate_pipeline(candidate: str) -> Pipeline:
    """Build the template that every candidate goes through, in a namespace of its own."""
    return Pipeline(
        [
            step(
                nodes.cross_validate_candidate,
                {
                    "training_wines": "training_wines",
                    "folds": "folds",
                    "candidate": f"params:training.candidates.{candidate}",
                    "parameters": PARAMETERS,
                },
                f"{candidate}_scores",
            )
        ],
        namespace=candidate,
        prefix_datasets_with_namespace=False,
    )


def create_pipeline(candidates: Sequence[str]) -> Pipeline:
    """Build the training pipeline.

    Args:
        candidates: Names of the candidates that take part.
    """
    templates = sum((create_candidate_pipeline(name) for name in candidates), Pipeline([]))
    steps = [
        step(nodes.assign_folds, ["training_wines", PARAMETERS], "folds"),
        step(
            nodes.compare_candidates,
            {"parameters": PARAMETERS} | {name: f"{name}_scores" for name in candidates},
            "comparison",
        ),
        step(figures.plot_comparison, ["comparison", PARAMETERS], "comparison_figure"),
        step(
            nodes.fit_best_candidate,
            {
                "training_wines": "training_wines",
                "comparison": "comparison",
                "parameters": PARAMETERS,
            }
            | {name: f"params:training.candidates.{name}" for name in candidates},
            "model",
        ),
        step(nodes.predict_held_out, ["model", "held_out_wines"], "reference"),
        step(nodes.evaluate_model, "reference", "held_out_metrics"),
        step(figures.plot_predictions, "reference", "predictions_figure"),
        step(
            nodes.describe_version,
            ["model", "reference", "held_out_metrics", "comparison", "training_wines"],
            "registered_version",
        ),
        step(
            nodes.decide_promotion,
            ["registered_version", "reference", "previous_champion", PARAMETERS],
            ["promotion", "champion"],
        ),
    ]
    return Pipeline([*steps, templates], namespace="training", prefix_datasets_with_namespace=False)
