"""Inference log → profiles → verdicts → reports, figures and alerts."""

from kedro.pipeline import Pipeline

from wine_quality.pipelines.monitoring import figures, nodes
from wine_quality.pipelines.steps import step


def create_pipeline() -> Pipeline:
    """Build the monitoring pipeline."""
    settings = "params:monitoring.drift"
    profile = ["profile_counts", "profile_errors", "reference_profiles"]
    return Pipeline(
        [
            step(nodes.describe_references, ["inference_log", "references"], "reference_profiles"),
            step(
                nodes.profile_log,
                ["inference_log", "reference_profiles", settings],
                ["profile_counts", "profile_errors"],
            ),
            step(nodes.decide_columns, [*profile, settings], "verdicts"),
            step(nodes.decide_model, [*profile, settings], "model_verdicts"),
            step(nodes.collect_alerts, ["verdicts", "model_verdicts"], "alerts"),
            step(figures.plot_drift_heat_map, "verdicts", "drift_figure"),
            step(figures.plot_error_over_time, "model_verdicts", "error_figure"),
            step(
                nodes.report_newest_window,
                ["inference_log", "references", "verdicts", settings],
                [f"{kind}_report_{form}" for kind in nodes.REPORTS for form in ("html", "json")],
            ),
        ],
        namespace="monitoring",
        prefix_datasets_with_namespace=False,
    )
