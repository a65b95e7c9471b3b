"""Parameters of the monitoring pipeline."""

from wine_quality.drift.alerts import AlertSettings
from wine_quality.drift.settings import DriftSettings
from wine_quality.parameters import Parameters


class MonitoringParameters(Parameters):
    """Parameters of the monitoring pipeline."""

    drift: DriftSettings
    alerts: AlertSettings
