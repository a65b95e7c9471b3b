"""Nodes of the retraining pipeline: verdicts and labels in, a decision and its outcome out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from wine_quality.drift.alerts import Alert, AlertSettings
from wine_quality.drift.log_engines import EVENT_TIME, PREDICTION_ID
from wine_quality.drift.notifying import announce_rollback
from wine_quality.errors import WineQualityError
from wine_quality.figures import ACCENT, MUTED, titled
from wine_quality.modelling.candidates import Candidate
from wine_quality.modelling.contenders import CHAMPION_PREDICTION
from wine_quality.modelling.model_card import errors_by_quality
from wine_quality.modelling.promotion import PromotionSettings, settle
from wine_quality.modelling.registry import CHAMPION, ModelRegistry, TrainedModel
from wine_quality.modelling.review import Review, review_promotion
from wine_quality.pipelines.retraining.parameters import RetrainingParameters
from wine_quality.pipelines.training import nodes as training
from wine_quality.pipelines.training.parameters import TrainingParameters
from wine_quality.retraining.decision import (
    RETRAIN,
    Decision,
    PastRetraining,
    decide_retraining,
)
from wine_quality.retraining.decision_store import DecisionStore
from wine_quality.wines import PREDICTION, QUALITY

Json = dict[str, Any]
FORMAT = 1
"""Of `retraining.json`: another number where a key changes its meaning or goes."""
MOST_DECISIONS = 20
"""Decisions on the page, the newest."""


@dataclass(frozen=True)
class Claim:
    """A decision as it stands in the database.

    Attributes:
        identifier: Its identifier there.
        decision: The decision.
    """

    identifier: str
    decision: Decision


@dataclass(frozen=True)
class Retrained:
    """What training again came to; `trained` is None where nothing was to be trained."""

    trained: TrainedModel | None


def review_champion(
    usable_wines: pd.DataFrame,
    model_registry: ModelRegistry,
    settings: TrainingParameters,
    alerts: AlertSettings,
) -> Review:
    """Take the newest promotion back where labelled traffic says that it was a mistake."""
    comparison = settings.comparison
    review = review_promotion(
        model_registry, _labelled(usable_wines), EVENT_TIME, comparison.seed, comparison.metric
    )
    if review.undone:
        announce_rollback(review.reason, alerts)
    return review


def decide_to_retrain(
    champion_review: Review,
    usable_wines: pd.DataFrame,
    alerts: list[Json],
    model_verdicts: pd.DataFrame,
    model_registry: ModelRegistry,
    decision_store: DecisionStore,
    parameters: RetrainingParameters,
) -> Claim:
    """Decide from the verdicts whether to train again, and write the decision down."""
    labels = _labelled(usable_wines)
    raised = [Alert.from_dict(alert) for alert in alerts]
    champion = model_registry.version(CHAMPION)
    undone = champion_review.reason if champion_review.undone else ""

    def decide(past: list[PastRetraining]) -> Decision:
        now, settings = datetime.now(UTC), parameters.decision
        decision = decide_retraining(
            champion, raised, model_verdicts, labels, past, settings, now,
            parameters.traffic.sources or (),
        )  # fmt: skip
        return replace(decision, undone=undone)

    return Claim(*decision_store.decide(model_registry.name, decide))


def _labelled(usable_wines: pd.DataFrame) -> pd.DataFrame:
    """The wines that came as traffic."""
    if PREDICTION_ID not in usable_wines:
        return usable_wines.iloc[:0].assign(**{EVENT_TIME: pd.Series(dtype="datetime64[us, UTC]")})
    return usable_wines[usable_wines[PREDICTION_ID].notna()]


def retrain_champion(
    claim: Claim,
    training_wines: pd.DataFrame,
    held_out_wines: pd.DataFrame,
    model_registry: ModelRegistry,
    wine_audit: Json,
    split_audit: Json,
    settings: TrainingParameters,
) -> Retrained:
    """Train the champion's candidate, with its settings, on the wines of today.

    Nothing is trained if that was decided.

    Raises:
        WineQualityError: The champion does not say what it was built with, and its candidate is not
            in the training parameters any more.
    """
    if claim.decision.action != RETRAIN:
        return Retrained(None)
    champion = model_registry.version(str(claim.decision.champion))
    name, candidate, origin = _built_with(champion.tags if champion else {}, settings)
    comparison = settings.comparison
    folds = training.assign_folds(training_wines, comparison)
    found = training.cross_validate_candidate(training_wines, folds, candidate, {}, comparison)
    scores = {name: found | {"tuned": origin}}
    table = training.compare_candidates(folds, comparison, **scores)
    model = training.fit_best_candidate(training_wines, table, comparison, **scores)
    reference = training.predict_held_out(model, held_out_wines)
    metrics = training.evaluate_model(reference)
    card = training.write_model_card(
        reference,
        training_wines,
        metrics,
        training.estimate_intervals(reference, settings.analysis),
        table,
        errors_by_quality(reference),
        training.measure_importance(model, held_out_wines, settings.analysis),
        wine_audit,
        split_audit,
        comparison,
        settings.model_card,
        **scores,
    )
    profile = training.describe_reference(training_wines, reference, table, **scores)
    return Retrained(
        training.describe_version(
            model, reference, metrics, table, training_wines, profile, card[0], card[1], **scores
        )
    )


def _built_with(
    tags: Mapping[str, str], settings: TrainingParameters
) -> tuple[str, Candidate, str]:
    """Give the champion's candidate: its name, what it is built with, and where that is from."""
    name = tags.get("candidate", "")
    if training.BUILT_WITH_TAG in tags:
        built = Candidate.model_validate_json(tags[training.BUILT_WITH_TAG])
        return name, built, tags.get("settings", "as configured")
    # versions of earlier editions do not say it
    if name in settings.candidates:
        return name, settings.candidates[name], "as configured"
    raise WineQualityError(
        f"The champion's candidate {name or '(it names none)'} is not in training.candidates: "
        "add it, or train another champion with 'kedro run --pipeline training'."
    )


