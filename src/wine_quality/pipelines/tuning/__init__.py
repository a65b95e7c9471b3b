"""The tuning pipeline."""

from wine_quality.pipelines.tuning.pipeline import create_pipeline

__all__ = ["create_pipeline"]
