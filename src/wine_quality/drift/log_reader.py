"""The inference log as the monitoring reads it: counted where it lies, sampled for reports."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import sqlalchemy as sa

from wine_quality.drift.engine import (
    LABELLED_AT,
    PREDICTION_ID,
    between,
    database_log,
    lake_log,
    spark_log,
    window_states,
)
from wine_quality.drift.profile_store import lake_states
from wine_quality.errors import WineQualityError
from wine_quality.wines import INPUTS, PREDICTION, QUALITY

if TYPE_CHECKING:
    import ibis.expr.types as ir

NOTHING_LOGGED = (
    "Nothing is logged yet, so there is nothing to judge: run 'kedro run' once, or send traffic "
    "with 'kedro run --pipeline serving_simulation'."
)
LOT_DIGITS = 8
"""Random digits at the end of an identifier, hexadecimal and in lower case."""
_VERSION = "model_version"
_MOMENTS = ("event_time", "received_at", LABELLED_AT)


class LogReader(ABC):
    """A log of predictions, each with its newest label. Nothing is opened before it is asked for.

    Attributes:
        table: The log as Ibis knows it, in whatever engine holds it.
    """

    def __init__(self) -> None:
        self._table: ir.Table | None = None

    @property
    def table(self) -> "ir.Table":
        """The log's rows.

        Raises:
            WineQualityError: If there is no log.
        """
        if self._table is None:
            self._table = self._open()
        return self._table

    @abstractmethod
    def _open(self) -> "ir.Table":
        """Connect to what holds the log."""

    @abstractmethod
    def states(self, window: str, versions: Sequence[str]) -> pd.DataFrame:
        """Say in short what each window holds, so that a change of it can be told.

        Args:
            window: Length of a window, see `DriftSettings`.
            versions: The model versions of the log.

        Returns:
            One row per `window_start` and `model_version`, and a text `state`.
        """

    def versions(self) -> tuple[str, ...]:
        """The model versions that made the predictions, in order.

        Raises:
            WineQualityError: If there are no predictions, or one has no event time or no model
                version, and so would be counted in no window.
        """
        keyed = self.table.select(
            **{_VERSION: self.table[_VERSION].cast("string")},
            undated=self.table["event_time"].isnull().ifelse(1, 0),  # noqa: PD003  Ibis
        )
        found = keyed.group_by(_VERSION).aggregate(undated=keyed["undated"].sum()).to_pandas()
        if undated := int(found["undated"].sum()):
            raise WineQualityError(
                f"{undated:,} predictions have no event_time: repair them in the log"
            )
        if found[_VERSION].isna().any():
            raise WineQualityError("Some predictions have no model_version: repair them in the log")
        if found.empty:
            raise WineQualityError(NOTHING_LOGGED)
        return tuple(sorted(found[_VERSION]))

    def read(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        version: str | None = None,
        limit: int | None = None,
        seed: int = 0,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Read rows of the log.

        Args:
            since: First event time wanted, with a time zone.
            until: First event time no longer wanted.
            version: Only what this model version predicted.
            limit: Most rows wanted; of more, so many are drawn by lot, the same from every engine.
            seed: Of the draw.
            columns: Columns wanted; all, if not given.

        Returns:
            The columns, in the order of event time.
        """
        rows = between(self.table, since, until)
        if version is not None:
            rows = rows.filter(rows[_VERSION].cast("string") == version)
        if limit is not None:
            rows = _draw(rows, limit, seed)
        # rows that are alike in all of these are interchangeable
        order = [
            name for name in ("event_time", *INPUTS, PREDICTION, QUALITY) if name in rows.columns
        ]
        rows = rows.order_by(order)
        return _with_moments((rows if columns is None else rows.select(*columns)).to_pandas())

    def close(self) -> None:
        """Disconnect; the next use connects anew."""
        if self._table is not None:
            self._table.get_backend().disconnect()
            self._table = None


class DatabaseReader(LogReader):
    """The inference log in SQLite or PostgreSQL."""

    def __init__(self, url: str, labelled_predictions: sa.Select[Any]) -> None:
        """Name the database.

        Args:
            url: As the inference log takes it.
            labelled_predictions: Select of the predictions with their newest labels.
        """
        super().__init__()
        self._url = url
        self._select = labelled_predictions

    def _open(self) -> "ir.Table":
        return database_log(self._url, self._select)

    def states(self, window: str, versions: Sequence[str]) -> pd.DataFrame:
        """Tell the windows' states by their rows."""
        return window_states(self.table, window)


class LakeReader(LogReader):
    """A log of Parquet files in folders `day=YYYY-MM-DD`, read with DuckDB or Spark."""

    def __init__(self, folder: str, engine: Literal["duckdb", "spark"]) -> None:
        """Name the folder.

        Args:
            folder: The folder of the days' folders.
            engine: What counts.
        """
        super().__init__()
        self._folder = folder
        self._engine = engine

    def _open(self) -> "ir.Table":
        if self._engine == "duckdb":
            return lake_log(self._folder)
        table = spark_log(self._folder)
        # what is read into pandas comes without a zone, in that of the session
        table.get_backend().raw_sql("SET spark.sql.session.timeZone = UTC")
        return table

    def states(self, window: str, versions: Sequence[str]) -> pd.DataFrame:
        """Tell the windows' states by the files of their days, without reading a row."""
        return lake_states(self._folder, versions, window)


def _draw(rows: "ir.Table", limit: int, seed: int) -> "ir.Table":
    """Draw rows by lot: those whose lots follow on a random one, without ordering all the others.

    A row's lot is the end of its identifier, which is random in a UUID of version 4 or 7.
    """
    if PREDICTION_ID not in rows.columns:
        raise WineQualityError(
            f"The inference log has no column {PREDICTION_ID}: write each prediction's identifier."
        )
    first = f"{np.random.default_rng(seed).integers(16**LOT_DIGITS):0{LOT_DIGITS}x}"
    identifier = rows[PREDICTION_ID].cast("string")
    lot = identifier.right(LOT_DIGITS)
    # beyond the last lot the first ones follow
    return rows.order_by([lot < first, lot, identifier]).limit(limit)


def _with_moments(rows: pd.DataFrame) -> pd.DataFrame:
    """Give moments that an engine keeps as text, or without a zone, their zone."""
    found = [name for name in _MOMENTS if name in rows]
    return rows.assign(
        **{name: pd.to_datetime(rows[name], utc=True, format="ISO8601") for name in found}
    )