def settle_retraining(
    claim: Claim,
    champion_review: Review,
    retrained: Retrained,
    usable_wines: pd.DataFrame,
    model_registry: ModelRegistry,
    decision_store: DecisionStore,
    settings: TrainingParameters,
    promotion: PromotionSettings,
) -> tuple[Json, pd.DataFrame]:
    """Register the new version, have it answer the traffic, and promote it or keep the champion.

    Returns:
        What schedulers read: `format`, all of the decision, the `review` of the newest promotion,
        and of a retraining `version`, `promoted`, `outcome` in words and the number of predictions
        `replayed`; and these, with both versions' answers.
    """
    plain = {"format": FORMAT, "id": claim.identifier} | claim.decision.to_dict()
    plain["review"] = asdict(champion_review)
    none = {"version": None, "promoted": False, "outcome": "", "replayed": 0}
    if retrained.trained is None:
        return plain | none, pd.DataFrame()
    labels = _labelled(usable_wines)
    new = model_registry.register(retrained.trained)
    settled = settle(
        model_registry,
        new,
        retrained.trained.reference,
        settings.comparison.seed,
        settings.comparison.metric,
        promotion,
        labels if len(labels) else None,
    )
    decided = settled.promotion
    decision_store.settle(claim.identifier, new.version, decided.promoted, decided.reason)
    replayed = pd.DataFrame() if settled.replayed is None else settled.replayed
    outcome = {
        "version": new.version,
        "promoted": decided.promoted,
        "outcome": decided.reason,
        "replayed": len(replayed),
    }
    return plain | outcome, replayed


def plot_replay(replayed: pd.DataFrame) -> go.Figure:
    """Draw the cumulative mean absolute error of both versions over event time."""
    figure = go.Figure()
    if len(replayed):
        rows = replayed.sort_values(EVENT_TIME)
        sides = (("new version", PREDICTION, ACCENT), ("champion", CHAMPION_PREDICTION, MUTED))
        for name, column, colour in sides:
            error = (rows[column] - rows[QUALITY]).abs().expanding().mean()
            figure.add_scatter(x=rows[EVENT_TIME], y=error, name=name, line={"color": colour})
        figure.update_yaxes(title="mean absolute error so far")
    title = f"{len(replayed):,} replayed predictions" if len(replayed) else "Nothing was replayed"
    return titled(figure, title)


def write_retraining_page(
    retraining: Json,
    traffic_audit: Json,
    decision_store: DecisionStore,
    registry: ModelRegistry,
    replay_figure: go.Figure,
) -> str:
    """Write the page that says what was decided and why, and what was decided before."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("wine_quality.pipelines.retraining", ""),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["n"] = "{:,}".format
    return pages.get_template("retraining.html").render(
        retraining=retraining,
        audit=traffic_audit,
        figure=replay_figure.to_html(full_html=False, include_plotlyjs=True),
        columns=("decided_at", "action", "champion", "version", "reason", "outcome"),
        decisions=decision_store.newest(registry.name, MOST_DECISIONS),
    )
