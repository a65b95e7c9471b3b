"""Profiles that outlive a run, so that the next one counts only what is new.

An hour's counts and the state of the log they were taken from are replaced together, whole: a run
that is killed leaves an hour as it was or as it is to be, and of two runs at once the later one
stays. The state is read before the rows are counted, so that whatever comes between makes the next
run count that hour again.
"""

import json
import logging
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray
from scipy import sparse

from wine_quality.drift.profiles import Profile
from wine_quality.drift.reference import BUCKETS, COUNTED_SEGMENTS, Reference
from wine_quality.drift.store_database import StoreDatabase
from wine_quality.drift.store_schema import PROFILE_HOURS, PROFILE_REFERENCES
from wine_quality.errors import WineQualityError

if TYPE_CHECKING:
    from wine_quality.drift.log_reader import LogReader

logger = logging.getLogger(__name__)

LONGEST_SPAN_S = 7 * 86_400
"""Event time counted and stored in one go: so much is lost with a run that is killed."""
PACKING = 2
"""Version of the form in which an hour is stored; the first had no labelled wines by prediction."""
_HEADER = struct.Struct("<BII")


class ProfileStore(StoreDatabase):
    """Profiles in a SQLite file or a PostgreSQL database, the inference log's own or another."""

    def reference(self, version_key: str) -> Reference | None:
        """Read the reference that was kept of a version; None where there is none.

        Args:
            version_key: What identifies the version, for good.
        """
        query = sa.select(PROFILE_REFERENCES.c.reference).where(
            PROFILE_REFERENCES.c.version_key == version_key
        )
        with self.transaction() as connection:
            found = connection.scalar(query)
        return Reference.from_dict(json.loads(found)) if found else None

    def keep_reference(self, version_key: str, reference: Reference) -> None:
        """Keep a version's reference, so that it is computed once."""
        insert = self.insert(PROFILE_REFERENCES).values(
            version_key=version_key, reference=json.dumps(reference.to_dict())
        )
        with self.transaction() as connection:
            connection.execute(insert.on_conflict_do_nothing())

    def states(self, version: str, reference: Reference, grain: int) -> dict[int, str]:
        """The state of the log that each stored hour was counted from, by the hour's start."""
        query = sa.select(PROFILE_HOURS.c.start_second, PROFILE_HOURS.c.state).where(
            *_of(version, reference, grain)
        )
        with self.transaction() as connection:
            return {int(start): state for start, state in connection.execute(query)}

    def replace(
        self,
        version: str,
        reference: Reference,
        grain: int,
        states: Mapping[int, str],
        profile: Profile,
        *,
        is_first: bool = False,
    ) -> None:
        """Store hours whole, in one transaction, in place of what was stored of them.

        Args:
            version: The model version that `profile` is of.
            reference: The reference it was counted with.
            grain: Seconds of an hour, see `WindowCalendar.grain`.
            states: State of the log by the hour's start. Hours without a row in `profile` are
                stored as empty.
            profile: Counts of these hours alone.
            is_first: Whether nothing was counted of the version before; else its windows are
                noted to be judged again, see `recounted`.
        """
        packed = dict(zip(profile.starts.tolist(), _pack(profile), strict=True))
        # in order, so that two runs at once wait for each other instead of both being stuck
        rows = [
            {
                "model_version": version,
                "reference": reference.fingerprint,
                "grain_seconds": grain,
                "start_second": start,
                "state": states[start],
                "profile": packed.get(start),
                "recounted": int(not is_first),
            }
            for start in sorted(states)
        ]
        if not rows:
            return
        insert = self.insert(PROFILE_HOURS)
        upsert = insert.on_conflict_do_update(
            index_elements=list(PROFILE_HOURS.primary_key),
            set_={
                "state": insert.excluded.state,
                "profile": insert.excluded.profile,
                "recounted": 1,
            },
        )
        with self.transaction() as connection:
            connection.execute(upsert, rows)

    def recounted(self, version: str, reference: Reference, grain: int) -> dict[int, str]:
        """The hours whose windows are to be judged again, with their states, by the start.

        They were counted again, or are to be compared with another reference.
        """
        hours = PROFILE_HOURS.c
        query = sa.select(hours.start_second, hours.state).where(
            *_of(version, reference, grain), hours.recounted == 1
        )
        with self.transaction() as connection:
            return {int(start): state for start, state in connection.execute(query)}

    def mark_judged(
        self, version: str, reference: Reference, grain: int, states: Mapping[int, str]
    ) -> None:
        """Note that the windows of hours were judged.

        An hour that has been counted again meanwhile, so that it has another state, is left.

        Args:
            version: The model version.
            reference: Its reference.
            grain: Seconds of an hour.
            states: What `recounted` gave before they were judged.
        """
        hours = PROFILE_HOURS.c
        update = (
            sa.update(PROFILE_HOURS)
            .where(
                *_of(version, reference, grain),
                hours.start_second == sa.bindparam("start"),
                hours.state == sa.bindparam("seen"),
            )
            .values(recounted=0)
        )
        rows = [{"start": start, "seen": state} for start, state in states.items()]
        if rows:
            with self.transaction() as connection:
                connection.execute(update, rows)

    def remove(self, version: str, reference: Reference, grain: int, starts: Sequence[int]) -> None:
        """Forget stored hours, by their starts."""
        own = _of(version, reference, grain)
        delete = sa.delete(PROFILE_HOURS).where(
            *own, PROFILE_HOURS.c.start_second == sa.bindparam("start")
        )
        if starts:
            with self.transaction() as connection:
                connection.execute(delete, [{"start": start} for start in starts])

    def versions_between(self, grain: int, since: int, until: int) -> list[str]:
        """The model versions that have wines in hours that start from `since` to before `until`."""
        hours = PROFILE_HOURS.c
        query = (
            sa.select(hours.model_version)
            .where(
                hours.grain_seconds == grain,
                hours.start_second >= since,
                hours.start_second < until,
                hours.profile.is_not(None),
            )
            .distinct()
            .order_by(hours.model_version)
        )
        with self.transaction() as connection:
            return list(connection.scalars(query))

    def load(
        self, version: str, reference: Reference, grain: int, since: int | None = None
    ) -> Profile:
        """Read the stored hours of a model version.

        Args:
            version: The model version.
            reference: Its reference; hours counted with another are left out.
            grain: Seconds of an hour; hours of another length are left out.
            since: Start of the first hour wanted, seconds since 1970.
        """
        query = (
            sa.select(PROFILE_HOURS.c.start_second, PROFILE_HOURS.c.profile)
            .where(*_of(version, reference, grain), PROFILE_HOURS.c.profile.is_not(None))
            .order_by(PROFILE_HOURS.c.start_second)
        )
        if since is not None:
            query = query.where(PROFILE_HOURS.c.start_second >= since)
        with self.transaction() as connection:
            rows = connection.execute(query).tuples().all()
        return _unpack(rows, reference)


