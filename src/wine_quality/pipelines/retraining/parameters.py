"""Parameters of the retraining pipeline."""

from pydantic import Field

from wine_quality.parameters import Parameters
from wine_quality.retraining.decision import DecisionSettings
from wine_quality.retraining.traffic import TrafficSettings


class RetrainingParameters(Parameters):
    """Parameters of the retraining pipeline."""

    use_traffic: bool = Field(
        description="Whether labelled traffic is joined to the raw wines, also by `processing`"
    )
    traffic: TrafficSettings
    decision: DecisionSettings
