"""Nodes of the retraining pipeline: verdicts and labels in, a decision and its outcome out."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from wine_quality.drift.alerts import Alert, AlertSettings
from wine_quality.drift.log_engines import EVENT_TIME, PREDICTION_ID
from wine_quality.drift.log_reader import LABELLED_DTYPES
from wine_quality.drift.notifying import announce_rollback
from wine_quality.errors import WineQualityError
from wine_quality.figures import ACCENT, MUTED, titled
from wine_quality.modelling.candidates import Candidate
from wine_quality.modelling.contenders import CHAMPION_PREDICTION
from wine_quality.modelling.model_card import errors_by_quality
from wine_quality.modelling.promotion import PromotionSettings, losses, settle
from wine_quality.modelling.registry import (
    CHAMPION,
    ModelRegistry,
    RegisteredVersion,
    TrainedModel,
)
from wine_quality.modelling.review import Review, end_review, review_promotion
from wine_quality.pages import render
from wine_quality.pipelines.retraining.parameters import RetrainingParameters
from wine_quality.pipelines.training import nodes as training
from wine_quality.pipelines.training.parameters import ComparisonParameters, TrainingParameters
from wine_quality.retraining.decision import (
    RETRAIN,
    SINCE_TAG,
    Decision,
    PastRetraining,
    decide_retraining,
)
from wine_quality.retraining.decision_store import DecisionStore
from wine_quality.retraining.tasters import move_labels
from wine_quality.wines import PREDICTION, QUALITY, wine_hashes

logger = logging.getLogger(__name__)

Json = dict[str, Any]
CLAIM_TAG = "retraining"
"""Tag of a version: the decision that it was trained for."""
EARLIER_TAG = "earlier_labels"
"""Tag of a version: what was done with labels from before `SINCE_TAG`."""
KEPT = "kept"
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
        registered: The version that a run registered before it was interrupted.
    """

    identifier: str
    decision: Decision
    registered: RegisteredVersion | None = None


@dataclass(frozen=True)
class Retrained:
    """What training again came to.

    Attributes:
        trained: The model; None where nothing was to be trained.
        out_of_fold: Of the wines that it was fitted on, by their hash, what the model of the other
            folds says.
    """

    trained: TrainedModel | None
    out_of_fold: pd.Series | None = None


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
    """Decide from the verdicts whether to train again, and write the decision down.

    A retraining that was interrupted after it had registered its version goes on instead.
    """
    labels = _labelled(usable_wines)
    raised = [Alert.from_dict(alert) for alert in alerts]
    champion = model_registry.version(CHAMPION)
    undone = champion_review.reason if champion_review.undone else ""

    def decide(past: list[PastRetraining]) -> Decision:
        now, settings = datetime.now(UTC), parameters.decision
        decision = decide_retraining(
            champion, raised, model_verdicts, labels, past, settings, now,
            parameters.traffic.sources or (), len(usable_wines) - len(labels),
        )  # fmt: skip
        return replace(decision, undone=undone)

    claim = _interrupted(model_registry, decision_store) or Claim(
        *decision_store.decide(model_registry.name, decide)
    )
    # a decision that is made now has it from here on
    end_review(model_registry, champion_review)
    return claim


def _interrupted(registry: ModelRegistry, store: DecisionStore) -> Claim | None:
    """Find a retraining that was interrupted between registering its version and its outcome."""
    begun = store.unsettled(registry.name)
    versions = registry.tagged(CLAIM_TAG, begun[0]) if begun else []
    if begun is None or not versions:
        return None
    logger.warning(
        "The retraining decided at %s was interrupted: it goes on with version %s",
        begun[1].decided_at,
        versions[-1].version,
    )
    return Claim(*begun, versions[-1])


def _labelled(usable_wines: pd.DataFrame) -> pd.DataFrame:
    """The wines that came as traffic."""
    if PREDICTION_ID not in usable_wines:
        return pd.DataFrame(columns=list(LABELLED_DTYPES)).astype(LABELLED_DTYPES)
    return usable_wines[usable_wines[PREDICTION_ID].notna()]


