"""Parameters of the serving_simulation pipeline."""

from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from wine_quality.parameters import Parameters
from wine_quality.traffic.scenarios import DriftScenario


class EventTimeParameters(Parameters):
    """When the simulated wines are measured."""

    start: AwareDatetime = Field(
        description="Start of the first simulated period; each later run is the next period"
    )
    hours: float = Field(
        ge=0.01, le=24 * 366, description="Length of a period, over which a run's wines spread"
    )


class GroundTruthParameters(Parameters):
    """What becomes known of the wines' quality."""

    share: float = Field(ge=0, le=1, description="Share of the wines that get a label")
    delay_hours: float = Field(
        ge=0, le=24 * 366, description="From a wine's measurement to its label"
    )


class BackendParameters(Parameters):
    """Who hosts the model."""

    name: str = Field(description="A short name (in_process), or the class path of a Backend")
    config: dict[str, Any] = Field(default={}, description="Its settings")


class SimulationParameters(Parameters):
    """Parameters of the serving_simulation pipeline."""

    source: Literal["held_out", "synthetic"] = Field(
        description="`held_out`: wines that the model was not fitted on; `synthetic`: drawn anew"
    )
    samples: int = Field(ge=1, description="Wines to send")
    batch_size: int = Field(ge=1, description="Wines in a request")
    seed: int = Field(ge=0)
    event_time: EventTimeParameters
    ground_truth: GroundTruthParameters
    drift: DriftScenario
    backend: BackendParameters


def next_period(last_event: datetime | None, parameters: EventTimeParameters) -> datetime:
    """Find when the next simulated period begins: after the last one that has traffic."""
    if last_event is None or last_event < parameters.start:
        return parameters.start
    length = timedelta(hours=parameters.hours)
    return parameters.start + ((last_event - parameters.start) // length + 1) * length
