"""The database that monitoring writes to: SQLite or PostgreSQL, the inference log's own or another.

Every transaction holds the lock that a writer needs from its beginning, so that of two runs at once
one waits for the other: neither fails, and neither decides by what the other is about to change.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy.engine import Connection

from wine_quality.database.database import Database
from wine_quality.drift.store_schema import MONITORING


def without_zone(moment: datetime | None) -> datetime | None:
    """A moment as the tables have it: UTC without a zone; None stays None."""
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)


class StoreDatabase(Database):
    """Monitoring's tables; they are made on first use, and those of an older version migrated."""

    def __init__(self, url: str) -> None:
        """Name the database.

        Args:
            url: As the inference log takes it.

        Raises:
            WineQualityError: If it is neither SQLite nor PostgreSQL.
        """
        super().__init__(url, MONITORING)

    @contextmanager
    def transaction(self, *, writing: bool = True, alone: bool = True) -> Iterator[Connection]:
        """Open a transaction; whatever is read in it stays true until it ends.

        Raises:
            DatabaseError: If the database cannot be used.
        """
        self.open(create=True)
        with self._begin(writing=writing, alone=alone) as connection:
            yield connection
