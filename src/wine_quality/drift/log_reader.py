"""The inference log as the monitoring reads it: counted in parts, sampled for reports."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
import sqlalchemy as sa

from wine_quality.drift.log_engines import (
    EVENT_TIME,
    MOMENTS,
    PREDICTION_ID,
    DuckdbEngine,
    LogEngine,
    SparkEngine,
    open_database,
)
from wine_quality.drift.profiles import COUNTED_COLUMNS, Profile
from wine_quality.drift.reference import Reference
from wine_quality.drift.sources import MODEL_VERSION, SOURCE, Sources
from wine_quality.drift.window_calendar import HOUR_S
from wine_quality.errors import WineQualityError
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, PREDICTION, QUALITY, TYPE

NOTHING_LOGGED = (
    "Nothing is logged yet, so there is nothing to judge: run 'kedro run' once, or send traffic "
    "with 'kedro run --pipeline serving_simulation'."
)
LOT_DIGITS = 8
"""Random digits at the end of an identifier, hexadecimal and in lower case."""
LABELLED_DTYPES: dict[str, str] = {
    PREDICTION_ID: "str",
    EVENT_TIME: "datetime64[us, UTC]",
    MODEL_VERSION: "str",
    SOURCE: "str",
    TYPE: "str",
    **dict.fromkeys((*MEASUREMENT_NAMES, PREDICTION, QUALITY), "float64"),
}
"""What a labelled prediction is known by, with types."""
_ORDER = (EVENT_TIME, *INPUTS, PREDICTION, QUALITY)
"""Rows that are alike in all of these are interchangeable."""


class LogReader(ABC):
    """Predictions, each with its newest label. Nothing is opened before it is asked for."""

    def __init__(self) -> None:
        self._opened: LogEngine | None = None
        self.sources = Sources()

    def divided(self, sources: Sources) -> "LogReader":
        """Read the same log with sources set apart or left out.

        What takes or gives a version, takes or gives the name of a traffic then, see `sources`.
        """
        divided = copy(self)
        # one connection for both, which this reader closes
        divided._opened, divided.sources = self._engine, sources
        return divided

    @abstractmethod
    def _open(self) -> LogEngine:
        """Connect to what holds the log."""

    @property
    def _engine(self) -> LogEngine:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def states(self, window: str, versions: Sequence[str]) -> pd.DataFrame:
        """Say in short what each window holds, so that a change of it can be told.

        Args:
            window: Length of a window, see `DriftSettings`.
            versions: The model versions of the log.

        Returns:
            One row per `window_start` and `model_version`, and a text `state`.

        Raises:
            WineQualityError: If there is no log.
        """
        states = self._engine.states(window, versions, self.sources)
        return states.assign(state=states["state"].map(self.sources.mark).astype("str"))

    def versions(self) -> tuple[str, ...]:
        """The model versions that made the predictions, in order.

        Raises:
            WineQualityError: If there is no log or there are no predictions, or one has no event
                time or no model version, and so would be counted in no window.
        """
        log = self._engine.log
        version = self.sources.traffic(log).label(MODEL_VERSION)
        undated = sa.func.sum(sa.case((log.c[EVENT_TIME].is_(None), 1), else_=0))
        select = (
            sa.select(version, undated.label("undated"))
            .where(*self.sources.conditions(log))
            .group_by(version)
        )
        found = pd.concat([pd.DataFrame(), *self._engine.stream(select)])
        if found.empty and self.sources.left_out:
            names = ", ".join(self.sources.left_out)
            raise WineQualityError(f"Nothing is logged but wines of sources left out ({names}).")
        if found.empty:
            raise WineQualityError(NOTHING_LOGGED)
        if undated_rows := int(found["undated"].sum()):
            raise WineQualityError(
                f"{undated_rows:,} predictions have no event_time: repair them in the log"
            )
        if found[MODEL_VERSION].isna().any():
            raise WineQualityError("Some predictions have no model_version: repair them in the log")
        return tuple(sorted(found[MODEL_VERSION]))

    def batches(
        self,
        columns: Sequence[str],
        since: datetime | None = None,
        until: datetime | None = None,
        version: str | None = None,
    ) -> Iterator[pd.DataFrame]:
        """Read rows of the log in bounded parts, in no order.

        Args:
            columns: Columns wanted; those that the log has not are left out.
            since: First event time wanted, with a time zone.
            until: First event time no longer wanted.
            version: Only what this model version predicted.
        """
        return self._engine.stream(self._select(columns, since, until, version))

    def profile(
        self,
        reference: Reference,
        grain: int = HOUR_S,
        since: datetime | None = None,
        until: datetime | None = None,
        version: str | None = None,
    ) -> Profile:
        """Count the log's wines by hour, segment, column and bin.

        Args:
            reference: Says which cells there are.
            grain: Seconds of event time that make a row, see `WindowCalendar.grain`.
            since: First event time counted, with a time zone; an hour's start, or that hour is
                counted in part.
            until: First event time no longer counted, likewise.
            version: Only what this model version predicted.

        Returns:
            What `count` returns for the same rows: the same integers, sums that differ in
            rounding alone.

        Raises:
            WineQualityError: If there is no log, or a prediction has no event time or no model
                version.
        """
        select = self._select(COUNTED_COLUMNS, since, until, version)
        return self._engine.count(select, reference, grain)

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
        log = self._engine.log
        wanted = list(log.c.keys() if columns is None else columns)
        select = self._select((*wanted, *_ORDER), since, until, version)
        if limit is not None:
            select = _draw(select, log, limit, seed)
        parts = list(self._engine.stream(select))
        rows = pd.concat(parts) if parts else pd.DataFrame(columns=select.selected_columns.keys())
        order = [name for name in _ORDER if name in rows]
        rows = rows.sort_values(order, ignore_index=True, kind="stable")[wanted]
        # some engines keep moments without their zone, which is UTC
        found = [name for name in MOMENTS if name in rows]
        return rows.assign(**{name: pd.to_datetime(rows[name], utc=True) for name in found})

    def labelled(
        self, most: int, since: datetime | None = None, until: datetime | None = None
    ) -> pd.DataFrame:
        """Read the newest predictions that have a label; memory grows with `most` alone.

        Args:
            most: Most rows wanted; of more, those of the latest event times.
            since: First event time wanted, with a time zone.
            until: First event time no longer wanted.

        Returns:
            Columns and types of `LABELLED_DTYPES`, in the order of event time. A text that the log
            does not keep is empty.
        """
        log = self._engine.log
        rows = pd.DataFrame(columns=list(LABELLED_DTYPES))
        if QUALITY in log.c:
            newest = (
                self._select(tuple(LABELLED_DTYPES), since, until, None)
                .where(log.c[QUALITY].is_not(None))
                .order_by(log.c[EVENT_TIME].desc())
                .limit(most)
            )
            rows = pd.concat([rows, *self._engine.stream(newest)]).dropna(subset=QUALITY)
        texts = [name for name, kind in LABELLED_DTYPES.items() if kind == "str"]
        rows[EVENT_TIME] = pd.to_datetime(rows[EVENT_TIME], utc=True)
        rows = rows.fillna(dict.fromkeys(texts, "")).astype(LABELLED_DTYPES)
        return rows.sort_values([EVENT_TIME, PREDICTION_ID], ignore_index=True, kind="stable")

    def _select(
        self,
        columns: Sequence[str],
        since: datetime | None,
        until: datetime | None,
        version: str | None,
    ) -> sa.Select[Any]:
        log = self._engine.log
        traffic = self.sources.traffic(log)
        # a version is given as it is taken
        divided = {MODEL_VERSION: traffic.label(MODEL_VERSION)} if self.sources.apart else {}
        names = [name for name in dict.fromkeys(columns) if name in log.c]
        select = sa.select(*(divided.get(name, log.c[name]) for name in names)).where(
            *self._engine.between(since, until), *self.sources.conditions(log)
        )
        return select if version is None else select.where(traffic == version)

    def close(self) -> None:
        """Disconnect; the next use connects anew."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


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
        self._labelled_predictions = labelled_predictions

    def _open(self) -> LogEngine:
        return open_database(self._url, self._labelled_predictions)


