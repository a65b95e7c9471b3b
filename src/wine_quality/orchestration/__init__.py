"""Runs the pipelines as Prefect flows: on schedules, with retries, node by node on its pages.

Prefect and Dask are an extra (`pip install wine-quality[orchestration]`), imported only where a run
is theirs, so that `kedro run` without these runners needs neither.
"""

from wine_quality.orchestration.runner import PrefectDaskRunner, PrefectRunner

__all__ = ["PrefectDaskRunner", "PrefectRunner"]