def update_profiles(
    store: ProfileStore,
    log: "LogReader",
    references: Mapping[str, Reference],
    states: pd.DataFrame,
    grain: int,
) -> int:
    """Count and store the hours whose log is not the one they were last counted from.

    Hours that are stored and no longer in `states` stay, because a log may be shortened, but for
    those that its sources, divided otherwise, have left since.

    Args:
        store: Where the profiles are.
        log: What is counted.
        references: The reference of each model version.
        states: One row per hour (`window_start`) and `model_version`, and a text `state` that
            changes with what the hour holds.
        grain: Seconds of an hour.

    Returns:
        How many hours were counted.

    Raises:
        WineQualityError: A model version in `states` has no reference.
    """
    unknown = sorted(set(states["model_version"]) - set(references))
    if unknown:
        raise WineQualityError(f"no reference is known of the versions {', '.join(unknown)}")
    counted = 0
    first = int(states["window_start"].min().timestamp()) if len(states) else 0
    for version, rows in states.groupby("model_version"):
        reference = references[str(version)]
        starts = rows["window_start"].dt.as_unit("s").astype("int64")
        current = dict(zip(starts.tolist(), rows["state"].tolist(), strict=True))
        stored = store.states(str(version), reference, grain)
        stale = sorted(start for start, state in current.items() if stored.get(start) != state)
        for span in _spans(stale, grain):
            since, until = (
                datetime.fromtimestamp(moment, UTC) for moment in (span[0], span[-1] + grain)
            )
            profile = log.profile(reference, grain, since, until, str(version))
            of_span = {start: current[start] for start in span}
            store.replace(str(version), reference, grain, of_span, profile, is_first=not stored)
        counted += len(stale)
        left = [
            start
            for start, state in stored.items()
            if start >= first and start not in current and not log.sources.have_marked(state)
        ]
        store.remove(str(version), reference, grain, left)
    logger.info("Counted %s of %s hours; the others are known", f"{counted:,}", f"{len(states):,}")
    return counted


