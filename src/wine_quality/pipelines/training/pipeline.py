"""Candidates → comparison → the best, refitted and judged → a registered version → champion."""

from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from wine_quality.pipelines.training import figures, nodes

PARAMETERS = "params:training.comparison"


def create_candidate_pipeline(candidate: str) -> Pipeline:
    """Build the template that every candidate goes through, in a namespace of its own."""
    return Pipeline(
        [
            Node(
                nodes.cross_validate_candidate,
                {
                    "training_wines": "training_wines",
                    "folds": "folds",
                    "candidate": f"params:training.candidates.{candidate}",
                    "parameters": PARAMETERS,
                },
                f"{candidate}_scores",
                name="cross_validate_candidate",
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
        Node(nodes.assign_folds, ["training_wines", PARAMETERS], "folds"),
        Node(
            nodes.compare_candidates,
            {"parameters": PARAMETERS} | {name: f"{name}_scores" for name in candidates},
            "comparison",
        ),
        Node(figures.plot_comparison, ["comparison", PARAMETERS], "comparison_figure"),
        Node(
            nodes.fit_best_candidate,
            {
                "training_wines": "training_wines",
                "comparison": "comparison",
                "parameters": PARAMETERS,
            }
            | {name: f"params:training.candidates.{name}" for name in candidates},
            "model",
        ),
        Node(nodes.predict_held_out, ["model", "held_out_wines"], "reference"),
        Node(nodes.evaluate_model, "reference", "held_out_metrics"),
        Node(figures.plot_predictions, "reference", "predictions_figure"),
        Node(
            nodes.describe_version,
            ["model", "reference", "held_out_metrics", "comparison", "training_wines"],
            "registered_version",
        ),
        Node(
            nodes.decide_promotion,
            ["registered_version", "reference", "previous_champion", PARAMETERS],
            ["promotion", "champion"],
        ),
    ]
    return Pipeline([*steps, templates], namespace="training", prefix_datasets_with_namespace=False)
