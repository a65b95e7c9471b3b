"""Parameters of the serving_simulation pipeline."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, Field

from wine_quality.parameters import Parameters
from wine_quality.serving.schemas import within_the_calendar
from wine_quality.traffic.backend_config import read_config_file
from wine_quality.traffic.ground_truth import GroundTruthParameters
from wine_quality.traffic.planning import Rhythm
from wine_quality.traffic.scenarios import DriftParameters


class EventTimeParameters(Parameters):
    """When the simulated wines are measured."""

    start: Annotated[AwareDatetime, AfterValidator(within_the_calendar)] = Field(
        description="Start of the first simulated period; each later run is the next period"
    )
    hours: float = Field(
        ge=0.01, le=24 * 366, description="Length of a period, over which a run's wines spread"
    )
    rhythm: Rhythm = Field(default=Rhythm(), description="How they spread over the day")


class BackendParameters(Parameters):
    """Who hosts the model."""

    name: str = Field(description="A short name (in_process), or the class path of a Backend")
    config: dict[str, Any] = Field(default={}, description="Its settings")
    config_file: str | None = Field(
        default=None, description="A JSON or YAML file of its settings; those in config go before"
    )

    def all_settings(self) -> dict[str, Any]:
        """Give the settings of the file and those beside it, which go before.

        Raises:
            WineQualityError: The file cannot be read.
        """
        return (read_config_file(self.config_file) if self.config_file else {}) | self.config


class SimulationParameters(Parameters):
    """Parameters of the serving_simulation pipeline."""

    source: Literal["held_out", "synthetic"] = Field(
        description="`held_out`: wines that the model was not fitted on; `synthetic`: drawn anew"
    )
    samples: int = Field(ge=1, description="Wines to send")
    batch_size: int = Field(ge=1, description="Wines in a request")
    concurrency: int = Field(default=1, ge=1, le=64, description="Requests under way at a time")
    rate: float | None = Field(
        default=None, gt=0, description="Most wines a second; as fast as can be, if not given"
    )
    patience_seconds: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="How long a backend that is away is asked again, before what is left is kept "
        "for the next run",
    )
    seed: int = Field(ge=0)
    event_time: EventTimeParameters
    ground_truth: GroundTruthParameters
    drift: DriftParameters
    backend: BackendParameters


def next_period(last_event: datetime | None, parameters: EventTimeParameters) -> datetime:
    """Find when the next simulated period begins: after the last one that has traffic."""
    if last_event is None or last_event < parameters.start:
        return parameters.start
    length = timedelta(hours=parameters.hours)
    return parameters.start + ((last_event - parameters.start) // length + 1) * length
