"""Wines → traffic, with drift if asked for → predictions in the inference log → ground truth."""

from kedro.pipeline import Pipeline

from wine_quality.pipelines.serving_simulation import figures, nodes
from wine_quality.pipelines.steps import step

PARAMETERS = "params:serving_simulation"
CONNECTION = ["champion", "inference_log_connection", PARAMETERS]


def create_pipeline() -> Pipeline:
    """Build the serving_simulation pipeline."""
    return Pipeline(
        [
            step(
                nodes.open_period,
                ["inference_log_connection", "undelivered_before", "delivery_before", PARAMETERS],
                "period",
            ),
            step(nodes.choose_wines, ["held_out_wines", PARAMETERS], "traffic_wines"),
            step(nodes.plan_traffic, ["traffic_wines", "period", PARAMETERS], "planned_traffic"),
            step(
                nodes.add_drift,
                ["planned_traffic", "traffic_wines", "period", PARAMETERS],
                "drifted_traffic",
            ),
            step(nodes.record_drift, ["injected_before", "period", PARAMETERS], "injected_drift"),
            step(
                nodes.queue_traffic,
                ["drifted_traffic", "undelivered_before", "period", PARAMETERS],
                "traffic",
            ),
            step(nodes.connect_backend, CONNECTION, "backend"),
            step(nodes.send_traffic, ["backend", "traffic", PARAMETERS], "receipts"),
            step(
                nodes.summarise_delivery,
                ["traffic", "receipts"],
                ["delivery", "undelivered_traffic"],
            ),
            step(figures.plot_delivery, "receipts", "delivery_figure"),
            step(
                nodes.judge_wines,
                ["receipts", "delivery", "pending_before", "period", PARAMETERS],
                "labels",
            ),
            step(
                nodes.submit_ground_truth,
                ["backend", "labels", "period", PARAMETERS],
                ["label_delivery", "pending_labels"],
            ),
            step(
                nodes.summarise_traffic,
                ["receipts", "delivery", "label_delivery", "injected_drift", "period"],
                ["traffic_summary", "inference_log"],
            ),
        ],
        namespace="serving_simulation",
        prefix_datasets_with_namespace=False,
    )


def create_ground_truth_pipeline() -> Pipeline:
    """Build the ground_truth pipeline, which hands in the labels that were held back."""
    return Pipeline(
        [
            step(nodes.connect_backend, CONNECTION, "backend"),
            step(
                nodes.submit_pending_labels,
                ["backend", "pending_before", PARAMETERS],
                ["label_delivery", "pending_labels"],
            ),
        ],
        namespace="ground_truth",
        prefix_datasets_with_namespace=False,
    )
