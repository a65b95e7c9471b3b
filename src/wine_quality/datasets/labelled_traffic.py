"""Labelled predictions of the inference log, whatever holds it, as a dataset."""

from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from wine_quality.datasets.inference_log import InferenceLogDataset, LakeLogDataset
from wine_quality.drift.log_reader import LABELLED_DTYPES


class LabelledTraffic:
    """Reads labelled predictions when it is asked to; where there is no log, there are none.

    Args:
        log: Holds them.
    """

    def __init__(self, log: InferenceLogDataset | LakeLogDataset) -> None:
        self._log = log

    def newest(self, most: int) -> pd.DataFrame:
        """Read the newest; see `LogReader.labelled`. With `most` zero the log stays closed."""
        if most == 0 or not self._log.exists():
            return pd.DataFrame(columns=list(LABELLED_DTYPES)).astype(LABELLED_DTYPES)
        return self._log.reader().labelled(most)


class LabelledTrafficDataset(AbstractDataset[Any, LabelledTraffic]):
    """The labelled predictions of a log; load only.

    Args:
        log: The log's own dataset, as it would stand in the catalog.
        metadata: For Kedro's plugins.
    """

    optional = True
    """Nothing has to write this before it can be read."""

    def __init__(self, *, log: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        made: Any = AbstractDataset.from_config("log", dict(log))
        self._log: InferenceLogDataset | LakeLogDataset = made
        self.metadata = metadata

    def load(self) -> LabelledTraffic:
        """Give what reads them."""
        return LabelledTraffic(self._log)

    def save(self, data: Any) -> None:
        """Refuse: labels come through the service."""
        raise DatasetError("Labelled traffic is read only.")

    def release(self) -> None:
        """Close the log."""
        self._log.release()

    def _describe(self) -> dict[str, Any]:
        return {"log": repr(self._log)}
