"""What has changed over time in the traffic: a profile's hours as streams of evidence.

`evidence.detect` says when which stream changed; here the streams are made of a profile's counts,
and what they found is put into words. All model versions share one promise.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wine_quality.drift.accepted import (
    ERROR_COLUMNS,
    AcceptedPeriod,
    epochs_of_evidence,
)
from wine_quality.drift.calibration import reference_counts, select
from wine_quality.drift.evidence import Aspect, Change, Stream, StreamKind, detect
from wine_quality.drift.joint import describe_pairs
from wine_quality.drift.profiles import Profile, judged_counts
from wine_quality.drift.reference import (
    ABSOLUTE_ERROR,
    ALL,
    COUNTED_SEGMENTS,
    ERROR,
    FAULTS,
    JOINT_COLUMNS,
    LOWEST,
    SEGMENTS,
    Fault,
    Reference,
    parts_name,
    subject_of,
)
from wine_quality.drift.verdicts import estimate_repetition, median_of, percent
from wine_quality.drift.vocabulary import count_of
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, PARTS_OF_TOTALS, PREDICTION, TYPE

MODEL = "model"
"""What alerts about the model's errors are filed under."""
WHOLE_WEIGHT, SEGMENT_WEIGHT = 1.0, 0.5
"""Stakes of streams of all wines and of one type: a type's columns repeat much of what those of all
wines show."""
ORDINAL_COLUMNS: tuple[str, ...] = (
    *MEASUREMENT_NAMES,
    PREDICTION,
    *JOINT_COLUMNS,
    ERROR,
    ABSOLUTE_ERROR,
)
IMPOSSIBLE = "impossible"
_PARTS = tuple(parts_name(part, whole) for part, whole in PARTS_OF_TOTALS)
SETTLED_AFTER_S = 2 * 86_400
"""Event time without a change after which a subject that changes is a new finding."""

Kind = Literal["drift", "data_quality", "decayed"]


@dataclass(frozen=True)
class Finding:
    """A change of one subject that evidence over time has found.

    Moments are hours' starts, seconds since 1970 UTC.

    Attributes:
        verdict: What kind of change it is.
        model_version: Whose traffic.
        subject: The column, `joint` or `model`.
        segment: In which wines it shows most.
        found: Hour in which the evidence sufficed.
        since: Most likely hour in which it began.
        earliest: Lower end of that hour's 90 % interval.
        latest: Upper end.
        resolved: Hour in which evidence of its end sufficed; None while it goes on.
        n: Wines from its beginning until it was found.
        reason: In words.
    """

    verdict: Kind
    model_version: str
    subject: str
    segment: str
    found: int
    since: int
    earliest: int
    latest: int
    resolved: int | None
    n: int
    reason: str


@dataclass(frozen=True)
class _Watched:
    """Hours of a version that are compared with one reference.

    Attributes:
        version: Whose hours.
        profile: Their counts.
        reference: What they are compared with.
        left_out: Subjects, and columns, that are not watched here.
        selected: Hours in which the labels are a selection, see `selection`, shape (hours,
            segments): their errors are no evidence.
        ended_by: The accepted period with which this comparison ends.
    """

    version: str
    profile: Profile
    reference: Reference
    left_out: frozenset[str]
    selected: NDArray[np.bool_]
    ended_by: AcceptedPeriod | None = None

    def watches(self, column: str) -> bool:
        return not {column, subject_of(column)} & self.left_out


@dataclass(frozen=True)
class _Source:
    """Where a stream comes from: which of what is watched, and what of it."""

    place: int
    column: str
    segment: str
    is_fault: bool


def find_changes(
    profiles: Mapping[str, Profile],
    references: Mapping[str, Reference],
    false_alerts_per_month: float,
    left_out: Collection[str] = (),
    accepted: Mapping[str, Sequence[AcceptedPeriod]] = MappingProxyType({}),
    selected: Mapping[str, NDArray[np.bool_]] = MappingProxyType({}),
) -> list[Finding]:
    """Find what changed, over all versions, columns and segments together.

    Args:
        profiles: Counts by hour of each model version; hours without a wine may be left out, and
            count as time in which nothing can be found.
        references: The reference of each of them.
        false_alerts_per_month: How many false alerts to expect in 30 days, at most.
        left_out: Columns that are not watched.
        accepted: The accepted periods of versions that have any, the earliest first. What is open
            at the end of one is resolved; from there on its wines are the reference.
        selected: By version, hours in which labels are a selection, see `selection`, shape (hours,
            segments); their errors are no evidence.

    Returns:
        In the order in which they were found; of one subject's segments that changed together the
        one with most evidence.
    """
    watched = [
        one
        for version, profile in profiles.items()
        for one in _watched(
            version,
            profile,
            references[version],
            frozenset(left_out),
            accepted.get(version, ()),
            selected.get(version, np.zeros((len(profile), len(SEGMENTS)), dtype=bool)),
        )
        if len(one.profile)
    ]
    if not watched:
        return []
    hours = np.unique(np.concatenate([one.profile.starts for one in watched]))
    streams: list[Stream] = []
    counts: list[NDArray[np.float64]] = []
    sources: dict[str, _Source] = {}
    for place, one in enumerate(watched):
        rows = np.searchsorted(hours, one.profile.starts)
        worth, own = _streams(place, one)
        for stream, table, source in own:
            aligned = np.zeros((len(hours), table.shape[1]))
            # an hour's copies are worth as many different wines
            aligned[rows] = table * worth[:, None]
            streams.append(stream)
            counts.append(aligned)
            sources[stream.name] = source
    found = detect(streams, counts, false_alerts_per_month)
    # the leading change of an alert comes first: it names the subject's finding
    changes = [
        (change, sources[change.stream]) for alert in found.alerts for change in alert.changes
    ]
    findings: list[list[Finding]] = [[] for _ in watched]
    for change, source in sorted(changes, key=lambda pair: pair[0].alerted):
        if (kind := _kind(source, change)) is not None:
            described = _describe(change, source, kind, hours, watched[source.place])
            findings[source.place].append(described)
    # what is compared with another reference is another finding
    kept = [finding for own in findings for finding in _one_per_incident(own)]
    return sorted(kept, key=lambda finding: finding.found)


