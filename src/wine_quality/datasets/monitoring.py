"""What monitoring keeps in its database, as datasets."""

from datetime import UTC, datetime
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from wine_quality.drift.profile_store import ProfileStore
from wine_quality.drift.verdict_store import VerdictStore


class ProfileStoreDataset(AbstractDataset[Any, ProfileStore]):
    """The store of the windows' counts, for the node that counts; load only.

    Args:
        credentials: `url` of its database.
        metadata: For Kedro's plugins.
    """

    optional = True
    """Nothing has to write this before it can be read."""

    def __init__(
        self, *, credentials: dict[str, str], metadata: dict[str, Any] | None = None
    ) -> None:
        self._store = ProfileStore(credentials["url"])
        self.metadata = metadata

    def load(self) -> ProfileStore:
        """Return the store; its database is opened on first use."""
        return self._store

    def save(self, data: Any) -> None:
        """Refuse: what writes to the store does so through the store."""
        raise DatasetError("The store of profiles is read only.")

    def release(self) -> None:
        """Close the database, so that a run leaves no file open."""
        self._store.close()

    def _describe(self) -> dict[str, Any]:
        return {"store": repr(self._store)}


class VerdictHistoryDataset(AbstractDataset[pd.DataFrame, pd.DataFrame]):
    """All verdicts ever reached: saving appends those that are new or have changed.

    Args:
        credentials: `url` of their database.
        metadata: For Kedro's plugins.
    """

    def __init__(
        self, *, credentials: dict[str, str], metadata: dict[str, Any] | None = None
    ) -> None:
        self._store = VerdictStore(credentials["url"])
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Read the history, see `VerdictStore.history`."""
        return self._store.history()

    def save(self, data: pd.DataFrame) -> None:
        """Append to the history.

        Args:
            data: Rows of `subject_verdicts`.
        """
        self._store.record(data, datetime.now(UTC))

    def release(self) -> None:
        """Close the database, so that a run leaves no file open."""
        self._store.close()

    def _describe(self) -> dict[str, Any]:
        return {"store": repr(self._store)}
