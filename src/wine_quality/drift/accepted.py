"""Accepted periods: logged traffic that a person has declared the new normal of a model version.

An accepted period's counts become the reference that the version's windows from its beginning on
are compared with, in the cells of the registered one, so that no row is counted again. Evidence
over time begins again where the period ends.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from wine_quality.drift.calibration import select
from wine_quality.drift.profiles import Profile, judged_counts
from wine_quality.drift.reference import (
    ABSOLUTE_ERROR,
    ALL,
    ERROR,
    SEGMENTS,
    Reference,
)
from wine_quality.drift.selection import find_selection
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import estimate_repetition, percent
from wine_quality.drift.vocabulary import count_of
from wine_quality.drift.window_names import span_in_words
from wine_quality.errors import WineQualityError
from wine_quality.wines import INPUTS, PREDICTION, TYPE

FEWEST_WINES = 1000
"""Independent wines that an accepted period has to be worth: compared with 500, twice as many
windows alarm as they should (`benchmarks/accepted_reference.py`)."""
FEWEST_LABELLED = 200
"""Labelled wines from which a period's errors become the reference of the model's."""
ERROR_COLUMNS = (ERROR, ABSOLUTE_ERROR)
COARSE_SHARE = 0.5
"""A bin that holds more of an accepted period's values hides changes within it."""
_BEFORE_ALL, _AFTER_ALL = -(1 << 62), 1 << 62


@dataclass(frozen=True)
class Withdrawal:
    """Who took an accepted period back, when and why."""

    person: str
    note: str
    at: datetime


