"""The monitoring pipeline."""

from wine_quality.pipelines.monitoring.pipeline import create_pipeline

__all__ = ["create_pipeline"]
