"""The training pipeline."""

from wine_quality.pipelines.training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
