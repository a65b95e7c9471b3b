"""Nodes of the training pipeline: candidates in, a registered version and a champion out."""

import json
import logging
from typing import Any

import numpy as np
import pandas as pd

from wine_quality.drift.reference import Reference
from wine_quality.errors import WineQualityError
from wine_quality.modelling import evaluation
from wine_quality.modelling.candidates import Candidate, build_model, fit_candidate
from wine_quality.modelling.metrics import bootstrap_intervals, fold_difference, score_slices
from wine_quality.modelling.model import Model
from wine_quality.modelling.model_card import CardFacts, CardTexts, write_card
from wine_quality.modelling.promotion import PromotionSettings, Settlement, settle
from wine_quality.modelling.registry import (
    PROFILE_ARTIFACT,
    ModelRegistry,
    RegisteredVersion,
    TrainedModel,
)
from wine_quality.pipelines.training.parameters import AnalysisParameters, ComparisonParameters
from wine_quality.wines import INPUTS, PREDICTION, QUALITY, fingerprint, wine_hashes

logger = logging.getLogger(__name__)

Json = dict[str, Any]
BUILT_WITH_TAG = "built_with"
"""Tag of a version: what the candidate was built with, as JSON, for it to be trained again."""
BUILT_WITH = {"estimator", "settings", "scale", "early_stopping"}


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
    best_settings: Json,
    parameters: ComparisonParameters,
) -> Json:
    """Score one candidate on every fold, with the settings that tuning found for it.

    Returns:
        `settings` of the candidate as it was built, where they are from (`tuned`, in words), mean
        `metrics` over the folds, each of the `folds`; with early stopping the `rounds` of each and
        the `curve` of the first: the error on held-back wines by round; and `out_of_fold`, of each
        training wine what the model that was not fitted on it predicts.

    Raises:
        WineQualityError: The candidate cannot be built, or not be fitted with its settings.
    """
    tuned, origin = _tuned_candidate(
        candidate, best_settings, fingerprint(training_wines), parameters.metric
    )
    model = build_model(tuned, parameters.seed)
    try:
        found = list(evaluation.score_folds(model, training_wines, folds))
    except ValueError as error:
        raise WineQualityError(
            f"Candidate {tuned.estimator} with settings {tuned.settings} cannot be "
            f"fitted: {error} Correct its settings in the training parameters."
        ) from error
    scores = pd.DataFrame([fold.scores for fold in found])
    return {
        "settings": tuned.model_dump(mode="json", include=BUILT_WITH),
        "tuned": origin,
        "metrics": scores.drop(columns=["repeat", "fold"]).mean().to_dict(),
        "folds": scores.to_dict(orient="records"),
        "rounds": [fold.fitted.rounds for fold in found if fold.fitted.rounds],
        "curve": list(found[0].fitted.curve),
        "out_of_fold": evaluation.out_of_fold(found, len(training_wines)).round(6).tolist(),
    }


def _tuned_candidate(
    candidate: Candidate, best_settings: Json, training_wines: str, metric: str
) -> tuple[Candidate, str]:
    """Give a candidate the settings that tuning found for it, where these are better.

    Better than those as configured, that is: on the same folds of these very wines, by the metric
    that the candidates are compared by, with all else as it is now.
    """
    if not best_settings:
        return candidate, "as configured"
    why = _why_not_tuned(candidate, best_settings, training_wines, metric)
    if why:
        logger.info("%s runs as configured: %s", best_settings["candidate"], why)
        return candidate, f"as configured ({why})"
    trials = f"best of {best_settings['finished']} trials"
    return candidate.with_settings(best_settings["settings"]), f"tuned, {trials}"


