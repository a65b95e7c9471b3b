"""The serving_simulation pipeline, and the ground_truth pipeline that goes on from it."""

from wine_quality.pipelines.serving_simulation.pipeline import (
    create_ground_truth_pipeline,
    create_pipeline,
)

__all__ = ["create_ground_truth_pipeline", "create_pipeline"]