def _spans(starts: Sequence[int], grain: int) -> Iterator[list[int]]:
    """Cut ascending hours into runs without a gap, none longer than `LONGEST_SPAN_S`."""
    span: list[int] = []
    for start in starts:
        if span and (start != span[-1] + grain or start + grain - span[0] > LONGEST_SPAN_S):
            yield span
            span = []
        span.append(start)
    if span:
        yield span


def _of(version: str, reference: Reference, grain: int) -> list[sa.ColumnElement[bool]]:
    return [
        PROFILE_HOURS.c.model_version == version,
        PROFILE_HOURS.c.reference == reference.fingerprint,
        PROFILE_HOURS.c.grain_seconds == grain,
    ]


def _pack(profile: Profile) -> Iterator[bytes]:
    """Write each row of a profile as bytes, the same on every machine."""
    counts = profile.counts
    for row in range(len(profile)):
        own = slice(counts.indptr[row], counts.indptr[row + 1])
        numbers = np.concatenate([profile.sums[row], profile.lows[row], profile.highs[row]])
        body = (
            counts.indices[own].astype("<u4").tobytes()
            + counts.data[own].astype("<i8").tobytes()
            + numbers.astype("<f8").tobytes()
        )
        filled = own.stop - own.start
        yield _HEADER.pack(PACKING, filled, len(numbers)) + zlib.compress(body, 1)


def _with_all_sums(numbers: NDArray[np.float64], reference: Reference) -> NDArray[np.float64]:
    """An hour's sums, lows and highs; what its edition did not sum up is NaN."""
    missing = reference.sums_layout.size + 2 * len(reference.columns) - len(numbers)
    known = len(numbers) - 2 * len(reference.columns)
    return np.insert(numbers, known, np.full(missing, np.nan)) if missing else numbers


def _unpack(rows: Sequence[tuple[int, Any]], reference: Reference) -> Profile:
    if not rows:
        return Profile.empty(reference)
    indices, data, numbers, filled = [], [], [], [0]
    for _, packed in rows:
        form, n, many = _HEADER.unpack_from(packed)
        if form > PACKING:
            raise WineQualityError(
                "The stored profiles were written by a newer version of this project: upgrade it."
            )
        body = zlib.decompress(packed[_HEADER.size :])
        indices.append(np.frombuffer(body, "<u4", n))
        data.append(np.frombuffer(body, "<i8", n, 4 * n))
        numbers.append(_with_all_sums(np.frombuffer(body, "<f8", many, 12 * n), reference))
        filled.append(filled[-1] + n)
    width = len(COUNTED_SEGMENTS) * reference.width + BUCKETS
    counts = sparse.csr_matrix(
        (np.concatenate(data), np.concatenate(indices), filled), shape=(len(rows), width)
    )
    sums, columns = reference.sums_layout.size, len(reference.columns)
    together = np.array(numbers)
    return Profile(
        np.array([start for start, _ in rows], dtype=np.int64),
        counts,
        together[:, :sums],
        together[:, sums : sums + columns],
        together[:, sums + columns :],
    )
