"""The serving_simulation pipeline."""

from wine_quality.pipelines.serving_simulation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
