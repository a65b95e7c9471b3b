"""All parameters of the project in one model, so that no key is misspelt unnoticed."""

import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wine_quality.errors import WineQualityError
from wine_quality.modelling.promotion import PromotionSettings
from wine_quality.parameters import Parameters
from wine_quality.pipelines.download.parameters import DownloadParameters
from wine_quality.pipelines.monitoring.parameters import MonitoringParameters
from wine_quality.pipelines.processing.parameters import ProcessingParameters
from wine_quality.pipelines.retraining.parameters import RetrainingParameters
from wine_quality.pipelines.serving_simulation.parameters import SimulationParameters
from wine_quality.pipelines.training.parameters import TrainingParameters
from wine_quality.pipelines.tuning.parameters import TuningParameters


class ProjectParameters(Parameters):
    """The parameters of every pipeline, each group under its pipeline's name."""

    download: DownloadParameters
    processing: ProcessingParameters
    tuning: TuningParameters
    training: TrainingParameters
    serving_simulation: SimulationParameters
    promotion: PromotionSettings
    monitoring: MonitoringParameters
    retraining: RetrainingParameters


def added_pipelines() -> list[str]:
    """Name the pipelines that a team added, as by `kedro pipeline create`: packages in this one."""
    packages = pkgutil.iter_modules([str(Path(__file__).parent)])
    return [
        found.name
        for found in packages
        if found.ispkg and found.name not in ProjectParameters.model_fields
    ]


def check_parameters(parameters: Mapping[str, Any]) -> ProjectParameters:
    """Check the merged parameters of a run.

    Kedro checks what the nodes of a run take; this checks everything, so that a misspelt group on
    the command line does not pass for an instruction. The group of an added pipeline, which has
    its name, may hold anything.

    Raises:
        WineQualityError: A key is unknown, is missing or has a wrong value; the message names each.
    """
    try:
        groups = {
            name: group for name, group in parameters.items() if name not in added_pipelines()
        }
        return ProjectParameters.model_validate(groups)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc']))}: {_in_words(problem)}"
            for problem in error.errors()
        ]
        raise WineQualityError(
            f"Wrong parameters: {'; '.join(problems)}. Correct them in conf/ or after --params."
        ) from error


def _in_words(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "extra_forbidden":
        group_of_its_own = len(problem["loc"]) == 1
        return "there is no such parameter" + (
            " (those of a pipeline of your own stand in a group with its name)"
            if group_of_its_own
            else ""
        )
    if problem["type"] == "missing":
        return "it has no value"
    message = str(problem["msg"]).removeprefix("Value error, ")
    # a whole group would bury the message
    is_group = isinstance(problem["input"], Mapping)
    return message if is_group else f"{message} (it is {problem['input']!r})"
