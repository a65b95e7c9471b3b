"""Verdicts and labelled traffic → take back or not → train again or not → promote or keep."""

from kedro.pipeline import Pipeline

from wine_quality.pipelines.retraining import nodes
from wine_quality.pipelines.steps import step


def create_pipeline() -> Pipeline:
    """Build the retraining pipeline, which goes on from the wines of `processing`."""
    registry, store = "model_registry", "decision_store"
    return Pipeline(
        [
            step(
                nodes.review_champion,
                ["usable_wines", registry, "params:training", "params:monitoring.alerts"],
                "champion_review",
            ),
            step(
                nodes.decide_to_retrain,
                [
                    *("champion_review", "usable_wines", "alerts", "model_verdicts"),
                    *(registry, store, "params:retraining"),
                ],
                "retraining_claim",
            ),
            step(
                nodes.retrain_champion,
                [
                    *("retraining_claim", "training_wines", "held_out_wines", registry),
                    *("wine_audit", "split_audit", "params:training"),
                ],
                "retrained",
            ),
            step(
                nodes.settle_retraining,
                [
                    *("retraining_claim", "champion_review", "retrained", "usable_wines"),
                    *(registry, store),
                    *("params:training", "params:promotion"),
                ],
                ["retraining", "replayed_traffic"],
            ),
            step(nodes.plot_replay, "replayed_traffic", "replay_figure"),
            step(
                nodes.write_retraining_page,
                ["retraining", "traffic_audit", store, registry, "replay_figure"],
                "retraining_page_html",
            ),
        ],
        namespace="retraining",
        prefix_datasets_with_namespace=False,
    )
