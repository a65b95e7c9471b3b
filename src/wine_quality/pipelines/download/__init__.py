"""The download pipeline."""

from wine_quality.pipelines.download.pipeline import create_pipeline

__all__ = ["create_pipeline"]
