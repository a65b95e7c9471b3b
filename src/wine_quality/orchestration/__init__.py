"""Runs the pipelines as Prefect flows: on schedules, with retries, node by node on its pages.

Prefect and Dask are an extra (`pip install wine-quality[orchestration]`), imported only where a run
is theirs, so that `kedro run` without these runners needs neither.
"""

import os

from wine_quality.orchestration.runner import PrefectDaskRunner, PrefectRunner

__all__ = ["PrefectDaskRunner", "PrefectRunner"]

# read by Prefect when it is imported: nothing is reported to anybody, and the log line of a thread
# that no flow began is not worth a warning
for _name, _value in {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}.items():
    os.environ.setdefault(_name, _value)
