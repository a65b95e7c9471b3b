"""Inference log → profiles → verdicts → reports, figures and alerts."""

from kedro.pipeline import Pipeline

from wine_quality.pipelines.monitoring import figures, nodes
from wine_quality.pipelines.steps import step


def create_pipeline() -> Pipeline:
    """Build the monitoring pipeline."""
    settings, alert_settings = "params:monitoring.drift", "params:monitoring.alerts"
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
            step(
                nodes.raise_alerts,
                ["verdicts", "model_verdicts", "previous_alerts", alert_settings],
                "alerts",
            ),
            step(figures.plot_drift_heat_map, "verdicts", "drift_figure"),
            step(figures.plot_error_over_time, "model_verdicts", "error_figure"),
            step(
                nodes.report_newest_window,
                ["inference_log", "references", "verdicts", settings],
                [f"{kind}_report_{form}" for kind in nodes.REPORTS for form in ("html", "json")],
            ),
            step(
                nodes.write_monitoring_page,
                ["verdicts", "model_verdicts", "alerts"],
                "monitoring_page_html",
            ),
            step(
                nodes.check_alerts,
                ["alerts", alert_settings, "monitoring_page_html", "drift_report_html"],
                "failing_alerts",
            ),
        ],
        namespace="monitoring",
        prefix_datasets_with_namespace=False,
    )
