"""Nodes of the training pipeline: candidates in, a registered version and a champion out."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline as Model

from wine_quality.errors import WineQualityError
from wine_quality.modelling import evaluation, promotion
from wine_quality.modelling.candidates import Candidate, build_model
from wine_quality.modelling.metrics import METRICS, score_slices
from wine_quality.modelling.registry import RegisteredVersion, TrainedModel
from wine_quality.pipelines.training.parameters import ComparisonParameters
from wine_quality.wines import INPUTS, PREDICTION, QUALITY, fingerprint

Json = dict[str, Any]


def assign_folds(training_wines: pd.DataFrame, parameters: ComparisonParameters) -> pd.DataFrame:
    """Give every training wine its folds, the same for all candidates."""
    settings = parameters.cross_validation
    return evaluation.assign_folds(
        training_wines, settings.folds, settings.repeats, parameters.seed
    )


def cross_validate_candidate(
    training_wines: pd.DataFrame,
    folds: pd.DataFrame,
    candidate: Candidate,
    parameters: ComparisonParameters,
) -> Json:
    """Score one candidate on every fold.

    Returns:
        `settings` of the candidate, mean `metrics` over the folds, and each of the `folds`.

    Raises:
        WineQualityError: The candidate cannot be built, or not be fitted with its settings.
    """
    model = build_model(candidate, parameters.seed)
    try:
        scores = evaluation.cross_validate(model, training_wines, folds)
    except ValueError as error:
        raise WineQualityError(
            f"Candidate {candidate.estimator} with settings {candidate.settings} cannot be "
            f"fitted: {error} Correct its settings in the training parameters."
        ) from error
    return {
        "settings": candidate.model_dump(),
        "metrics": scores[list(METRICS)].mean().to_dict(),
        "folds": scores.to_dict(orient="records"),
    }


def compare_candidates(parameters: ComparisonParameters, **scores: Json) -> pd.DataFrame:
    """Rank the candidates by the chosen metric, the best first.

    Args:
        parameters: Names the metric.
        scores: What `cross_validate_candidate` returned, by candidate.

    Returns:
        One row a candidate: `candidate`, `rank`, the mean of every metric, and `<metric>_std`, the
        chosen metric's standard deviation over the folds.
    """
    metric = parameters.metric
    rows = [
        {"candidate": name}
        | result["metrics"]
        | {f"{metric}_std": float(np.std([fold[metric] for fold in result["folds"]], ddof=1))}
        for name, result in scores.items()
    ]
    table = pd.DataFrame(rows).sort_values([metric, "candidate"]).reset_index(drop=True)
    table.insert(1, "rank", table.index + 1)
    return table


def fit_best_candidate(
    training_wines: pd.DataFrame,
    comparison: pd.DataFrame,
    parameters: ComparisonParameters,
    **candidates: Candidate,
) -> Model:
    """Fit the best of the candidates on all training wines."""
    best = candidates[comparison["candidate"].iloc[0]]
    model = build_model(best, parameters.seed)
    return model.fit(training_wines[list(INPUTS)], training_wines[QUALITY])


def predict_held_out(model: Model, held_out_wines: pd.DataFrame) -> pd.DataFrame:
    """Add the model's `prediction` to the held-out wines: the reference of its version."""
    prediction = np.asarray(model.predict(held_out_wines[list(INPUTS)]), dtype=float)
    return held_out_wines[[*INPUTS, QUALITY]].assign(**{PREDICTION: prediction})


def evaluate_model(reference: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Score the model on the held-out wines, all and by type."""
    return score_slices(reference)


def describe_version(
    model: Model,
    reference: pd.DataFrame,
    held_out_metrics: dict[str, dict[str, float]],
    comparison: pd.DataFrame,
    training_wines: pd.DataFrame,
) -> TrainedModel:
    """Pack what goes into the registry: the model, its reference, and what it says of itself."""
    tags = {
        "candidate": str(comparison["candidate"].iloc[0]),
        "training_wines": fingerprint(training_wines),
        "held_out_wines": fingerprint(reference),
    }
    scores = {f"held_out_{key}": f"{value:.4f}" for key, value in held_out_metrics["all"].items()}
    return TrainedModel(model, reference, tags | scores)


def decide_promotion(
    registered_version: RegisteredVersion,
    reference: pd.DataFrame,
    previous_champion: tuple[RegisteredVersion, pd.DataFrame] | None,
    parameters: ComparisonParameters,
) -> tuple[Json, Json]:
    """Decide whether the new version becomes champion.

    Returns:
        The decision, once for the report and once for the registry.
    """
    champion, champion_reference = previous_champion or (None, None)
    decision = promotion.decide(
        registered_version, reference, champion, champion_reference, parameters.seed
    ).to_dict()
    return decision, decision