class LakeReader(LogReader):
    """A log of Parquet files in folders `day=YYYY-MM-DD`, read with DuckDB or Spark."""

    def __init__(
        self,
        folder: str,
        engine: Literal["duckdb", "spark"],
        memory_limit: str = "300MB",
        threads: int = 2,
    ) -> None:
        """Name the folder.

        Args:
            folder: The folder of the days' folders. A prediction's event time lies in its day, UTC.
            engine: What reads it.
            memory_limit: DuckDB's own buffers may take this much.
            threads: DuckDB's.
        """
        super().__init__()
        self._folder = folder
        self._kind = engine
        self._memory_limit = memory_limit
        self._threads = threads

    def _open(self) -> LogEngine:
        if self._kind == "duckdb":
            return DuckdbEngine(self._folder, self._memory_limit, self._threads)
        return SparkEngine(self._folder)


def _draw(select: sa.Select[Any], log: sa.FromClause, limit: int, seed: int) -> sa.Select[Any]:
    """Draw rows by lot: those whose lots follow on a random one, without ordering all the others.

    A row's lot is the end of its identifier, which is random in a UUID of version 4 or 7.
    """
    if PREDICTION_ID not in log.c:
        raise WineQualityError(
            f"The inference log has no column {PREDICTION_ID}: write each prediction's identifier."
        )
    first = f"{np.random.default_rng(seed).integers(16**LOT_DIGITS):0{LOT_DIGITS}x}"
    identifier = sa.cast(log.c[PREDICTION_ID], sa.Text)
    lot = sa.func.substr(identifier, sa.func.length(identifier) - (LOT_DIGITS - 1))
    # beyond the last lot the first ones follow
    before = sa.case((lot < first, 1), else_=0)
    return select.order_by(before, lot, identifier).limit(limit)
