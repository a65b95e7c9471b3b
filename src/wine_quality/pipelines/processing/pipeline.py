"""Raw files → accepted wines → training and held-out wines, audited on the way."""

from kedro.pipeline import Node, Pipeline

from wine_quality.pipelines.processing import figures, nodes


def create_pipeline() -> Pipeline:
    """Build the processing pipeline."""
    parameters = "params:processing"
    return Pipeline(
        [
            Node(nodes.read_wines, "raw_wines", "read_wines"),
            Node(nodes.validate_wines, "read_wines", ["validated_wines", "rejected_wines"]),
            Node(nodes.audit_wines, ["validated_wines", "rejected_wines"], "wine_audit"),
            Node(
                nodes.accept_wines,
                ["validated_wines", "rejected_wines", parameters],
                "accepted_wines",
            ),
            Node(figures.plot_missing_values, "accepted_wines", "missing_values_figure"),
            Node(figures.plot_box_plots, "accepted_wines", "box_plots_figure"),
            Node(figures.plot_correlations, "accepted_wines", "correlations_figure"),
            Node(
                nodes.split_wines,
                ["accepted_wines", parameters],
                ["training_split", "held_out_split"],
            ),
            Node(nodes.audit_split, ["training_split", "held_out_split"], "split_audit"),
            Node(
                nodes.approve_split,
                ["training_split", "held_out_split", "split_audit", parameters],
                ["training_wines", "held_out_wines"],
            ),
        ],
        namespace="processing",
        prefix_datasets_with_namespace=False,
    )
