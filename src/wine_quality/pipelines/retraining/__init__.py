"""The retraining pipeline."""

from wine_quality.pipelines.retraining.pipeline import create_pipeline

__all__ = ["create_pipeline"]
