"""The inference log as datasets: an open connection, and its content."""

from collections.abc import Iterable
from typing import Any, Literal

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from wine_quality.drift.log_engines import PREDICTION_ID, require_spark
from wine_quality.drift.log_reader import (
    NOTHING_LOGGED,
    DatabaseReader,
    LakeReader,
    LogReader,
)
from wine_quality.errors import WineQualityError
from wine_quality.serving.inference_log import InferenceLog
from wine_quality.serving.log_schema import labelled_predictions

Receipts = pd.DataFrame | Iterable[pd.DataFrame]
"""What became of sent wines, whole or in parts: `prediction_id`, `acknowledged`, `event_time`."""


class _LogDataset:
    """What the datasets of one inference log share.

    Args:
        credentials: `url` of its database.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self, *, credentials: dict[str, str], metadata: dict[str, Any] | None = None
    ) -> None:
        self._url = credentials["url"]
        self._log = InferenceLog(self._url)
        self.metadata = metadata

    def release(self) -> None:
        """Close the database, so that a run leaves no file open."""
        self._log.close()

    def _exists(self) -> bool:
        return self._log.exists()

    def _describe(self) -> dict[str, Any]:
        return {"log": repr(self._log)}


class InferenceLogConnection(_LogDataset, AbstractDataset[Any, InferenceLog]):
    """The inference log itself, for whoever writes to it; load only."""

    def load(self) -> InferenceLog:
        """Return the log; its database is opened on first use."""
        return self._log

    def save(self, data: Any) -> None:
        """Refuse: what writes to the log does so through the log."""
        raise DatasetError("The connection to the inference log is read only.")


class InferenceLogDataset(_LogDataset, AbstractDataset[Receipts, LogReader]):
    """The inference log's content; saving receipts checks that it holds what was acknowledged."""

    _reader: LogReader | None = None

    def load(self) -> LogReader:
        """Give a reader of the predictions with their newest labels.

        Raises:
            WineQualityError: Nothing is logged yet.
        """
        if self._log.last_event_time() is None:
            raise WineQualityError(NOTHING_LOGGED)
        return self.reader()

    def reader(self) -> LogReader:
        """Give the reader, whether anything is logged or not."""
        if self._reader is None:
            self._reader = DatabaseReader(self._url, labelled_predictions())
        return self._reader

    def save(self, data: Receipts) -> None:
        """Check the receipts of sent wines against the log.

        Raises:
            WineQualityError: An acknowledged prediction is not in the log.
        """
        for receipts in _parts(data):
            acknowledged = receipts.loc[receipts["acknowledged"], "prediction_id"]
            _refuse(self._log.absent(acknowledged), len(acknowledged), repr(self._log))

    def release(self) -> None:
        """Close the database and the reader's connection to it."""
        if self._reader is not None:
            self._reader.close()
        super().release()


class LakeLogDataset(AbstractDataset[Receipts, LogReader]):
    """A log of Parquet files in folders `day=YYYY-MM-DD`; saving checks receipts against it.

    Args:
        folder: The folder of the days' folders.
        engine: What reads it, `duckdb` or `spark`.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self,
        *,
        folder: str,
        engine: Literal["duckdb", "spark"] = "duckdb",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._folder = folder
        self._engine = engine
        self._reader = LakeReader(folder, engine)
        self.metadata = metadata

    def check_before_run(self) -> None:
        """See that what reads the log is installed.

        Raises:
            WineQualityError: It is not.
        """
        if self._engine == "spark":
            require_spark()

    def load(self) -> LogReader:
        """Give a reader of the predictions with their newest labels.

        Raises:
            WineQualityError: Nothing is logged yet.
        """
        if not self._exists():
            raise WineQualityError(NOTHING_LOGGED)
        return self.reader()

    def reader(self) -> LogReader:
        """Give the reader, whether anything is logged or not."""
        return self._reader

    def save(self, data: Receipts) -> None:
        """Check the receipts of sent wines against the files, whatever engine reads them later.

        Raises:
            WineQualityError: An acknowledged prediction is in none of them.
        """
        lake = LakeReader(self._folder, "duckdb")
        try:
            for receipts in _parts(data):
                acknowledged = receipts[receipts["acknowledged"]]
                if acknowledged.empty:
                    continue
                moments = acknowledged["event_time"]
                until = moments.max() + pd.Timedelta("1us")
                absent = set(acknowledged[PREDICTION_ID])
                for logged in lake.batches([PREDICTION_ID], moments.min(), until):
                    absent.difference_update(logged[PREDICTION_ID])
                _refuse(absent, len(acknowledged), self._folder)
        finally:
            lake.close()

    def release(self) -> None:
        """Close the reader's connection."""
        self._reader.close()

    def _exists(self) -> bool:
        import fsspec

        files, root = fsspec.core.url_to_fs(self._folder)
        return bool(files.glob(f"{root}/day=*/*.parquet"))

    def _describe(self) -> dict[str, Any]:
        return {"folder": self._folder, "engine": self._engine}


def _parts(receipts: Receipts) -> Iterable[pd.DataFrame]:
    return [receipts] if isinstance(receipts, pd.DataFrame) else receipts


def _refuse(lost: set[str], acknowledged: int, log: str) -> None:
    if lost:
        raise WineQualityError(
            f"{len(lost):,} of {acknowledged:,} acknowledged predictions are not in the inference "
            f"log, for example {min(lost)}: check that the service writes to {log}."
        )
