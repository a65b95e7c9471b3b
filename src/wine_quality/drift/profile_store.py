"""Profiles that outlive a run, so that the next one counts only what is new.

A window's counts and the state of the log they were taken from are replaced together, whole: a run
that is killed leaves a window as it was or as it is to be, and of two runs at once the later one
stays. The state is read before the rows are counted, so that whatever comes between makes the next
run count that window again.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import sqlalchemy as sa

from wine_quality.drift.engine import profile_table
from wine_quality.drift.profiles import COUNTS_DTYPES, ERRORS_DTYPES, Profile, Reference
from wine_quality.drift.settings import window_length
from wine_quality.drift.store_database import StoreDatabase
from wine_quality.drift.store_schema import PROFILE_COUNTS, PROFILE_ERRORS, PROFILE_WINDOWS
from wine_quality.errors import WineQualityError
from wine_quality.wines import PREDICTION

if TYPE_CHECKING:
    import ibis.expr.types as ir

logger = logging.getLogger(__name__)

LONGEST_SPAN = timedelta(days=7)
"""Event time counted and stored in one go: so much is lost with a run that is killed."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)


class ProfileStore(StoreDatabase):
    """Profiles in a SQLite file or a PostgreSQL database, the inference log's own or another."""

    def states(self, version: str, reference: Reference, window: str) -> dict[pd.Timestamp, str]:
        """The state of the log that each stored window was counted from, by the window's start."""
        query = sa.select(PROFILE_WINDOWS.c.window_start, PROFILE_WINDOWS.c.state).where(
            *_of(PROFILE_WINDOWS, version, reference, window)
        )
        with self.transaction() as connection:
            rows = connection.execute(query).all()
        return {pd.Timestamp(row.window_start, tz=UTC): row.state for row in rows}

    def starts(self, version: str, reference: Reference, window: str) -> list[pd.Timestamp]:
        """The starts of the stored windows that hold a wine, in no order."""
        query = (
            sa.select(PROFILE_COUNTS.c.window_start)
            .where(
                *_of(PROFILE_COUNTS, version, reference, window),
                PROFILE_COUNTS.c.column == PREDICTION,
            )
            .distinct()
        )
        with self.transaction() as connection:
            return [pd.Timestamp(start, tz=UTC) for start in connection.scalars(query)]

    def replace(
        self,
        version: str,
        reference: Reference,
        window: str,
        states: Mapping[pd.Timestamp, str],
        profile: Profile,
    ) -> None:
        """Store windows whole, in one transaction, in place of what was stored of them.

        Args:
            version: The model version that `profile` is of.
            reference: The reference it was counted with.
            window: The length of its windows.
            states: State of the log by window start. Windows without a row in `profile` are stored
                as empty.
            profile: Counts of these windows alone.
        """
        key = {
            "model_version": version,
            "reference": reference_fingerprint(reference),
            "window_seconds": _seconds(window),
        }
        starts = [start.to_pydatetime().replace(tzinfo=None) for start in sorted(states)]
        # in order, so that two runs at once wait for each other instead of both being stuck
        windows = [
            {**key, "window_start": start, "state": states[pd.Timestamp(start, tz=UTC)]}
            for start in starts
        ]
        if not windows:
            return
        insert = self.insert(PROFILE_WINDOWS)
        upsert = insert.on_conflict_do_update(
            index_elements=list(PROFILE_WINDOWS.primary_key), set_={"state": insert.excluded.state}
        )
        with self.transaction() as connection:
            for row in windows:
                connection.execute(upsert, row)
            for table, frame in (
                (PROFILE_COUNTS, profile.counts),
                (PROFILE_ERRORS, profile.errors),
            ):
                connection.execute(
                    sa.delete(table).where(
                        *_of(table, version, reference, window),
                        table.c.window_start.between(starts[0], starts[-1]),
                        table.c.window_start.in_(starts),
                    )
                )
                if rows := [{**row, **key} for row in _rows(frame)]:
                    connection.execute(sa.insert(table), rows)

    def load(
        self,
        version: str,
        reference: Reference,
        window: str,
        since: datetime | None = None,
    ) -> Profile:
        """Read the stored windows of a model version.

        Args:
            version: The model version.
            reference: Its reference; windows counted with other bins are left out.
            window: Length of a window; windows of another length are left out.
            since: Start of the first window wanted, with a time zone.
        """
        frames = []
        with self.transaction() as connection:
            for table, dtypes in ((PROFILE_COUNTS, COUNTS_DTYPES), (PROFILE_ERRORS, ERRORS_DTYPES)):
                query = sa.select(*(table.c[name] for name in dtypes)).where(
                    *_of(table, version, reference, window)
                )
                if since is not None:
                    first = since.astimezone(UTC).replace(tzinfo=None)
                    query = query.where(table.c.window_start >= first)
                order = [table.c.window_start, *list(table.primary_key)[4:]]
                rows = connection.execute(query.order_by(*order)).tuples().all()
                frame = pd.DataFrame.from_records(rows, columns=list(dtypes))
                starts = pd.to_datetime(frame["window_start"], utc=True)
                frames.append(frame.assign(window_start=starts).astype(dtypes))
        return Profile(*frames)


