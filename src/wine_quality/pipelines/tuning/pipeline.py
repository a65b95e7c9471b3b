"""Training wines → a study for each candidate → the best settings that it has found so far."""

from collections.abc import Sequence
from typing import Literal

from kedro.pipeline import Pipeline

from wine_quality.pipelines.steps import step
from wine_quality.pipelines.tuning import nodes


def create_candidate_pipeline(candidate: str, budget: str) -> Pipeline:
    """Build the template that every candidate goes through, in a namespace of its own."""
    return Pipeline(
        [
            step(
                nodes.tune_candidate,
                {
                    "training_wines": "training_wines",
                    "study": f"{candidate}_study",
                    "candidate": f"params:training.candidates.{candidate}",
                    "comparison": "params:training.comparison",
                    "search": "params:tuning.search",
                    "budget": f"params:tuning.{budget}",
                },
                f"{candidate}_best_settings",
            )
        ],
        namespace=candidate,
        prefix_datasets_with_namespace=False,
    )


def create_pipeline(candidates: Sequence[str], budget: Literal["quick", "long"]) -> Pipeline:
    """Build the tuning pipeline.

    Args:
        candidates: Names of the candidates to tune.
        budget: Which of the two budgets to use.
    """
    if not candidates:
        return Pipeline([])
    templates = sum((create_candidate_pipeline(name, budget) for name in candidates), Pipeline([]))
    summary = step(
        nodes.summarise_tuning,
        {name: f"{name}_best_settings" for name in candidates},
        "tuning_results",
    )
    return Pipeline([summary, templates], namespace="tuning", prefix_datasets_with_namespace=False)
