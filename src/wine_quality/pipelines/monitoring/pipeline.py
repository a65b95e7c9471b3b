"""Inference log → profiles → verdicts → reports, figures and alerts."""

from kedro.pipeline import Pipeline

from wine_quality.pipelines.monitoring import figures, nodes
from wine_quality.pipelines.steps import step


def create_pipeline() -> Pipeline:
    """Build the monitoring pipeline."""
    settings, alert_settings = "params:monitoring.drift", "params:monitoring.alerts"
    return Pipeline(
        [
            step(
                nodes.describe_references,
                ["inference_log", "references", "profile_store", settings],
                "reference_profiles",
            ),
            step(
                nodes.list_accepted_periods,
                ["acceptance_store", "reference_profiles"],
                "accepted_periods",
            ),
            step(
                nodes.count_windows,
                ["inference_log", "profile_store", "reference_profiles", settings],
                "counted_hours",
            ),
            step(
                nodes.judge_windows,
                {
                    "profile_store": "profile_store",
                    "reference_profiles": "reference_profiles",
                    "accepted_periods": "accepted_periods",
                    "counted": "counted_hours",
                    "settings": settings,
                    "alert_settings": alert_settings,
                },
                ["verdicts", "model_verdicts", "findings", "late_verdicts", "judged_hours"],
            ),
            step(
                nodes.raise_alerts,
                ["findings", "verdicts", "model_verdicts", "incident_store", alert_settings],
                "alerts",
            ),
            step(
                nodes.compare_challengers,
                ["inference_log_connection", "inference_log", settings],
                "shadow_comparisons",
            ),
            step(figures.plot_drift_heat_map, "verdicts", "drift_figure"),
            step(figures.plot_error_over_time, "model_verdicts", "error_figure"),
            step(figures.plot_summary, ["verdicts", "model_verdicts"], "monitoring_picture"),
            step(
                nodes.record_verdicts,
                ["verdicts", "model_verdicts", "late_verdicts", settings],
                "verdict_history",
            ),
            step(
                nodes.settle_hours,
                [
                    "profile_store",
                    "reference_profiles",
                    "judged_hours",
                    settings,
                    "verdict_history",
                ],
                "settled_hours",
            ),
            step(
                nodes.report_windows,
                {
                    "inference_log": "inference_log",
                    "references": "references",
                    "verdicts": "verdicts",
                    "model_verdicts": "model_verdicts",
                    "accepted_periods": "accepted_periods",
                    "verdict_history": "verdict_history",
                    "workspace": "evidently_workspace",
                    "settings": settings,
                },
                "evidently_pages",
            ),
            step(
                nodes.write_monitoring_page,
                {
                    "verdicts": "verdicts",
                    "model_verdicts": "model_verdicts",
                    "raised": "alerts",
                    "incident_store": "incident_store",
                    "verdict_history": "verdict_history",
                    "profile_store": "profile_store",
                    "reference_profiles": "reference_profiles",
                    "accepted_periods": "accepted_periods",
                    "evidently_pages": "evidently_pages",
                    "settings": settings,
                    "alert_settings": alert_settings,
                },
                "monitoring_page_html",
            ),
            step(
                nodes.check_alerts,
                ["alerts", alert_settings, "monitoring_page_html"],
                "failing_alerts",
            ),
        ],
        namespace="monitoring",
        prefix_datasets_with_namespace=False,
    )
