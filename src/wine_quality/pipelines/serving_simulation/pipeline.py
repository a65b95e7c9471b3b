"""Wines → traffic, with drift if asked for → predictions in the inference log → ground truth."""

from kedro.pipeline import Pipeline

from wine_quality.pipelines.serving_simulation import nodes
from wine_quality.pipelines.steps import step


def create_pipeline() -> Pipeline:
    """Build the serving_simulation pipeline."""
    parameters = "params:serving_simulation"
    log = "inference_log_connection"
    return Pipeline(
        [
            step(nodes.choose_wines, ["held_out_wines", parameters], "traffic_wines"),
            step(nodes.plan_traffic, ["traffic_wines", log, parameters], "planned_traffic"),
            step(nodes.add_drift, ["planned_traffic", parameters], "traffic"),
            step(nodes.connect_backend, ["champion", log, parameters], "backend"),
            step(nodes.send_traffic, ["backend", "traffic", parameters], ["receipts", "delivery"]),
            step(
                nodes.submit_ground_truth,
                ["backend", "receipts", "delivery", parameters],
                ["traffic_summary", "inference_log"],
            ),
        ],
        namespace="serving_simulation",
        prefix_datasets_with_namespace=False,
    )
