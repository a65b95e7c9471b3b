"""Inference log → profiles → verdicts → reports, figures and alerts."""

from kedro.pipeline import Node, Pipeline

from wine_quality.pipelines.monitoring import figures, nodes


def create_pipeline() -> Pipeline:
    """Build the monitoring pipeline."""
    settings = "params:monitoring.drift"
    profile = ["profile_counts", "profile_errors", "reference_profiles"]
    return Pipeline(
        [
            Node(nodes.describe_references, ["inference_log", "references"], "reference_profiles"),
            Node(
                nodes.profile_log,
                ["inference_log", "reference_profiles", settings],
                ["profile_counts", "profile_errors"],
            ),
            Node(nodes.decide_columns, [*profile, settings], "verdicts"),
            Node(nodes.decide_model, [*profile, settings], "model_verdicts"),
            Node(nodes.collect_alerts, ["verdicts", "model_verdicts"], "alerts"),
            Node(figures.plot_drift_heat_map, "verdicts", "drift_figure"),
            Node(figures.plot_error_over_time, "model_verdicts", "error_figure"),
            Node(
                nodes.report_newest_window,
                ["inference_log", "references", "verdicts", settings],
                [f"{kind}_report_{form}" for kind in nodes.REPORTS for form in ("html", "json")],
            ),
        ],
        namespace="monitoring",
        prefix_datasets_with_namespace=False,
    )