def _judged_since(wines: pd.DataFrame, since: str) -> pd.DataFrame:
    """The wines that came as traffic from a moment on; all of them without one."""
    return wines[wines[EVENT_TIME] >= pd.Timestamp(since)] if since else wines


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

    Where wines are judged otherwise since some moment, labels of before may do more harm than good:
    they are kept, left out, or moved by how much stricter the tasters became, whichever leads to
    the lowest error on wines judged since by cross-validation; and the version is evaluated on
    these alone. Nothing is trained if that was decided.

    Raises:
        WineQualityError: The champion does not say what it was built with, and its candidate is not
            in the training parameters any more.
    """
    if claim.decision.action != RETRAIN or claim.registered:
        return Retrained(None)
    champion = model_registry.version(str(claim.decision.champion))
    name, candidate, origin = _built_with(champion.tags if champion else {}, settings)
    comparison = settings.comparison
    since = claim.decision.since
    recent = _judged_since(training_wines, since)
    held_out_wines = _judged_since(held_out_wines, since)
    all_folds = training.assign_folds(training_wines, comparison)
    earlier = {KEPT: training_wines}
    if since:
        moved, words = move_labels(training_wines, recent.index, candidate, comparison.seed)
        earlier |= {"left out": recent, words: moved}
    tried = [
        _cross_validate(how, wines, all_folds, recent.index, candidate, comparison)
        for how, wines in earlier.items()
    ]
    best = min(tried, key=lambda one: one.error)
    training_wines, folds = best.wines, best.folds
    scores = {name: best.found | {"tuned": origin}}
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
    version = training.describe_version(
        model, reference, metrics, table, training_wines, profile, card[0], card[1], **scores
    )
    own = {SINCE_TAG: since, EARLIER_TAG: best.earlier} if since else {}
    out_of_fold = pd.Series(best.found["out_of_fold"], wine_hashes(training_wines))
    return Retrained(replace(version, tags=version.tags | own), out_of_fold)


@dataclass(frozen=True)
class _Tried:
    """Wines that a version may be fitted on, with its scores on them.

    Attributes:
        earlier: What was done with labels from before wines were judged as they are now.
        wines: The wines.
        folds: Their folds.
        found: What `cross_validate_candidate` found.
        error: Mean loss on those of them that the version is to be judged by.
    """

    earlier: str
    wines: pd.DataFrame
    folds: pd.DataFrame
    found: Json
    error: float


def _cross_validate(
    earlier: str,
    wines: pd.DataFrame,
    all_folds: pd.DataFrame,
    judged_by: pd.Index,
    candidate: Candidate,
    comparison: ComparisonParameters,
) -> _Tried:
    """Cross-validate a candidate on wines; the rows `judged_by` tell how good it is."""
    rows = wines.index.isin(judged_by)
    folds = all_folds.loc[wines.index].reset_index(drop=True)
    wines = wines.reset_index(drop=True)
    found = training.cross_validate_candidate(wines, folds, candidate, {}, comparison)
    pairs = wines.assign(**{PREDICTION: found["out_of_fold"], CHAMPION_PREDICTION: 0.0})[rows]
    return _Tried(earlier, wines, folds, found, float(losses(pairs, comparison.metric)[0].mean()))


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
    if claim.registered:
        new, reference = claim.registered, model_registry.reference(claim.registered.version)
    elif retrained.trained:
        tags = retrained.trained.tags | {CLAIM_TAG: claim.identifier}
        new = model_registry.register(replace(retrained.trained, tags=tags))
        reference = retrained.trained.reference
    else:
        return plain | none, pd.DataFrame()
    promoted, reason, replayed = True, "it was promoted before its run was interrupted", None
    if not new.is_same_as(model_registry.version(CHAMPION)):
        labels = _judged_since(_labelled(usable_wines), claim.decision.since)
        settled = settle(
            model_registry,
            new,
            reference,
            settings.comparison.seed,
            settings.comparison.metric,
            promotion,
            labels if len(labels) else None,
            retrained.out_of_fold,
        )
        promoted, reason = settled.promotion.promoted, settled.promotion.reason
        replayed = settled.replayed
    decision_store.settle(claim.identifier, new.version, promoted, reason)
    answers = pd.DataFrame() if replayed is None else replayed
    outcome = {"version": new.version, "promoted": promoted, "outcome": reason}
    return plain | outcome | {"replayed": len(answers)}, answers


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
    return render(
        "pipelines/retraining/retraining.html",
        retraining=retraining,
        audit=traffic_audit,
        figure=replay_figure.to_html(full_html=False, include_plotlyjs=True),
        columns=("decided_at", "action", "champion", "version", "reason", "outcome"),
        decisions=decision_store.newest(registry.name, MOST_DECISIONS),
    )
