"""What is judged in each window: its scores over time, and how its values lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.drift.accepted import AcceptedPeriod, epochs_of_windows
from wine_quality.drift.alerts import model_subject
from wine_quality.drift.joint import changed_pairs
from wine_quality.drift.page.charts import HEIGHT, Path, columns
from wine_quality.drift.page.distributions import (
    Axis,
    Distributions,
    Histogram,
    axis_of,
    distributions_of,
)
from wine_quality.drift.page.shown_windows import ShownWindows
from wine_quality.drift.page.words import COLUMN_EXPLAINED, EXPLAINED, VERDICTS, label_of
from wine_quality.drift.profiles import Profile
from wine_quality.drift.reference import (
    ALL,
    ERROR,
    JOINT,
    JOINT_DISTANCE,
    SEGMENTS,
    Reference,
)
from wine_quality.drift.vocabulary import ALARMS, count_of
from wine_quality.drift.watching import MODEL
from wine_quality.wines import TYPE

MOST_TIMES = 2.5
"""Scores beyond so many times their threshold are cut off."""
THRESHOLD_AT = HEIGHT * (1 - 1 / MOST_TIMES)
"""Where the threshold is in a chart of scores, from the top."""


class Panel(NamedTuple):
    """What is said of a subject in one window.

    Attributes:
        verdict: Its key; empty where there is none.
        times: Score by threshold, in words.
        reason: Why the verdict is what it is.
        notes: Further facts.
        histograms: How the values lie, in each of the subject's segments.
    """

    verdict: str
    times: str
    reason: str
    notes: str
    histograms: tuple[Histogram, ...]


@dataclass(frozen=True)
class Subject:
    """Something that is judged in each window.

    Attributes:
        key: What alerts call it.
        name: What people call it.
        explained: What its score and threshold mean.
        paths: Its scores over the windows by their thresholds, and the windows that alarm.
        summary: The same in words.
        axis: Below its histograms.
        segments: Of which there are histograms.
        panels: For each window on the page.
        references: The histograms of each reference, see `SubjectMaker.compared_with`.
    """

    key: str
    name: str
    explained: str
    paths: tuple[Path, ...]
    summary: str
    axis: Axis
    segments: tuple[str, ...]
    panels: tuple[Panel, ...]
    references: Mapping[str, tuple[Histogram, ...]]


@dataclass(frozen=True)
class _Counted:
    """A version's windows that are compared with one reference, as counts.

    `rows` says where the windows on the page stand in them.
    """

    profile: Profile
    by_segment: NDArray[np.int64]
    reference: Reference
    rows: Mapping[int, int]


class SubjectMaker:
    """Describes subjects; what they share is computed once."""

    def __init__(
        self,
        shown: ShownWindows,
        references: Mapping[str, Reference],
        accepted: Mapping[str, Sequence[AcceptedPeriod]],
    ) -> None:
        """Prepare the counts.

        Args:
            shown: The windows, with their counts.
            references: By model version, the one that it was registered with.
            accepted: By model version, the accepted periods that are references since then.
        """
        self._shown = shown
        self._counted: dict[str, _Counted] = {}
        compared_with = [window.version for window in shown.windows]
        for version, of_version in shown.counts.items():
            own = shown.of_version(version)
            for epoch in epochs_of_windows(references[version], accepted.get(version, ())):
                name = version if epoch.period is None else f"{version}, {epoch.period.span}"
                profile = of_version.between(epoch.since, epoch.until)
                row_of = {start: row for row, start in enumerate(profile.starts.tolist())}
                rows: dict[int, int] = {}
                for k in own:
                    start = int(shown.windows[k].start.timestamp())
                    if epoch.since <= start < epoch.until:
                        compared_with[k] = name
                        rows |= {k: row_of[start]} if start in row_of else {}
                if rows:
                    by_segment, _ = profile.dense(epoch.reference)
                    self._counted[name] = _Counted(profile, by_segment, epoch.reference, rows)
        self.compared_with = tuple(compared_with)
        """For each window the name of the reference that it is compared with."""

    def columns(self, verdicts: pd.DataFrame) -> tuple[Subject, ...]:
        """Describe the columns, how they go together, and copies.

        Args:
            verdicts: Rows of `verdicts.decide` of the windows on the page.
        """
        return tuple(
            self._subject(
                str(key),
                label_of(str(key)),
                EXPLAINED.get(str(key), COLUMN_EXPLAINED),
                JOINT_DISTANCE if key == JOINT else str(key),
                (ALL,) if key == TYPE else SEGMENTS,
                rows,
            )
            for key, rows in verdicts.groupby("column", sort=False)
        )

    def model(self, model_verdicts: pd.DataFrame) -> tuple[Subject, ...]:
        """Describe the model, for all wines and by type.

        Args:
            model_verdicts: Rows of `performance.judge_performance` of the windows on the page.
        """
        return tuple(
            self._subject(
                model_subject(str(segment)),
                f"{segment} wines",
                EXPLAINED[MODEL],
                ERROR,
                (str(segment),),
                rows,
            )
            for segment, rows in model_verdicts.groupby("segment", sort=False)
        )

    def _subject(
        self,
        key: str,
        name: str,
        explained: str,
        column: str,
        segments: tuple[str, ...],
        rows: pd.DataFrame,
    ) -> Subject:
        judged = self._shown.rows(rows)
        times = (judged["value"] / judged["threshold"]).to_numpy(float)
        verdicts = judged["verdict"].fillna("").tolist()
        axis, drawn_by_reference = self._histograms(column, segments)
        notes = self._notes(key, column, judged, drawn_by_reference)
        panels = tuple(
            Panel(
                verdict,
                "" if np.isnan(ratio) else f"{max(ratio, 0.0):.1f} × threshold",
                reason,
                notes[k],
                self._of_window(k, drawn_by_reference),
            )
            for k, (verdict, ratio, reason) in enumerate(
                zip(verdicts, times.tolist(), judged["reason"].fillna("").tolist(), strict=True)
            )
        )
        return Subject(
            key,
            name,
            explained,
            self._paths(times, verdicts),
            self._summary(name, verdicts),
            axis,
            segments if drawn_by_reference else (),
            panels,
            {version: drawn.reference for version, drawn in drawn_by_reference.items()},
        )

    def _histograms(
        self, column: str, segments: Sequence[str]
    ) -> tuple[Axis, Mapping[str, Distributions]]:
        """Draw a column by reference; nothing where it is not counted, or never has a value."""
        known = {
            version: counted
            for version, counted in self._counted.items()
            if column in counted.reference.cells
        }
        axis = axis_of(column, [counted.reference for counted in known.values()])
        if not axis.bars:
            return axis, {}
        return axis, {
            version: distributions_of(
                column, counted.profile, counted.by_segment, counted.reference, axis, segments
            )
            for version, counted in known.items()
        }

    def _of_window(
        self, k: int, drawn_by_reference: Mapping[str, Distributions]
    ) -> tuple[Histogram, ...]:
        name = self.compared_with[k]
        row = self._counted[name].rows.get(k) if name in drawn_by_reference else None
        return () if row is None else drawn_by_reference[name].by_window[row]

    def _notes(
        self,
        key: str,
        column: str,
        judged: pd.DataFrame,
        drawn_by_reference: Mapping[str, Distributions],
    ) -> list[str]:
        """What is known beside the verdict: faults, pairs, or where an error comes from."""
        notes = [""] * len(judged)
        if key == model_subject(ALL):
            parts = zip(judged["covariate"].tolist(), judged["concept"].tolist(), strict=True)
            return [_parts_in_words(covariate, concept) for covariate, concept in parts]
        if column == ERROR:
            return notes
        for name, counted in self._counted.items():
            for k, row in counted.rows.items():
                if key == JOINT:
                    notes[k] = _pairs_in_words(counted.profile.sums[row], counted.reference)
                elif name in drawn_by_reference:
                    notes[k] = drawn_by_reference[name].faults[row]
        return notes

    def _paths(self, times: NDArray[np.float64], verdicts: Sequence[str]) -> tuple[Path, ...]:
        places = self._shown.places.tolist()
        alarms = []
        for alarm in ALARMS:
            marked = {
                place for place, verdict in zip(places, verdicts, strict=True) if verdict == alarm
            }
            if marked:
                alarms.append(Path(f"alarm {alarm}", columns(sorted(marked))))
        heights = HEIGHT - HEIGHT * np.clip(times / MOST_TIMES, 0, 1)
        return (*alarms, *self._shown.lines("score", heights))

    def _summary(self, name: str, verdicts: Sequence[str]) -> str:
        alarms = sum(verdict in ALARMS for verdict in verdicts)
        newest = VERDICTS[verdicts[self._shown.newest]][2:]
        return (
            f"{name}: {newest} in the newest window that is over; alarms in {alarms} of "
            f"{count_of(len(verdicts), 'window')}"
        )


def _pairs_in_words(sums: NDArray[np.float64], reference: Reference) -> str:
    pairs = changed_pairs(sums, ALL, reference)
    if not pairs:
        return "no pair of measurements goes together otherwise than in the reference"
    return f"pairs that differ most from the reference: {pairs}"


def _parts_in_words(covariate: float, concept: float) -> str:
    if np.isnan(covariate) or np.isnan(concept):
        return ""
    return (
        f"of the change of the absolute error {covariate:+.3f} is explained by the wines that came "
        f"(covariate), {concept:+.3f} is not (concept)"
    )