def _why_not_tuned(
    candidate: Candidate, best_settings: Json, training_wines: str, metric: str
) -> str:
    """Say why what tuning found is not used; empty if it is."""
    if best_settings["estimator"] != candidate.estimator:
        return "tuned with another estimator"
    # who changed the configuration since wants to see it at work
    now = candidate.model_dump(mode="json", include={"settings", "scale", "early_stopping"})
    then = {
        "settings": best_settings["configured"],
        # files of the first edition do not have these
        "scale": best_settings.get("scale", now["scale"]),
        "early_stopping": best_settings.get("early_stopping", now["early_stopping"]),
    }
    if then != now:
        return "configured anew since tuning"
    if best_settings["training_wines"] != training_wines:
        # wines that are held out now may have chosen them
        return "tuned on other wines"
    if best_settings["metric"] != metric:
        return f"tuned by {best_settings['metric']}"
    as_configured = best_settings["configured_value"]
    if as_configured is None:
        return "tuned without a comparison with these: tune again"
    if best_settings["value"] >= as_configured:
        return f"the best of {best_settings['finished']} trials"
    return ""


def compare_candidates(
    folds: pd.DataFrame, parameters: ComparisonParameters, **scores: Json
) -> pd.DataFrame:
    """Rank the candidates by the chosen metric, the best first.

    Args:
        folds: The folds that all were scored on.
        parameters: Names the metric.
        scores: What `cross_validate_candidate` returned, by candidate.

    Returns:
        One row a candidate: `candidate`, `rank`, the mean of every metric, all wines and by type;
        `<metric>_std`, the chosen metric's standard deviation over the folds; `behind`, by how much
        it is worse than the best on the same folds, with `behind_low` and `behind_high`, the 95 %
        interval of that; and `tuned`, where its settings are from.
    """
    metric = parameters.metric
    on_folds = {
        name: np.array([fold[metric] for fold in found["folds"]]) for name, found in scores.items()
    }
    best = min(scores, key=lambda name: (scores[name]["metrics"][metric], name))
    rows = []
    for name, found in scores.items():
        behind, low, high = fold_difference(
            on_folds[name] - on_folds[best], 1 / folds.iloc[:, 0].nunique()
        )
        rows.append(
            {"candidate": name}
            | found["metrics"]
            | {f"{metric}_std": float(np.std(on_folds[name], ddof=1))}
            | {"behind": behind, "behind_low": low, "behind_high": high, "tuned": found["tuned"]}
        )
    table = pd.DataFrame(rows).sort_values([metric, "candidate"]).reset_index(drop=True)
    table.insert(1, "rank", table.index + 1)
    return table


def fit_best_candidate(
    training_wines: pd.DataFrame,
    comparison: pd.DataFrame,
    parameters: ComparisonParameters,
    **scores: Json,
) -> Model:
    """Fit the best of the candidates on all training wines, as it was built for the comparison."""
    best = Candidate.model_validate(scores[comparison["candidate"].iloc[0]]["settings"])
    model: Model = fit_candidate(best, training_wines, parameters.seed).model
    return model


def predict_held_out(model: Model, held_out_wines: pd.DataFrame) -> pd.DataFrame:
    """Add the model's `prediction` to the held-out wines: the reference of its version."""
    prediction = np.asarray(model.predict(held_out_wines[list(INPUTS)]), dtype=float)
    return held_out_wines[[*INPUTS, QUALITY]].assign(**{PREDICTION: prediction})


def describe_reference(
    training_wines: pd.DataFrame, reference: pd.DataFrame, comparison: pd.DataFrame, **scores: Json
) -> Json:
    """Describe all wines that the version is made from, for monitoring to compare traffic with.

    The held-out wines come with the model's predictions, the training wines with those of models
    that were not fitted on them.

    Returns:
        What `drift.reference.Reference.to_dict` gives.
    """
    out_of_fold = scores[comparison["candidate"].iloc[0]]["out_of_fold"]
    known = training_wines[[*INPUTS, QUALITY]].assign(**{PREDICTION: out_of_fold})
    return Reference.from_wines(pd.concat([known, reference], ignore_index=True)).to_dict()


