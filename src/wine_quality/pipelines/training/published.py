"""Nodes that set our figures beside those that somebody printed of the same candidates."""

from typing import Any

import pandas as pd

from wine_quality.modelling.candidates import Candidate, fit_candidate
from wine_quality.modelling.metrics import score_slices
from wine_quality.pipelines.training.nodes import predict_held_out
from wine_quality.pipelines.training.parameters import ComparisonParameters

Json = dict[str, Any]


def judge_as_published(
    training_wines: pd.DataFrame,
    held_out_wines: pd.DataFrame,
    candidate: Candidate,
    scores: Json,
    parameters: ComparisonParameters,
) -> Json:
    """Judge a candidate as whoever printed figures of it did: on the held-out wines.

    Returns:
        The metrics that were `published`; those of the candidate fitted on all training wines on
        the `held_out` ones, which it has seen where the split leaks; and those over the `folds`,
        where it never has.

    Raises:
        ValueError: Nobody printed figures of the candidate.
    """
    if candidate.published is None:
        raise ValueError(f"there are no published figures of {candidate.estimator}")
    as_compared = Candidate.model_validate(scores["settings"])
    fitted = fit_candidate(as_compared, training_wines, parameters.seed)
    reference = predict_held_out(fitted.model, held_out_wines)
    return {
        "published": {"rmse": candidate.published.rmse, "r2": candidate.published.r2},
        "held_out": score_slices(reference)["all"],
        "folds": scores["metrics"],
    }


def compare_with_published(**judged: Json) -> pd.DataFrame:
    """Put what `judge_as_published` found into one table.

    Returns:
        One row a candidate: `candidate`; of `rmse` and `r2` each what was `_published`, ours on the
        `_held_out` wines, and ours over the `_folds`.
    """
    return pd.DataFrame(
        [
            {"candidate": name}
            | {
                f"{metric}_{judged_on}": figures[metric]
                for metric in ("rmse", "r2")
                for judged_on, figures in found.items()
            }
            for name, found in judged.items()
        ]
    )
