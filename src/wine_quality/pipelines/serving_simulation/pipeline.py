"""Wines → traffic, with drift if asked for → predictions in the inference log → ground truth."""

from kedro.pipeline import Node, Pipeline

from wine_quality.pipelines.serving_simulation import nodes


def create_pipeline() -> Pipeline:
    """Build the serving_simulation pipeline."""
    parameters = "params:serving_simulation"
    log = "inference_log_connection"
    return Pipeline(
        [
            Node(nodes.choose_wines, ["held_out_wines", parameters], "traffic_wines"),
            Node(nodes.plan_traffic, ["traffic_wines", log, parameters], "planned_traffic"),
            Node(nodes.add_drift, ["planned_traffic", parameters], "traffic"),
            Node(nodes.connect_backend, ["champion", log, parameters], "backend"),
            Node(nodes.send_traffic, ["backend", "traffic", parameters], ["receipts", "delivery"]),
            Node(
                nodes.submit_ground_truth,
                ["backend", "receipts", "delivery", parameters],
                ["traffic_summary", "inference_log"],
            ),
        ],
        namespace="serving_simulation",
        prefix_datasets_with_namespace=False,
    )
