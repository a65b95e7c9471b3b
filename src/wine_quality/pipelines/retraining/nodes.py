"""Nodes of the retraining pipeline: verdicts and labels in, a decision and its outcome out."""

import logging
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from wine_quality.drift.alerts import Alert
from wine_quality.drift.log_engines import EVENT_TIME, PREDICTION_ID
from wine_quality.errors import WineQualityError
from wine_quality.figures import ACCENT, MUTED, titled
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

logger = logging.getLogger(__name__)

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
    usable_wines: pd.DataFrame, model_registry: ModelRegistry, settings: TrainingParameters
) -> Review:
    """Take the newest promotion back where labelled traffic says that it was a mistake."""
    comparison = settings.comparison
    review = review_promotion(
        model_registry, _labelled(usable_wines), EVENT_TIME, comparison.seed, comparison.metric
    )
    if review.undone:
        logger.warning("%s", review.reason)
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
        decision = decide_retraining(champion, raised, model_verdicts, labels, past, settings, now)
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
    """Train the champion's candidate on the wines of today, if that was decided.

    Raises:
        WineQualityError: The champion's candidate is not in the training parameters any more.
    """
    if claim.decision.action != RETRAIN:
        return Retrained(None)
    champion = model_registry.version(str(claim.decision.champion))
    name = champion.tags.get("candidate", "") if champion else ""
    if name not in settings.candidates:
        raise WineQualityError(
            f"The champion's candidate {name or '(it names none)'} is not in training.candidates: "
            "add it, or train another champion with 'kedro run --pipeline training'."
        )
    comparison = settings.comparison
    folds = training.assign_folds(training_wines, comparison)
    scores = {
        name: training.cross_validate_candidate(
            training_wines, folds, settings.candidates[name], {}, comparison
        )
    }
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
        training.describe_version(model, reference, metrics, table, training_wines, profile, *card)
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
    facts = [retraining["reason"]]
    if not retraining["review"]["undone"]:
        facts.append(f"review of the newest promotion: {retraining['review']['reason']}")
    if retraining["version"]:
        became = "is champion" if retraining["promoted"] else "is challenger"
        facts.append(f"version {retraining['version']} {became}: {retraining['outcome']}")
    facts.append(
        f"{traffic_audit['accepted']:,} of {traffic_audit['labelled']:,} labelled predictions were "
        "usable"
    )
    facts += [f"left out by {rule}: {n:,}" for rule, n in traffic_audit["left_out"].items() if n]
    before = decision_store.newest(registry.name, MOST_DECISIONS)
    header = ("decided_at", "action", "champion", "version", "reason", "outcome")
    rows = [header, *(tuple(row[name] for name in header) for row in before)]
    table = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
        "content='width=device-width'><title>Retraining</title><style>body{font:16px/1.45 "
        "system-ui,sans-serif;margin:0 auto;max-width:62rem;padding:1rem}td{padding:.3rem .6rem "
        ".3rem 0;border-bottom:1px solid #8884;vertical-align:top}</style></head><body>"
        f"<h1>Retraining: {escape(retraining['action'])}</h1>"
        + "".join(f"<p>{escape(fact)}</p>" for fact in facts)
        + str(replay_figure.to_html(full_html=False, include_plotlyjs=True))
        + f"<h2>Decisions</h2><div style='overflow-x:auto'><table>{table}</table></div>"
        "</body></html>"
    )
