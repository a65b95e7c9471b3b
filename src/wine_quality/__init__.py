"""A wine-quality model through its whole life."""

import os
from importlib.metadata import version

# evidently, mlflow and prefect phone home unless told not to before they are imported; kedro's own
# switch is the file .telemetry
os.environ.setdefault("DO_NOT_TRACK", "true")

__version__ = version("wine-quality")
