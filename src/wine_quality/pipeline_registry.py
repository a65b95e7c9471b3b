"""The registered pipelines."""

import os
from collections.abc import Sequence
from pathlib import Path

from kedro.pipeline import Pipeline

from wine_quality.pipelines import (
    download,
    monitoring,
    processing,
    serving_simulation,
    training,
)
from wine_quality.pipelines.parameters import check_parameters
from wine_quality.pipelines.training.parameters import TrainingParameters

_candidates: tuple[str, ...] | None = None


def configure_candidates(parameters: TrainingParameters) -> None:
    """Set which candidates the training pipeline has, from the parameters of the run at hand."""
    global _candidates
    _candidates = enabled_candidates(parameters)


def enabled_candidates(parameters: TrainingParameters) -> tuple[str, ...]:
    """List the candidates that take part."""
    return tuple(name for name, settings in parameters.candidates.items() if settings.enabled)


def register_pipelines() -> dict[str, Pipeline]:
    """Register the four pipelines, their sum as the default, and what stands beside them."""
    main = {
        "processing": processing.create_pipeline(),
        "training": training.create_pipeline(_run_candidates()),
        "serving_simulation": serving_simulation.create_pipeline(),
        "monitoring": monitoring.create_pipeline(),
    }
    return {
        "__default__": sum(main.values(), Pipeline([])),
        **main,
        "download": download.create_pipeline(),
    }


def _run_candidates() -> Sequence[str]:
    """Return the configured candidates; without a session, those of the environment's files."""
    if _candidates is not None:
        return _candidates
    from kedro.framework.project import settings

    folder = Path.cwd() / settings.CONF_SOURCE
    loader = settings.CONFIG_LOADER_CLASS(
        conf_source=str(folder), env=os.environ.get("KEDRO_ENV"), **settings.CONFIG_LOADER_ARGS
    )
    return enabled_candidates(check_parameters(loader["parameters"]).training)