def _watched(
    version: str,
    profile: Profile,
    registered: Reference,
    left_out: frozenset[str],
    accepted: Sequence[AcceptedPeriod],
    selected: NDArray[np.bool_],
) -> list[_Watched]:
    """Divide a version's hours by what they are compared with.

    Where an accepted period has too few labels, the model's errors go on being compared with those
    before, and so does what is known of them.
    """
    with_errors = [period for period in accepted if period.labelled]
    others = frozenset((*ORDINAL_COLUMNS, *INPUTS, *_PARTS)) - {*ERROR_COLUMNS}
    groups = [(accepted, left_out)]
    if len(with_errors) < len(accepted):
        groups = [(accepted, left_out | {*ERROR_COLUMNS}), (with_errors, left_out | others)]
    return [
        _Watched(
            version,
            profile.between(epoch.since, epoch.until),
            epoch.reference,
            skipped,
            selected[(epoch.since <= profile.starts) & (profile.starts < epoch.until)],
            epoch.ended_by,
        )
        for periods, skipped in groups
        for epoch in epochs_of_evidence(registered, periods)
    ]


def _one_per_incident(findings: Sequence[Finding]) -> list[Finding]:
    """Put what is found of a subject while it has not settled together with what was found first.

    A subject shows in several segments and aspects, which are found and resolved at moments of
    their own.
    """
    last: dict[tuple[str, str, Kind], int] = {}
    kept: list[Finding] = []
    for finding in findings:
        key = (finding.model_version, finding.subject, finding.verdict)
        place = last.get(key)
        before = kept[place] if place is not None else None
        if before is None or (
            before.resolved is not None and finding.found > before.resolved + SETTLED_AFTER_S
        ):
            last[key] = len(kept)
            kept.append(finding)
            continue
        goes_on = before.resolved is None or finding.resolved is None
        ends = None if goes_on else max(before.resolved or 0, finding.resolved or 0)
        kept[last[key]] = replace(before, resolved=ends)
    return kept


def _streams(
    place: int, watched: _Watched
) -> tuple[NDArray[np.float64], list[tuple[Stream, NDArray[np.int64], _Source]]]:
    """The streams of what is watched, and by hour what a wine is worth."""
    profile, reference = watched.profile, watched.reference
    by_segment, buckets = profile.dense(reference)
    worth = 1 / estimate_repetition(buckets, reference).worth
    made = []

    def add(
        column: str,
        segment: str,
        kind: StreamKind,
        before: NDArray[np.int64],
        now: NDArray[np.int64],
        weight: float,
    ) -> None:
        is_fault = kind is StreamKind.FAULT
        name = f"{place}|{column}|{segment}|{kind}"
        stream = Stream(name, kind, tuple(before.tolist()), reference.repetition, weight)
        made.append((stream, now, _Source(place, column, segment, is_fault)))

    for s, segment in enumerate(SEGMENTS):
        counts = select(by_segment, segment)
        for column in ORDINAL_COLUMNS:
            if not watched.watches(column):
                continue
            now = judged_counts(counts[:, reference.cells[column]])
            if column in ERROR_COLUMNS:
                now = now * ~watched.selected[:, s, None]
            before = reference_counts(reference, segment, column)
            weight = WHOLE_WEIGHT if segment == ALL else SEGMENT_WEIGHT
            add(column, segment, StreamKind.ORDINAL, before, now, weight)
    counts = select(by_segment, ALL)
    usual = select(reference.by_segment, ALL)
    if watched.watches(TYPE):
        own = reference.cells[TYPE]
        add(TYPE, ALL, StreamKind.NOMINAL, usual[own][FAULTS:], counts[:, own][:, FAULTS:], 1.0)
    for column in (TYPE, *MEASUREMENT_NAMES, PREDICTION):
        if not watched.watches(column):
            continue
        own = reference.cells[column]
        before, now = _sound_and_faulty(usual[own]), _sound_and_faulty(counts[:, own])
        add(column, ALL, StreamKind.FAULT, before, now, SEGMENT_WEIGHT)
    for part, whole in PARTS_OF_TOTALS:
        name = parts_name(part, whole)
        if not watched.watches(name):
            continue
        own = reference.cells[name]
        before, now = usual[own][FAULTS:], counts[:, own][:, FAULTS:]
        add(f"{part}|{IMPOSSIBLE}", ALL, StreamKind.FAULT, before, now, SEGMENT_WEIGHT)
    return worth, made


