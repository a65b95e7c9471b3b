"""The processing pipeline."""

from wine_quality.pipelines.processing.pipeline import create_pipeline

__all__ = ["create_pipeline"]
