"""What monitoring keeps in its database, as datasets: loading gives what reads and writes it."""

from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, TypeVar, cast

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from wine_quality.drift.acceptance_store import AcceptanceStore
from wine_quality.drift.incident_store import IncidentStore
from wine_quality.drift.profile_store import ProfileStore
from wine_quality.drift.store_database import StoreDatabase
from wine_quality.drift.verdict_store import VerdictStore
from wine_quality.retraining.decision_store import DecisionStore

Store = TypeVar("Store", bound=StoreDatabase)


class _StoreDataset(AbstractDataset[Any, Store], Generic[Store]):
    """A store, for the nodes that read it and write to it.

    Args:
        credentials: `url` of its database.
        metadata: For Kedro's plugins.
    """

    kind: ClassVar[type[StoreDatabase]]
    optional = True
    """Nothing has to write this before it can be read."""

    def __init__(
        self, *, credentials: dict[str, str], metadata: dict[str, Any] | None = None
    ) -> None:
        self._store = cast("Store", self.kind(credentials["url"]))
        self.metadata = metadata

    def load(self) -> Store:
        """Return the store; its database is opened on first use."""
        return self._store

    def save(self, data: Any) -> None:
        """Refuse: what writes to the store does so through the store."""
        raise DatasetError(f"The {self.kind.__name__} is read only.")

    def release(self) -> None:
        """Close the database, so that a run leaves no file open."""
        self._store.close()

    def _describe(self) -> dict[str, Any]:
        return {"store": repr(self._store)}


class ProfileStoreDataset(_StoreDataset[ProfileStore]):
    """The store of the windows' counts; load only."""

    kind = ProfileStore


class AcceptanceStoreDataset(_StoreDataset[AcceptanceStore]):
    """The periods that people have accepted as references; load only."""

    kind = AcceptanceStore


class IncidentStoreDataset(_StoreDataset[IncidentStore]):
    """The incidents, and what was sent of them; load only."""

    kind = IncidentStore


class DecisionStoreDataset(_StoreDataset[DecisionStore]):
    """The decisions to train again or not; load only."""

    kind = DecisionStore


class VerdictHistoryDataset(_StoreDataset[VerdictStore]):
    """All verdicts ever reached: saving appends those that are new or have changed."""

    kind = VerdictStore
    optional = False

    def save(self, data: pd.DataFrame) -> None:
        """Append to the history.

        Args:
            data: Rows of `subject_verdicts`.
        """
        self._store.record(data, datetime.now(UTC))