def _sound_and_faulty(block: NDArray[np.int64]) -> NDArray[np.int64]:
    faulty = sum(block[..., fault - LOWEST] for fault in Fault)
    return np.stack([block[..., FAULTS:].sum(axis=-1), faulty], axis=-1)


def _kind(source: _Source, change: Change) -> Kind | None:
    """What a change is; None where it is no reason to alert anybody."""
    if source.is_fault:
        return "data_quality"
    if source.column == ABSOLUTE_ERROR:
        # a model that errs less has not decayed
        return "decayed" if change.aspect is Aspect.LEVEL and change.direction > 0 else None
    if source.column == ERROR:
        worse = change.aspect is Aspect.LEVEL or change.direction > 0
        return "decayed" if worse else None
    return "drift"


def _subject(source: _Source) -> str:
    if source.column in (ERROR, ABSOLUTE_ERROR):
        return MODEL
    return subject_of(source.column.partition("|")[0])


def _describe(
    change: Change,
    source: _Source,
    kind: Kind,
    hours: NDArray[np.int64],
    watched: _Watched,
) -> Finding:
    profile, reference, period = watched.profile, watched.reference, watched.ended_by
    moments = [
        int(hours[k]) for k in (change.alerted, change.onset, change.earliest, change.latest)
    ]
    found, since, earliest, latest = moments
    until = found + 1 if change.resolved is None else max(found, since) + 1
    part = profile.between(since, until)
    whole = part.regroup(np.zeros(len(part), np.int64))
    words, n = _words(change, source, whole, reference)
    resolved = None if change.resolved is None else int(hours[change.resolved])
    if resolved is None and period is not None:
        resolved = int(period.end.timestamp())
        words += f"; accepted as normal with {period.span} (accepted period {period.number})"
    return Finding(
        verdict=kind,
        model_version=watched.version,
        subject=_subject(source),
        segment=source.segment,
        found=found,
        since=since,
        earliest=earliest,
        latest=latest,
        resolved=resolved,
        n=n,
        reason=words,
    )


def _words(
    change: Change, source: _Source, whole: Profile, reference: Reference
) -> tuple[str, int]:
    """Say what changed, and among how many wines."""
    among = "" if source.segment == ALL else f"among {source.segment} wines, "
    column = source.column.partition("|")[0]
    n = int(whole.wines.sum())
    if change.aspect is Aspect.SHARE:
        before, after = percent(change.before), percent(change.after)
        if source.is_fault:
            what = (
                "impossible (a part exceeds its total)"
                if source.column.endswith(IMPOSSIBLE)
                else "missing, invalid, implausible or unknown"
            )
            return f"{after} of {count_of(n, 'value')} are {what}, against {before}", n
        cell = reference.bins(column).categories[change.cell or 0]
        return f"share of {cell} went from {before} to {after}", n
    counts = select(whole.by_segment(0, reference), source.segment)
    now = judged_counts(counts[reference.cells[column]])
    n = int(now.sum())
    if column in (ERROR, ABSOLUTE_ERROR):
        return among + _error_words(column, source.segment, whole, reference), n
    if column in JOINT_COLUMNS:
        pairs = describe_pairs(whole.sums[0], source.segment, reference)
        return among + (pairs or "measurements lie differently to each other"), n
    if change.aspect is Aspect.SPREAD:
        return f"{among}values {'vary more' if change.direction > 0 else 'vary less'}", n
    place = reference.columns.index(reference.bins(column))
    usual = reference_counts(reference, source.segment, column)
    old = median_of(reference, column, usual, reference.lows[place], reference.highs[place])
    new = median_of(reference, column, now, whole.lows[0, place], whole.highs[0, place])
    return f"{among}median went from {old:.4g} to {new:.4g} at {count_of(n, 'wine')}", n


def _error_words(column: str, segment: str, whole: Profile, reference: Reference) -> str:
    now, before = (
        _mean_errors(sums, segment, reference) for sums in (whole.sums[0], reference.sums)
    )
    if column == ERROR:
        return f"mean error went from {before[0]:+.3f} to {now[0]:+.3f} points of quality"
    return f"mean absolute error went from {before[1]:.3f} to {now[1]:.3f} points of quality"


def _mean_errors(
    sums: NDArray[np.float64] | Sequence[float], segment: str, reference: Reference
) -> tuple[float, float]:
    layout = reference.sums_layout
    table = np.array(sums)[layout.errors].reshape(len(COUNTED_SEGMENTS), len(layout.ERRORS))
    own = table.sum(axis=0) if segment == ALL else table[COUNTED_SEGMENTS.index(segment)]
    n = max(own[0], 1.0)
    return float(own[1] / n), float(own[2] / n)
