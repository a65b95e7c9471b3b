"""The registered pipelines."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from kedro.pipeline import Pipeline

from wine_quality import pipelines
from wine_quality.errors import WineQualityError
from wine_quality.pipelines import (
    download,
    monitoring,
    processing,
    retraining,
    serving_simulation,
    training,
    tuning,
)
from wine_quality.pipelines.parameters import added_pipelines, check_parameters
from wine_quality.pipelines.training.parameters import TrainingParameters
from wine_quality.running.config_loader import read_configuration
from wine_quality.running.hooks import ConfigurationHook
from wine_quality.system.project import project_folder


@dataclass(frozen=True)
class CandidateNames:
    """Which candidates the pipelines have.

    Attributes:
        compared: Those that training compares.
        tuned: Those that the tuning pipeline searches the settings of.
        quick: Those that the default run tunes as well.
        published: Those compared that somebody printed figures of.
    """

    compared: tuple[str, ...]
    tuned: tuple[str, ...]
    quick: tuple[str, ...]
    published: tuple[str, ...]


def name_candidates(parameters: TrainingParameters) -> CandidateNames:
    """List the candidates that take part, and those of them that are tuned."""
    enabled = {name: c for name, c in parameters.candidates.items() if c.enabled}
    tuned = {name: c for name, c in enabled.items() if c.tune and c.search_space}
    quick = tuple(name for name, c in tuned.items() if c.quick_tune)
    published = tuple(name for name, c in enabled.items() if c.published)
    return CandidateNames(tuple(enabled), tuple(tuned), quick, published)


def register_pipelines() -> dict[str, Pipeline]:
    """Register the pipelines of the session at hand; without one, those of the environment's files.

    Kedro calls this without saying for which session. Its hook is asked: a second configuration
    loader would take the session's globals out of force, because OmegaConf's resolvers are one for
    the whole process.
    """
    from kedro.framework.project import settings

    for hook in settings.HOOKS:
        if isinstance(hook, ConfigurationHook) and hook.parameters:
            return build_pipelines(hook.parameters.training)
    folder = project_folder() / settings.CONF_SOURCE
    if not folder.is_dir():
        return {}
    loader = read_configuration(folder, None)
    return build_pipelines(check_parameters(loader["parameters"]).training)


def build_pipelines(parameters: TrainingParameters) -> dict[str, Pipeline]:
    """Build the four pipelines, their sum as the default, what stands beside them, and the added.

    The default tunes a little, too: the candidates and the budget that are called quick.

    Args:
        parameters: Name the candidates.
    """
    names = name_candidates(parameters)
    main = {
        "processing": processing.create_pipeline(),
        "training": training.create_pipeline(names.compared, names.published),
        "serving_simulation": serving_simulation.create_pipeline(),
        "monitoring": monitoring.create_pipeline(),
    }
    return {
        "__default__": sum(main.values(), tuning.create_pipeline(names.quick, "quick")),
        **main,
        "tuning": tuning.create_pipeline(names.tuned, "long"),
        "retraining": main["processing"] + retraining.create_pipeline(),
        "ground_truth": serving_simulation.create_ground_truth_pipeline(),
        "download": download.create_pipeline(),
        **{name: _create(name) for name in added_pipelines()},
    }


def _create(name: str) -> Pipeline:
    """Create a pipeline that a team added.

    Raises:
        WineQualityError: Its package has no function `create_pipeline`.
    """
    package = import_module(f"{pipelines.__name__}.{name}")
    if not hasattr(package, "create_pipeline"):
        raise WineQualityError(
            f"The package {package.__name__} has no create_pipeline: a package there is a pipeline."
        )
    return cast(Callable[[], Pipeline], package.create_pipeline)()