def evaluate_model(reference: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Score the model on the held-out wines, all and by type."""
    return score_slices(reference)


def estimate_intervals(
    reference: pd.DataFrame, analysis: AnalysisParameters
) -> dict[str, dict[str, dict[str, float]]]:
    """Estimate the 95 % intervals of the held-out metrics, all and by type."""
    return bootstrap_intervals(reference, analysis.seed, analysis.bootstrap_resamples)


def measure_importance(
    model: Model, held_out_wines: pd.DataFrame, analysis: AnalysisParameters
) -> pd.DataFrame:
    """Measure how much each input matters for the predictions of held-out wines."""
    return evaluation.permutation_importance(
        model, held_out_wines, analysis.seed, analysis.permutation_repeats
    )


def trace_learning_curve(
    training_wines: pd.DataFrame, folds: pd.DataFrame, model: Model, analysis: AnalysisParameters
) -> pd.DataFrame:
    """Trace how the model's error falls with the number of training wines."""
    return evaluation.learning_curve(
        model, training_wines, folds.iloc[:, 0], analysis.learning_curve_shares, analysis.seed
    )


def write_model_card(
    reference: pd.DataFrame,
    training_wines: pd.DataFrame,
    held_out_metrics: dict[str, dict[str, float]],
    held_out_intervals: dict[str, dict[str, dict[str, float]]],
    comparison: pd.DataFrame,
    quality_errors: pd.DataFrame,
    importance: pd.DataFrame,
    wine_audit: Json,
    split_audit: Json,
    parameters: ComparisonParameters,
    texts: CardTexts,
    **scores: Json,
) -> tuple[str, str]:
    """Write the model card, as Markdown and as HTML."""
    best = str(comparison["candidate"].iloc[0])
    facts = CardFacts(
        candidate=best,
        settings=scores[best]["settings"],
        tuned=scores[best]["tuned"],
        rounds=scores[best]["rounds"],
        metrics=held_out_metrics,
        intervals=held_out_intervals,
        comparison=comparison,
        metric=parameters.metric,
        by_quality=quality_errors,
        importance=importance,
        wine_audit=wine_audit,
        split_audit=split_audit,
        training_wines=fingerprint(training_wines),
        held_out_wines=fingerprint(reference),
        seed=parameters.seed,
    )
    return write_card(facts, texts)


def describe_version(
    model: Model,
    reference: pd.DataFrame,
    held_out_metrics: dict[str, dict[str, float]],
    comparison: pd.DataFrame,
    training_wines: pd.DataFrame,
    reference_profile: Json,
    model_card_md: str,
    model_card_html: str,
    **scores: Json,
) -> TrainedModel:
    """Pack what goes into the registry: model, reference, card, and what it says of itself."""
    best = str(comparison["candidate"].iloc[0])
    tags = {
        "candidate": best,
        "settings": str(comparison["tuned"].iloc[0]),
        BUILT_WITH_TAG: json.dumps(scores[best]["settings"]),
        "training_wines": fingerprint(training_wines),
        "held_out_wines": fingerprint(reference),
    }
    metrics = {f"held_out_{key}": f"{value:.4f}" for key, value in held_out_metrics["all"].items()}
    files = {
        "model_card.md": model_card_md,
        "model_card.html": model_card_html,
        PROFILE_ARTIFACT: json.dumps(reference_profile, indent=1),
    }
    return TrainedModel(
        model, reference, tags | metrics, files=files, fitted=wine_hashes(training_wines)
    )


def decide_promotion(
    model_registry: ModelRegistry,
    registered_version: RegisteredVersion,
    reference: pd.DataFrame,
    parameters: ComparisonParameters,
    promotion: PromotionSettings,
) -> tuple[Settlement, Json]:
    """Decide whether the new version becomes champion, and have the registry accept it.

    Returns:
        The decision with the champion after it, and the decision for the report.
    """
    settled = settle(
        model_registry,
        registered_version,
        reference,
        parameters.seed,
        parameters.metric,
        promotion,
    )
    return settled, settled.promotion.to_dict()
