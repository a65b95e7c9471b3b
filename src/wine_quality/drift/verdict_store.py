"""Every verdict that was ever reached, in the monitoring's database: append-only, nothing doubled.

A verdict is written once, and again only if it has changed: late labels make the model's verdict of
an old window another one, and both stay readable.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from wine_quality.drift.alerts import by_subject
from wine_quality.drift.settings import window_length
from wine_quality.drift.store_database import StoreDatabase, without_zone
from wine_quality.drift.store_schema import VERDICTS
from wine_quality.drift.vocabulary import ALARMS

HISTORY_DTYPES = {
    "window_start": "datetime64[us, UTC]",
    "window_end": "datetime64[us, UTC]",
    "window_seconds": "int64",
    "model_version": "str",
    "subject": "str",
    "revision": "int64",
    "decided_at": "datetime64[us, UTC]",
    "verdict": "str",
    "value": "float64",
    "threshold": "float64",
    "n": "int64",
    "reason": "str",
}
"""The columns of the history, with their types; `subject` is a column or `model (segment)`,
`window_seconds` the length of a window before any were merged."""
CHANGES_DTYPES = {**HISTORY_DTYPES, "before": "str"}
"""Those of a change: `before` is the verdict that was replaced."""
MOST_NAMED = 10_000
"""Windows that a query names one by one."""
_KEY = ("window_start", "window_seconds", "model_version", "subject")
_DECIDED = ("verdict", "n", "reason", "window_end")
"""What makes a verdict another one: the reason names the figures as far as they matter."""


@dataclass(frozen=True)
class Changes:
    """Verdicts that were replaced by others.

    Attributes:
        newest: Those decided last, the newest first; columns and types of `CHANGES_DTYPES`.
        in_all: How many there are, with those that are not among the newest.
    """

    newest: pd.DataFrame
    in_all: int


class VerdictStore(StoreDatabase):
    """The verdicts' history in a SQLite file or a PostgreSQL database."""

    def record(self, judged: pd.DataFrame, decided_at: datetime) -> int:
        """Append the verdicts that are new or other than those last recorded, all or none.

        Args:
            judged: Rows of `subject_verdicts`.
            decided_at: When they were reached, with a time zone.

        Returns:
            How many were appended.
        """
        moment = without_zone(decided_at)
        rows = [{**row, "decided_at": moment} for row in _plain(judged)]
        if not rows:
            return 0
        with self.transaction() as connection:
            newest = _newest(connection, {row["window_start"] for row in rows})
            fresh = []
            for row in rows:
                known = newest.get(tuple(row[name] for name in _KEY))
                if known is None or any(row[name] != getattr(known, name) for name in _DECIDED):
                    fresh.append({**row, "revision": known.revision + 1 if known else 1})
            if fresh:
                connection.execute(sa.insert(VERDICTS), fresh)
        return len(fresh)

    def history(self) -> pd.DataFrame:
        """Read all verdicts, with those that were replaced since.

        Returns:
            Columns and types of `HISTORY_DTYPES`, in the order of event time; of a window's
            verdicts on a subject the one with the greatest `revision` holds.
        """
        return self._history()

    def _history(self, *which: sa.ColumnElement[bool]) -> pd.DataFrame:
        columns = VERDICTS.c
        query = (
            sa.select(*(columns[name] for name in HISTORY_DTYPES))
            .where(*which)
            .order_by(*(columns[name] for name in _KEY), columns.revision)
        )
        with self.transaction() as connection:
            rows = connection.execute(query).all()
        return _frame(rows, HISTORY_DTYPES)

    def in_force_between(self, version: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Find the verdicts that hold of a version's windows in a stretch of time, or part of it.

        Returns:
            Rows of `history`, the newest revision of each.
        """
        return self._history(
            VERDICTS.c.model_version == version,
            VERDICTS.c.window_start < without_zone(end),
            VERDICTS.c.window_end > without_zone(start),
            _holds(),
        )

    def windows_judged(self, verdict: str) -> pd.DataFrame:
        """Find the windows of which a verdict holds now, on whatever subject.

        Returns:
            Rows of `history`, the newest revision of each.
        """
        return self._history(VERDICTS.c.verdict == verdict, _holds())

    def windows(self) -> pd.DataFrame:
        """List all windows that were ever judged.

        Returns:
            `window_start`, `window_end`, `model_version`, each once, and whether any verdict on
            the window, one that was replaced included, was an alarm (`alarming`).
        """
        columns = VERDICTS.c
        key = columns.window_start, columns.window_end, columns.model_version
        alarming = sa.func.max(sa.case((columns.verdict.in_(ALARMS), 1), else_=0))
        with self.transaction() as connection:
            rows = connection.execute(sa.select(*key, alarming).group_by(*key)).all()
        names = ["window_start", "window_end", "model_version", "alarming"]
        return _frame(rows, {name: HISTORY_DTYPES.get(name, "bool") for name in names})

    def changes(self, most: int) -> Changes:
        """Find the windows that have another verdict now than before, as late labels bring about.

        Args:
            most: How many changes are wanted.
        """
        now, before = VERDICTS.alias(), VERDICTS.alias()
        same = [now.c[name] == before.c[name] for name in _KEY]
        query = (
            sa.select(
                *(now.c[name] for name in HISTORY_DTYPES),
                before.c.verdict.label("before"),
                sa.func.count().over().label("in_all"),
            )
            .join_from(now, before, sa.and_(*same, before.c.revision == now.c.revision - 1))
            .where(now.c.revision > 1, now.c.verdict != before.c.verdict)
            .order_by(*(now.c[name].desc() for name in ("decided_at", *_KEY, "revision")))
            .limit(most)
        )
        with self.transaction() as connection:
            rows = connection.execute(query).all()
        in_all = rows[0].in_all if rows else 0
        return Changes(_frame([row[:-1] for row in rows], CHANGES_DTYPES), in_all)


def subject_verdicts(
    verdicts: pd.DataFrame, model_verdicts: pd.DataFrame, window: str
) -> pd.DataFrame:
    """Put all verdicts into the form of the history.

    Args:
        verdicts: As `by_subject` takes them.
        model_verdicts: As `by_subject` takes them.
        window: Length of a window, see `DriftSettings`.

    Returns:
        The rows of both, with the columns of `HISTORY_DTYPES` without `revision` and `decided_at`.
    """
    seconds = int(window_length(window).total_seconds())
    judged = by_subject(verdicts, model_verdicts).assign(window_seconds=seconds)
    return judged[[name for name in HISTORY_DTYPES if name not in ("revision", "decided_at")]]


def _frame(rows: Iterable[Any], dtypes: Mapping[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame.from_records(rows, columns=list(dtypes))
    moments = [name for name, dtype in dtypes.items() if dtype.startswith("datetime64")]
    zoned = {name: pd.to_datetime(frame[name], utc=True) for name in moments}
    return frame.assign(**zoned).astype(dtypes)


def _holds() -> sa.ColumnElement[bool]:
    """Tell which verdicts were not replaced since."""
    later = VERDICTS.alias()
    same = (later.c[name] == VERDICTS.c[name] for name in _KEY)
    return ~sa.exists().where(*same, later.c.revision > VERDICTS.c.revision)


def _newest(
    connection: sa.Connection, starts: Collection[datetime]
) -> dict[tuple[Any, ...], sa.Row[Any]]:
    """The verdicts that hold of the windows with these starts, by their key."""
    start = VERDICTS.c.window_start
    # a database takes only so many values, and a late window may be years before the newest
    which = start.in_(starts) if len(starts) <= MOST_NAMED else start >= min(starts)
    query = sa.select(VERDICTS).where(which).order_by(VERDICTS.c.revision)
    # the newest comes last, and stays
    return {tuple(getattr(row, name) for name in _KEY): row for row in connection.execute(query)}


def _plain(judged: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as the database takes them: moments without a zone, null for no number."""
    zoneless = judged.assign(
        **{name: judged[name].dt.tz_localize(None) for name in ("window_start", "window_end")}
    )
    plain = zoneless.astype(object)
    plain = plain.where(zoneless.notna() & ~zoneless.isin([np.inf, -np.inf]), None)
    for name in ("window_start", "window_end"):
        plain[name] = list(zoneless[name].dt.to_pydatetime())
    return [{str(k): v for k, v in row.items()} for row in plain.to_dict(orient="records")]