def update_profiles(
    store: ProfileStore,
    table: "ir.Table",
    references: Mapping[str, Reference],
    states: pd.DataFrame,
    window: str = "1D",
) -> pd.DataFrame:
    """Count and store the windows whose log is not the one they were last counted from.

    Windows that are stored and no longer in `states` stay: a log may be shortened.

    Args:
        store: Where the profiles are.
        table: The log, as `profile_table` takes it.
        references: The reference of each model version; other versions are left alone.
        states: The log's present states, from `window_states` or `lake_states`.
        window: Length of a window, the one of `states`.

    Returns:
        The windows counted: `window_start` and `model_version`.
    """
    length = window_length(window).to_pytimedelta()
    counted = []
    for version, reference in references.items():
        of_version = states[states["model_version"] == version]
        present = dict(zip(of_version["window_start"], of_version["state"], strict=True))
        stored = store.states(version, reference, window)
        changed = sorted(start for start in present if stored.get(start) != present[start])
        own = table.filter(table["model_version"].cast("string") == version)
        for span in _spans(changed, length):
            profile = profile_table(own, reference, window, span[0], span[-1] + length)
            store.replace(version, reference, window, {s: present[s] for s in span}, profile)
            counted += [{"window_start": start, "model_version": version} for start in span]
    logger.info("Counted %d of the log's %d windows", len(counted), len(states))
    return pd.DataFrame(counted, columns=["window_start", "model_version"])


def load_newest(
    store: ProfileStore,
    references: Mapping[str, Reference],
    window: str,
    windows: int | None = None,
) -> Profile:
    """Read the newest windows of several model versions.

    Args:
        store: Where the profiles are.
        references: The reference of each model version.
        window: Length of a window.
        windows: How many windows of event time, at most, that hold a wine; all, if not given.
    """
    starts = {start for v, of in references.items() for start in store.starts(v, of, window)}
    newest = sorted(starts) if windows is None else sorted(starts)[-windows:]
    since = newest[0].to_pydatetime() if newest else None
    profiles = [store.load(v, of, window, since) for v, of in references.items()]
    return Profile(
        pd.concat([profile.counts for profile in profiles], ignore_index=True),
        pd.concat([profile.errors for profile in profiles], ignore_index=True),
    )


def lake_states(folder: str, versions: Iterable[str], window: str = "1D") -> pd.DataFrame:
    """The states of a log in Parquet files, told by the files of its days instead of their rows.

    Args:
        folder: The folder of the folders `day=YYYY-MM-DD`, a path or an address that fsspec knows.
            A prediction's event time lies in its day, UTC; late labels come with the files
            of their predictions written anew: a further file would count these twice.
        versions: The model versions that may have predictions in any of the windows.
        window: Length of a window, see `DriftSettings`.

    Returns:
        As `window_states`: a file that is new, gone or rewritten changes the state of every window
        that its day touches.
    """
    import fsspec

    files, root = fsspec.core.url_to_fs(folder)
    length = window_length(window).to_pytimedelta()
    parts: dict[datetime, list[str]] = {}
    for path, info in sorted(files.glob(f"{root}/day=*/*.parquet", detail=True).items()):
        day_name, name = path.rsplit("/", 2)[1:]
        try:
            day = datetime.strptime(day_name, "day=%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError as error:
            raise WineQualityError(
                f"{day_name} in {folder} names no day: name the folders like day=2026-01-31"
            ) from error
        changed = info.get("ETag") or info.get("mtime") or info.get("LastModified")
        start = _EPOCH + (day - _EPOCH) // length * length
        while start < day + _DAY:
            parts.setdefault(start, []).append(f"{day_name}/{name}:{info['size']}:{changed}")
            start += length
    rows = [
        {
            "window_start": pd.Timestamp(start).as_unit("us"),
            "model_version": version,
            "state": hashlib.sha256("\n".join(files_of).encode()).hexdigest()[:32],
        }
        for start, files_of in sorted(parts.items())
        for version in versions
    ]
    return pd.DataFrame(rows, columns=["window_start", "model_version", "state"])


def reference_fingerprint(reference: Reference) -> str:
    """Identify what a profile depends on, the reference's bins, by sixteen hex digits."""
    bins = sorted((asdict(column.bins) for column in reference.columns), key=lambda b: b["name"])
    return hashlib.sha256(json.dumps(bins, sort_keys=True).encode()).hexdigest()[:16]


def _spans(starts: Sequence[pd.Timestamp], length: timedelta) -> Iterator[list[pd.Timestamp]]:
    """Cut ascending windows into runs without a gap, none longer than `LONGEST_SPAN`."""
    span: list[pd.Timestamp] = []
    for start in starts:
        if span and (start != span[-1] + length or start + length - span[0] > LONGEST_SPAN):
            yield span
            span = []
        span.append(start)
    if span:
        yield span


def _of(
    table: sa.Table, version: str, reference: Reference, window: str
) -> list[sa.ColumnElement[bool]]:
    return [
        table.c.model_version == version,
        table.c.reference == reference_fingerprint(reference),
        table.c.window_seconds == _seconds(window),
    ]


def _seconds(window: str) -> int:
    return int(window_length(window).total_seconds())


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A profile's table as rows to insert: moments without a zone, null for no number."""
    naive = frame.assign(window_start=frame["window_start"].dt.tz_localize(None))
    plain = naive.astype(object).where(naive.notna(), None)
    plain["window_start"] = list(naive["window_start"].dt.to_pydatetime())
    return [
        {str(name): value for name, value in row.items()} for row in plain.to_dict(orient="records")
    ]
