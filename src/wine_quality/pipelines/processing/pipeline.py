"""Raw files and labelled traffic → usable wines → training and held-out wines, audited."""

from kedro.pipeline import Pipeline

from wine_quality.pipelines.processing import figures, nodes
from wine_quality.pipelines.steps import step


def create_pipeline() -> Pipeline:
    """Build the processing pipeline."""
    parameters = "params:processing"
    return Pipeline(
        [
            step(nodes.read_wines, "raw_wines", "read_wines"),
            step(nodes.validate_wines, "read_wines", ["validated_wines", "rejected_wines"]),
            step(nodes.audit_wines, ["validated_wines", "rejected_wines"], "wine_audit"),
            step(
                nodes.accept_wines,
                ["validated_wines", "rejected_wines", parameters],
                "accepted_wines",
            ),
            step(figures.plot_missing_values, "accepted_wines", "missing_values_figure"),
            step(figures.plot_box_plots, "accepted_wines", "box_plots_figure"),
            step(figures.plot_correlations, "accepted_wines", "correlations_figure"),
            step(
                nodes.sort_traffic,
                ["accepted_wines", "labelled_traffic", "recorded_verdicts", "params:retraining"],
                ["usable_wines", "traffic_quarantine", "traffic_audit"],
            ),
            step(
                nodes.split_wines,
                ["usable_wines", parameters],
                ["training_split", "held_out_split"],
            ),
            step(nodes.audit_split, ["training_split", "held_out_split"], "split_audit"),
            step(
                nodes.approve_split,
                ["training_split", "held_out_split", "split_audit", parameters],
                ["training_wines", "held_out_wines"],
            ),
        ],
        namespace="processing",
        prefix_datasets_with_namespace=False,
    )
