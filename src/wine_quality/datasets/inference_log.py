"""The inference log as datasets: an open connection, and its content."""

from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from wine_quality.errors import WineQualityError
from wine_quality.serving.inference_log import InferenceLog


class _LogDataset:
    """What the datasets of one inference log share.

    Args:
        credentials: `url` of its database.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self, *, credentials: dict[str, str], metadata: dict[str, Any] | None = None
    ) -> None:
        self._log = InferenceLog(credentials["url"])
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


class InferenceLogDataset(_LogDataset, AbstractDataset[pd.DataFrame, pd.DataFrame]):
    """The inference log's content; saving receipts checks that it holds what was acknowledged."""

    def load(self) -> pd.DataFrame:
        """Read all predictions with their newest label.

        Raises:
            WineQualityError: Nothing is logged yet.
        """
        log = self._log.read()
        if log.empty:
            raise WineQualityError(
                "Nothing is logged yet, so there is nothing to judge: run 'kedro run' once, "
                "or send traffic with 'kedro run --pipeline serving_simulation'."
            )
        return log

    def save(self, data: pd.DataFrame) -> None:
        """Check the receipts of sent wines against the log.

        Args:
            data: Receipts with `prediction_id` and `acknowledged`.

        Raises:
            WineQualityError: An acknowledged prediction is not in the log.
        """
        acknowledged = data.loc[data["acknowledged"], "prediction_id"]
        lost = set(acknowledged) - set(self._log.read()["prediction_id"])
        if lost:
            raise WineQualityError(
                f"{len(lost):,} of {len(acknowledged):,} acknowledged predictions are not in the "
                f"inference log, for example {min(lost)}: check that the service writes to "
                f"{self._log!r}."
            )