@dataclass(frozen=True)
class AcceptedPeriod:
    """A period whose wines are a version's reference. Moments are UTC.

    Attributes:
        number: What people call it by.
        model_version: Whose traffic, see `sources`.
        start: Where it begins, a whole hour.
        end: Where it ends, without this moment itself.
        registered: Fingerprint of the reference that the version was registered with.
        reference: What its wines looked like.
        labelled: Labelled wines that the reference's errors come from; 0 where these are those of
            the reference before.
        person: Who accepted it.
        note: Why, in the person's words.
        accepted_at: When.
        withdrawn: What a person did to take it back; None while it is in force.
    """

    number: int
    model_version: str
    start: datetime
    end: datetime
    registered: str
    reference: Reference
    labelled: int
    person: str
    note: str
    accepted_at: datetime
    withdrawn: Withdrawal | None = None

    @property
    def span(self) -> str:
        """When it was."""
        return f"{span_in_words(self.start, self.end)} UTC"

    def describe(self) -> str:
        """Say in one line what is accepted, by whom and why."""
        errors = (
            f"errors of {count_of(self.labelled, 'labelled wine')}"
            if self.labelled
            else "errors as before (too few labels, or a selection)"
        )
        words = (
            f"version {self.model_version}, {self.span}: {count_of(self.reference.rows, 'wine')}, "
            f"{errors}; accepted by {self.person} on {self.accepted_at:%Y-%m-%d}"
        )
        words += f": {self.note}" if self.note else ""
        if self.withdrawn is not None:
            words += f"; withdrawn by {self.withdrawn.person} on {self.withdrawn.at:%Y-%m-%d}"
            words += f": {self.withdrawn.note}" if self.withdrawn.note else ""
        return words

    def to_dict(self) -> dict[str, Any]:
        """As JSON knows it; `from_dict` reads it back. One that is withdrawn is of no use there."""
        return {
            "number": self.number,
            "model_version": self.model_version,
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "registered": self.registered,
            "reference": self.reference.to_dict(),
            "labelled": self.labelled,
            "person": self.person,
            "note": self.note,
            "accepted_at": self.accepted_at.isoformat(),
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "AcceptedPeriod":
        """Read back what `to_dict` wrote."""
        moments = {
            name: datetime.fromisoformat(plain[name]) for name in ("start", "end", "accepted_at")
        }
        return cls(**{**plain, **moments, "reference": Reference.from_dict(plain["reference"])})


@dataclass(frozen=True)
class Epoch:
    """A stretch of a version's time that is compared with one reference.

    Attributes:
        since: Its first second since 1970.
        until: The first second after it.
        reference: What it is compared with.
        period: Where the reference comes from; None: it is the registered one.
        ended_by: The accepted period that ended it; None for the last.
    """

    since: int
    until: int
    reference: Reference
    period: AcceptedPeriod | None
    ended_by: AcceptedPeriod | None


def epochs_of_windows(registered: Reference, accepted: Sequence[AcceptedPeriod]) -> Iterator[Epoch]:
    """Divide a version's windows by what they are compared with: from each period's start on."""
    return _epochs(registered, accepted, [_second(period.start) for period in accepted])


def epochs_of_evidence(
    registered: Reference, accepted: Sequence[AcceptedPeriod]
) -> Iterator[Epoch]:
    """Divide the hours that evidence is gathered from: from each period's end on.

    The wines of a period are its reference: they are no evidence against it.
    """
    return _epochs(registered, accepted, [_second(period.end) for period in accepted])


def _epochs(
    registered: Reference, accepted: Sequence[AcceptedPeriod], bounds: Sequence[int]
) -> Iterator[Epoch]:
    references = (registered, *(period.reference for period in accepted))
    begins, ends = (_BEFORE_ALL, *bounds), (*bounds, _AFTER_ALL)
    for since, until, reference, period, ended_by in zip(
        begins, ends, references, (None, *accepted), (*accepted, None), strict=True
    ):
        yield Epoch(since, until, reference, period, ended_by)


def _second(moment: datetime) -> int:
    return int(moment.timestamp())


def in_force(periods: Sequence[AcceptedPeriod], version: str) -> tuple[AcceptedPeriod, ...]:
    """The periods of a version that nobody has withdrawn, the earliest first."""
    own = [p for p in periods if p.model_version == version and p.withdrawn is None]
    return tuple(sorted(own, key=lambda period: period.start))


def make_reference(
    hours: Profile, before: Reference, settings: DriftSettings
) -> tuple[Reference, int]:
    """Make a reference of the wines of some hours.

    Args:
        hours: Counts of the hours of a period, at least one wine.
        before: What the version's wines were compared with so far; says which cells there are, and
            has the errors that stay the model's reference where too few wines have labels, or
            these are a selection.
        settings: Has the rate at which labels are taken for a selection.

    Returns:
        The reference; and the labelled wines that its errors come from, 0 where they stay.

    Raises:
        WineQualityError: The wines are too few.
    """
    whole = hours.regroup(np.zeros(len(hours), np.int64))
    by_segment, buckets = (counts[0] for counts in whole.dense(before))
    wines = int(whole.wines[0])
    repetition = max(1.0, float(estimate_repetition(buckets[None], before).worth[0]))
    if wines / repetition < FEWEST_WINES:
        worth = f" worth {count_of(int(wines / repetition), 'different one')}"
        raise WineQualityError(
            f"The period has {count_of(wines, 'wine')}{worth if repetition > 1 else ''}, fewer "
            f"than the {FEWEST_WINES:,} that a reference needs: accept a longer one."
        )
    layout = before.sums_layout
    # what later editions sum up beyond these is no part of the registered reference
    sums = whole.sums[0][: len(before.sums)].copy()
    lows, highs = whole.lows[0].copy(), whole.highs[0].copy()
    labelled = int(judged_counts(by_segment[:, before.cells[ERROR]]).sum())
    selection = find_selection(whole, before, settings)
    if labelled < FEWEST_LABELLED or selection.is_selected[0, SEGMENTS.index(ALL)]:
        labelled = 0
        # two samples stand in one reference: the one whose wines tell less is assumed of both
        repetition = max(repetition, before.repetition)
        for part in (layout.errors, layout.by_leaf):
            sums[part] = before.sums[part]
        for name in ERROR_COLUMNS:
            place = before.columns.index(before.bins(name))
            by_segment[:, before.cells[name]] = before.by_segment[:, before.cells[name]]
            lows[place], highs[place] = before.lows[place], before.highs[place]
    plain_lows, plain_highs = (
        tuple(None if x is None or np.isnan(x) else float(x) for x in bound)
        for bound in (lows, highs)
    )
    made = replace(
        before,
        rows=wines,
        repetition=repetition,
        counts=tuple(map(tuple, by_segment.tolist())),
        sums=tuple(sums.tolist()),
        lows=plain_lows,
        highs=plain_highs,
    )
    return made, labelled


def coarse_columns(reference: Reference, registered: Reference) -> list[str]:
    """Say of which columns an accepted reference sees less, in words.

    Bins are the registered reference's quantiles: values that have moved far fall into few of them,
    within which further changes do not show.
    """
    found = []
    for name in (*INPUTS, PREDICTION):
        if name == TYPE:
            continue
        now, usual = (
            judged_counts(select(of.by_segment, ALL)[of.cells[name]])
            for of in (reference, registered)
        )
        if not now.sum() or not usual.sum():
            continue
        share, before = now.max() / now.sum(), usual.max() / usual.sum()
        if share > COARSE_SHARE and share > 2 * before:
            found.append(f"{name.replace('_', ' ')} ({percent(share)} of wines in one bin)")
    return found
