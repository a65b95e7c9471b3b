"""Evidence of change that adds up over time, and alerts that keep a promise.

Everything that can alert is a stream: per hour, counts over the cells of a reference. Each stream
is reduced to one or more statistics, and each statistic bets, hour by hour, against "nothing has
changed". The capital of all bets together is a sum of Shiryaev-Roberts e-detectors (J. Shin,
A. Ramdas, A. Rinaldo, "E-detectors: a nonparametric framework for sequential change detection",
New England Journal of Statistics in Data Science 2(2), 2024; A. N. Shiryaev 1963, S. W. Roberts
1966; betting on means: I. Waudby-Smith, A. Ramdas, JRSS B 86(1), 2024), and an alert is opened when
it reaches the threshold.

**What is promised.** While nothing changes, the expected number of alerts in any stretch of time
is at most its length / threshold: `false_alerts_per_month` for 30 days. It holds over all streams
together, whatever their dependence on each other, and however often somebody looks. The argument:
the capital grows by at most 1 an hour in expectation (each bet is fair, and the stakes of an hour
add up to at most 1), it is never negative, and each alert takes at least the threshold out of it.

**What is assumed.**

1. Wines of different hours are independent, and `effective` says what an hour with copies is
   worth.
2. The traffic's long-run shares differ from the reference's only by the reference's own sampling
   error: each statistic's mean lies within `ALLOWANCE` standard errors of the reference. Within
   that range the normal state is learnt from the traffic itself; beyond, the bet is against the
   nearest end. Learning is exact to second order (the variance of the estimate is added to the
   hour's), not beyond.
3. A column's statistic keeps the distribution that it has in the reference around that mean, which
   the reference knows to about 1/√m.

A lasting change below half the smallest of `SHIFTS` (0.04 standard deviations) does not alert,
however much traffic there is: every bet on more loses.

`benchmarks/promise.py` measures what becomes of the promise where these hold only nearly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr

from wine_quality.errors import WineQualityError

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

HOURS_PER_MONTH = 720
"""A month of the promise: 30 days."""
ALLOWANCE = 4.0
"""Standard errors of the reference within which the normal state is learnt from the traffic."""
VARIANCE_ALLOWANCE = 1.5
"""Standard errors by which a score's variance may exceed the reference's."""
PRIOR_SPREAD = 1.5
"""The same range's standard deviation before any traffic, in standard errors of the reference.
Larger than 1, so that traffic from a limited stock of wines, whose own error adds to the
reference's, is learnt soon."""
FEWEST_WINES = 30
"""A reference worth fewer independent wines than this judges nothing."""
SHIFTS = (0.08, 0.16, 0.32, 0.64)
"""Changes betted on, upwards and downwards, in standard deviations of the statistic."""
SHIFT_STAKES = (0.3, 0.4, 0.2, 0.1)
EXTRA_SHARES = (0.003, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
"""Changes betted on for faults: the share of sound wines that become faulty."""
LEVEL_STAKE = 0.7
"""Part of an ordinal stream's stake that bets on its level; the rest bets on its spread."""
STARTS_PER_NAT = 4.0
"""A start of a change counts in full in hours whose wines tell 1/4 nat or more about it. Hours that
tell less count in proportion: waiting alone must not become evidence."""
COVERAGE = 0.9
"""Posterior probability of the interval of the onset."""
CHUNK_HOURS = 480
_LARGEST_STEP = 300.0
_ALTERNATIVES = 2 * len(SHIFTS)


class StreamKind(StrEnum):
    """How the cells of a stream are read."""

    ORDINAL = "ordinal"
    """Ascending bins of a number: level and spread are judged, both ways."""
    NOMINAL = "nominal"
    """Categories: the share of each is judged, both ways."""
    FAULT = "fault"
    """Two cells, sound and faulty: a higher share of the second is judged."""


class Aspect(StrEnum):
    """What of a stream has changed."""

    LEVEL = "level"
    SPREAD = "spread"
    SHARE = "share"


@dataclass(frozen=True)
class Stream:
    """One thing that can alert.

    Attributes:
        name: What the alert names; unique among the streams.
        kind: How its cells are read.
        reference: Wines of the reference in each cell.
        repetition: The reference's mean number of equal wines, 1 where all differ.
        weight: Its share of the stakes, relative to the other streams'.
    """

    name: str
    kind: StreamKind
    reference: tuple[int, ...]
    repetition: float = 1.0
    weight: float = 1.0

    @property
    def worth(self) -> float:
        """Independent wines that the reference is worth."""
        return sum(self.reference) / self.repetition


@dataclass(frozen=True)
class Change:
    """One aspect of one stream that an alert names. Hours are rows of the counts.

    Attributes:
        stream: Name of the stream.
        aspect: What of it has changed.
        cell: The category, or 1 for a fault; None for level and spread.
        direction: 1 for more, -1 for less.
        before: Normal state. Share of the cell; for level and spread the mean of the statistic, in
            its standard deviations under the reference, near 0.
        after: The same from the onset to the alert.
        alerted: Hour in which it was found.
        onset: Most likely hour in which it began.
        earliest: Lower end of the onset's interval, of probability `COVERAGE`.
        latest: Upper end, inclusive.
        resolved: Hour in which evidence of its end sufficed; None while it goes on.
    """

    stream: str
    aspect: Aspect
    cell: int | None
    direction: int
    before: float
    after: float
    alerted: int
    onset: int
    earliest: int
    latest: int
    resolved: int | None = None


@dataclass(frozen=True)
class Alert:
    """An alert and its life.

    Attributes:
        hour: Hour in which it was opened.
        changes: What carries it, those with most evidence first; then what joined it later: found
            while it was open, with an onset that may be the same.
    """

    hour: int
    changes: tuple[Change, ...]

    @property
    def onset(self) -> tuple[int, int, int]:
        """Earliest, most likely and latest hour in which the leading change began."""
        lead = self.changes[0]
        return lead.earliest, lead.onset, lead.latest

    @property
    def resolved(self) -> int | None:
        """Hour in which the last of its changes ended; None while one goes on."""
        ends = [change.resolved for change in self.changes]
        return None if None in ends else max(end for end in ends if end is not None)


@dataclass(frozen=True)
class Evidence:
    """What the counts say.

    Attributes:
        log_evidence: Natural logarithm of each stream's own evidence after each hour, shape
            (hours, streams), the mean of its aspects' by their stakes. An alert is carried by the
            aspects whose own evidence has reached `log_threshold`. An aspect that is open has
            none, so that a stream may be at -inf; NaN where the reference is too small.
        log_threshold: Natural logarithm of the threshold.
        alerts: In the order in which they were opened.
    """

    log_evidence: Floats
    log_threshold: float
    alerts: tuple[Alert, ...]


def detect(
    streams: Sequence[Stream],
    counts: Sequence[NDArray[Any]],
    false_alerts_per_month: float = 1.0,
    effective: NDArray[Any] | None = None,
) -> Evidence:
    """Find what has changed, hour by hour, from the first hour on.

    The result up to an hour depends on the counts up to that hour alone. When late wines change an
    hour, everything is computed again: a year of 60 streams takes about a second. What follows that
    hour may then change, past alerts included.

    A change that has alerted is open: it takes no part in the common evidence, so that others can
    still alert, and its normal state is the one before its onset. It is resolved by the same kind
    of evidence the other way round: against every change at least half as large as the one found,
    so that while such a change lasts, at most `false_alerts_per_month` resolutions are expected a
    month for each.

    Args:
        streams: What can alert, over everything that shares the promise.
        counts: For each stream its wines by hour and cell, shape (hours, cells). Hours without
            wines are rows of zeros.
        false_alerts_per_month: How many false alerts to expect in 30 days, at most.
        effective: Independent wines per wine, in (0, 1], by hour, shape (hours,); 1 if not given.
            For an hour of n wines in which the k-th distinct one comes c_k times, n / Σ c_k²
            (L. Kish, Survey Sampling, 1965).

    Raises:
        WineQualityError: Streams and counts don't fit together, or a number is out of range.
    """
    hours = _checked(streams, counts, false_alerts_per_month, effective)
    worth = np.ones(hours) if effective is None else np.asarray(effective, dtype=float)
    judged = [i for i, stream in enumerate(streams) if _is_judged(stream)]
    log_evidence = np.full((hours, len(streams)), np.nan)
    threshold = HOURS_PER_MONTH / false_alerts_per_month
    alerts: tuple[Alert, ...] = ()
    if judged:
        watch = _Watch([streams[i] for i in judged], [counts[i] for i in judged], worth, threshold)
        log_evidence[:, judged] = watch.run()
        alerts = tuple(watch.alerts)
    return Evidence(log_evidence, float(np.log(threshold)), alerts)


def _checked(
    streams: Sequence[Stream],
    counts: Sequence[NDArray[Any]],
    false_alerts_per_month: float,
    effective: NDArray[Any] | None,
) -> int:
    """Hours of the counts, which fit the streams."""
    if not false_alerts_per_month > 0:
        raise WineQualityError(
            f"false_alerts_per_month is {false_alerts_per_month}; give a number above 0"
        )
    if len(streams) != len(counts) or not streams:
        raise WineQualityError(
            f"there are {len(streams)} streams and counts of {len(counts)}; give one or more "
            "streams and the counts of each"
        )
    if len({stream.name for stream in streams}) < len(streams):
        raise WineQualityError("two streams have the same name; give each its own")
    hours = len(counts[0])
    for stream, table in zip(streams, counts, strict=True):
        if table.shape != (hours, len(stream.reference)):
            raise WineQualityError(
                f"the counts of {stream.name} have the shape {table.shape}; its reference and the "
                f"first stream ask for {(hours, len(stream.reference))}"
            )
        if stream.kind is StreamKind.FAULT and len(stream.reference) != 2:
            raise WineQualityError(
                f"{stream.name} has {len(stream.reference)} cells; a fault has 2, sound and faulty"
            )
        if not (stream.weight > 0 and stream.repetition >= 1):
            raise WineQualityError(
                f"{stream.name} has weight {stream.weight} and repetition {stream.repetition}; "
                "the weight must be above 0, the repetition 1 or more"
            )
    if effective is not None and (
        effective.shape != (hours,) or not ((effective > 0) & (effective <= 1)).all()
    ):
        raise WineQualityError(f"effective must hold {hours} numbers above 0 and up to 1")
    return hours


def _is_judged(stream: Stream) -> bool:
    return stream.worth >= FEWEST_WINES and len(stream.reference) > 1


class _Statistic(NamedTuple):
    """A number per cell, whose sum over an hour's wines is what is betted on."""

    stream: int
    aspect: Aspect
    cell: int | None
    stake: float
    values: Floats


def _statistics(streams: Sequence[Stream]) -> list[_Statistic]:
    """All statistics: first those of ordinal streams, then the shares."""
    scores, shares = [], []
    total = sum(stream.weight for stream in streams)
    for i, stream in enumerate(streams):
        stake = stream.weight / total
        if stream.kind is StreamKind.ORDINAL:
            level, spread = level_and_spread(stream.reference)
            if spread is None:
                scores.append(_Statistic(i, Aspect.LEVEL, None, stake, level))
            else:
                scores += [
                    _Statistic(i, Aspect.LEVEL, None, stake * LEVEL_STAKE, level),
                    _Statistic(i, Aspect.SPREAD, None, stake * (1 - LEVEL_STAKE), spread),
                ]
            continue
        cells = len(stream.reference)
        # of two shares one tells all
        wanted = [1] if cells == 2 else list(range(cells))
        shares += [
            _Statistic(i, Aspect.SHARE, cell, stake / len(wanted), np.eye(cells)[cell])
            for cell in wanted
        ]
    return scores + shares


def level_and_spread(counts: Sequence[int]) -> tuple[Floats, Floats | None]:
    """Scores of ordered cells, for their level and their spread, from a reference's counts.

    Each has mean 0 and variance 1 under the reference; the spread is None of two cells.
    """
    return _scores(_smoothed(counts))


def _smoothed(counts: Sequence[int]) -> Floats:
    raised = np.array(counts, dtype=float) + 0.5
    return np.asarray(raised / raised.sum())


def _scores(q: Floats) -> tuple[Floats, Floats | None]:
    """Level and spread of ordered cells, each with mean 0 and variance 1, uncorrelated.

    The level is the mid-rank, the spread its square freed of the level: the first two components
    of Neyman's smooth test (Skandinavisk Aktuarietidskrift 20, 1937) for ties. Two cells have no
    spread.
    """
    rank = np.cumsum(q) - q / 2
    level = rank - q @ rank
    level /= np.sqrt(q @ level**2)
    square = level**2 - 1
    spread = square - (q @ (square * level)) * level
    variance = float(q @ spread**2)
    return level, (spread / np.sqrt(variance) if variance > 1e-9 else None)


@dataclass(frozen=True)
class _Scores:
    """Bets on the mean of a score: the exponential tilts of the reference by ±`SHIFTS`.

    Attributes:
        error: Standard error of the score's mean in the reference, shape (units,).
        looseness: How much larger than in the reference the score's variance may be, relative to
            it, likewise.
        shifts: Shape (units, alternatives).
        cumulants: log E exp(shift · score) under the reference, likewise.
        information: Nats that a wine tells where the shift is the truth, likewise.
    """

    error: Floats
    looseness: Floats
    shifts: Floats
    cumulants: Floats
    information: Floats

    @classmethod
    def of(cls, statistics: Sequence[_Statistic], streams: Sequence[Stream]) -> "_Scores":
        shifts = np.tile(np.concatenate([-np.array(SHIFTS), SHIFTS]), (len(statistics), 1))
        cumulants, information = np.zeros_like(shifts), np.zeros_like(shifts)
        error = np.array([streams[s.stream].worth ** -0.5 for s in statistics])
        looseness = np.zeros_like(error)
        for k, statistic in enumerate(statistics):
            q = _smoothed(streams[statistic.stream].reference)
            tilted = q * np.exp(np.outer(shifts[k], statistic.values))
            cumulants[k] = np.log(tilted.sum(axis=1))
            means = tilted @ statistic.values / tilted.sum(axis=1)
            information[k] = shifts[k] * means - cumulants[k]
            looseness[k] = VARIANCE_ALLOWANCE * np.sqrt(q @ statistic.values**4 - 1) * error[k]
        return cls(error, looseness, shifts, cumulants, information)

    def take(self, units: Places) -> "_Scores":
        return _Scores(
            self.error[units],
            self.looseness[units],
            self.shifts[units],
            self.cumulants[units],
            self.information[units],
        )

    def normal(self, total: Floats, n: Floats) -> tuple[Floats, Floats]:
        """Mean of the score and its variance, learnt from n wines of that sum."""
        known = n + (PRIOR_SPREAD * self.error) ** -2
        limit = ALLOWANCE * self.error
        return np.clip(total / known, -limit, limit), 1 / known

    def steps(
        self, total: Floats, n: Floats, mean: Floats, variance: Floats
    ) -> tuple[Floats, Floats]:
        """Log-growth and stakes on starts, each shape (hours, units, alternatives)."""
        power = 1 / (1 + self.looseness + n * variance)
        excess, wines = (power * (total - n * mean))[..., None], (power * n)[..., None]
        return excess * self.shifts - wines * self.cumulants, _starts(wines * self.information)

    def estimate(self, mean: Floats, normal: Floats) -> Floats:
        """A change in the alternatives' coordinate."""
        return mean - normal


@dataclass(frozen=True)
class _Shares:
    """Bets on the share of a cell: on other odds (categories) or on additional cases (faults).

    Attributes:
        cases: Prior wines in the cell, shape (units,).
        others: Prior wines elsewhere, likewise.
        low: Lower end of what the share may be without a change, likewise.
        high: Upper end, likewise.
        tilts: Changes of the log-odds, or additional shares of the faults, shape (units,
            alternatives).
        is_fault: Which of the two, shape (units,).
    """

    cases: Floats
    others: Floats
    low: Floats
    high: Floats
    tilts: Floats
    is_fault: NDArray[np.bool_]

    @classmethod
    def of(cls, statistics: Sequence[_Statistic], streams: Sequence[Stream]) -> "_Shares":
        own = [streams[statistic.stream] for statistic in statistics]
        n = np.array([stream.worth for stream in own])
        cases = np.array(
            [s.reference[t.cell or 0] / s.repetition for s, t in zip(own, statistics, strict=True)]
        )
        tail = ndtr(-ALLOWANCE)
        low, high = (betaincinv(cases + 0.5, n - cases + 0.5, level) for level in (tail, 1 - tail))
        share = (cases + 0.5) / (n + 1)
        shifts = np.concatenate([-np.array(SHIFTS), SHIFTS])
        is_fault = np.array([stream.kind is StreamKind.FAULT for stream in own], dtype=bool)
        tilts = np.where(
            is_fault[:, None], EXTRA_SHARES, shifts / np.sqrt(share * (1 - share))[:, None]
        )
        weaker = PRIOR_SPREAD**-2
        return cls(cases * weaker + 0.5, (n - cases) * weaker + 0.5, low, high, tilts, is_fault)

    def take(self, units: Places) -> "_Shares":
        return _Shares(
            self.cases[units],
            self.others[units],
            self.low[units],
            self.high[units],
            self.tilts[units],
            self.is_fault[units],
        )

    def normal(self, total: Floats, n: Floats) -> tuple[Floats, Floats]:
        """Share of the cell and its variance relative to a wine's, learnt from n wines."""
        known = n + self.cases + self.others
        return np.clip((total + self.cases) / known, self.low, self.high), 1 / (known + 1)

    def steps(
        self, total: Floats, n: Floats, mean: Floats, variance: Floats
    ) -> tuple[Floats, Floats]:
        """As `_Scores.steps`."""
        power = 1 / (1 + n * variance)
        share = mean[..., None]
        added = share + self.tilts * (1 - share)
        odds = share / (1 - share)
        with np.errstate(divide="ignore", invalid="ignore"):
            fault_tilts = np.log(added / (1 - added) / odds)
        tilts = np.where(self.is_fault[:, None], fault_tilts, self.tilts)
        grown = np.exp(tilts)
        cumulants = np.log1p(share * (grown - 1))
        then = share * grown / (1 + share * (grown - 1))
        cases, wines = (power * total)[..., None], (power * n)[..., None]
        return cases * tilts - wines * cumulants, _starts(wines * (then * tilts - cumulants))

    def estimate(self, mean: Floats, normal: Floats) -> Floats:
        """A change in the alternatives' coordinate."""
        inside = np.clip(mean, 1e-6, 1 - 1e-6)
        tilt = np.log(inside / (1 - inside)) - np.log(normal / (1 - normal))
        return np.where(self.is_fault, (mean - normal) / (1 - normal), tilt)


def _starts(information: Floats) -> Floats:
    return np.minimum(1.0, STARTS_PER_NAT * information)


class _Onset(NamedTuple):
    hour: int
    earliest: int
    latest: int


@dataclass(frozen=True)
class _Steps:
    """What some hours do to the capital, each shape (hours, units, alternatives).

    Attributes:
        growth: Log-growth of the bets.
        starts: How much a start in that hour counts.
        share: Each bet's share of the stakes, shape (units, alternatives).
        factor: Growth of the bets.
        stakes: What is staked on a start in that hour; 0 for units that are open.
    """

    growth: Floats
    starts: Floats
    share: Floats
    factor: Floats = field(init=False)
    stakes: Floats = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", np.exp(self.growth))
        object.__setattr__(self, "stakes", self.starts * self.share)

    def change(self, row: int, units: Places, growth: Floats, starts: Floats) -> None:
        """Replace the units' steps from a row on."""
        self.growth[row:, units], self.starts[row:, units] = growth, starts
        self.factor[row:, units] = np.exp(growth)
        self.stakes[row:, units] = starts * self.share[units]

    def stop(self, row: int, units: Places) -> None:
        """Let the units' bets rest from a row on: their capital, 0, stays so."""
        self.stakes[row:, units] = 0


class _Watch:
    """The run through all hours.

    Units are (stream, statistic) pairs: the ordinal ones first, then the shares. `base_total` and
    `base_n` with the sums since then say what each unit's normal state is learnt from; a unit that
    is open learns nothing.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        counts: Sequence[NDArray[Any]],
        worth: Floats,
        threshold: float,
    ) -> None:
        self.streams = streams
        self.threshold = threshold
        self.statistics = _statistics(streams)
        self.units = len(self.statistics)
        self.scores_end = sum(s.aspect is not Aspect.SHARE for s in self.statistics)
        self.scores = _Scores.of(self.statistics[: self.scores_end], streams)
        self.shares = _Shares.of(self.statistics[self.scores_end :], streams)
        self.stakes = self._stakes()
        self.stake = self.stakes.sum(axis=1)

        self.hours = len(worth)
        self.total, self.n = self._sums(counts, worth)
        zero = np.zeros((1, self.units))
        self.past_total = np.concatenate([zero, np.cumsum(self.total, axis=0)])
        self.past_n = np.concatenate([zero, np.cumsum(self.n, axis=0)])

        self.base_total, self.base_n = np.zeros(self.units), np.zeros(self.units)
        self.is_open = np.zeros(self.units, dtype=bool)
        self.since = np.zeros(self.units, dtype=np.intp)
        self.capital = np.zeros((self.units, _ALTERNATIVES))
        self.return_capital = np.zeros((self.units, _ALTERNATIVES))
        self.lasting = np.zeros((self.units, _ALTERNATIVES), dtype=bool)
        self.alerts: list[Alert] = []
        self.change_of: dict[int, tuple[int, int]] = {}  # an open unit's alert, and place in it

    def _stakes(self) -> Floats:
        """Each bet's share of the stakes, shape (units, alternatives), sum 1."""
        both = np.tile(np.array(SHIFT_STAKES) / 2, 2)
        faults = np.full(len(EXTRA_SHARES), 1 / len(EXTRA_SHARES))
        return np.array(
            [
                s.stake * (faults if self.streams[s.stream].kind is StreamKind.FAULT else both)
                for s in self.statistics
            ]
        )

    def _sums(self, counts: Sequence[NDArray[Any]], worth: Floats) -> tuple[Floats, Floats]:
        total, n = np.zeros((2, self.hours, self.units))
        for k, statistic in enumerate(self.statistics):
            table = np.asarray(counts[statistic.stream], dtype=float)
            total[:, k] = table @ statistic.values * worth
            n[:, k] = table.sum(axis=1) * worth
        return total, n

    def _split(self, units: Places) -> tuple[Places, Places]:
        return units[units < self.scores_end], units[units >= self.scores_end] - self.scores_end

    def _normal(self, units: Places, first: int, last: int) -> tuple[Floats, Floats]:
        """Normal state of units at the beginning of each hour, each shape (hours, units)."""
        learns = ~self.is_open[units]
        total = self.base_total[units] + learns * self.past_total[first:last, units]
        n = self.base_n[units] + learns * self.past_n[first:last, units]
        scores, shares = self._split(units)
        cut = len(scores)
        a = self.scores.take(scores).normal(total[:, :cut], n[:, :cut])
        b = self.shares.take(shares).normal(total[:, cut:], n[:, cut:])
        return np.hstack([a[0], b[0]]), np.hstack([a[1], b[1]])

    def _steps(self, units: Places, first: int, last: int) -> tuple[Floats, Floats]:
        """Log-growth and stakes on starts, each shape (hours, units, alternatives)."""
        mean, variance = self._normal(units, first, last)
        total, n = self.total[first:last, units], self.n[first:last, units]
        scores, shares = self._split(units)
        cut = len(scores)
        a, b = (
            family.steps(total[:, part], n[:, part], mean[:, part], variance[:, part])
            for family, part in (
                (self.scores.take(scores), slice(None, cut)),
                (self.shares.take(shares), slice(cut, None)),
            )
        )
        growth = np.concatenate([a[0], b[0]], axis=1)
        return np.clip(growth, -_LARGEST_STEP, _LARGEST_STEP), np.concatenate([a[1], b[1]], axis=1)

    def run(self) -> Floats:
        """Go through all hours; returns the streams' log evidence, shape (hours, streams)."""
        owner = np.array([s.stream for s in self.statistics])
        own = np.zeros((self.units, len(self.streams)))
        own[np.arange(self.units), owner] = 1
        within = own / (own.T @ self.stake)
        log_evidence = np.empty((self.hours, len(self.streams)))
        for first in range(0, self.hours, CHUNK_HOURS):
            last = min(first + CHUNK_HOURS, self.hours)
            evidence = self._run_chunk(first, last)
            with np.errstate(divide="ignore"):
                log_evidence[first:last] = np.log(evidence @ within)
        return log_evidence

    def _run_chunk(self, first: int, last: int) -> Floats:
        """Go through some hours; returns the units' capital, shape (hours, units)."""
        steps = _Steps(*self._steps(np.arange(self.units), first, last), self.stakes)
        steps.stop(0, np.flatnonzero(self.is_open))
        history = np.empty_like(steps.growth)
        for hour in range(first, last):
            row = hour - first
            capital = history[row]
            np.add(self.capital, steps.stakes[row], out=capital)
            capital *= steps.factor[row]
            self.capital = capital
            was_open = self.is_open.copy()
            self._resolve(hour, steps.growth[row], steps.starts[row])
            if capital.sum() >= self.threshold:
                # the history keeps what the alert was opened with
                self.capital = capital.copy()
                self._open(hour)
            turned = np.flatnonzero(self.is_open != was_open)
            if turned.size and hour + 1 < last:
                growth, starts = self._steps(turned, hour + 1, last)
                steps.change(row + 1, turned, growth, starts)
                steps.stop(row + 1, turned[self.is_open[turned]])
        return np.asarray(history.sum(axis=2))

    def _open(self, hour: int) -> None:
        """Open what carries the alert, and take its price out of the capital."""
        evidence = self.capital.sum(axis=1)
        carries = evidence / self.stake >= self.threshold
        units = np.flatnonzero(carries)
        units = units[np.argsort(-evidence[units] / self.stake[units], kind="stable")]
        rest = evidence[~carries].sum()
        if rest > 0:
            self.capital *= min(1.0, max(0.0, (evidence.sum() - self.threshold) / rest))
        self.capital[units] = 0
        opened: list[tuple[int, Change]] = []
        for unit in units.tolist():
            change = self._describe(unit, hour)
            joined = self._may_join(change)
            if joined is None:
                opened.append((unit, change))
            else:
                alert = self.alerts[joined]
                self.change_of[unit] = joined, len(alert.changes)
                self.alerts[joined] = replace(alert, changes=(*alert.changes, change))
        if opened:
            self.change_of |= {u: (len(self.alerts), k) for k, (u, _) in enumerate(opened)}
            self.alerts.append(Alert(hour, tuple(change for _, change in opened)))

    def _may_join(self, change: Change) -> int | None:
        """The open alert whose onset may be the change's."""
        for place in sorted({alert for alert, _ in self.change_of.values()}):
            earliest, _, latest = self.alerts[place].onset
            if change.earliest <= latest and earliest <= change.latest:
                return place
        return None

    def _describe(self, unit: int, hour: int) -> Change:
        """Say what has changed, and make the state before it the unit's normal one."""
        units = np.array([unit])
        onset = self._find_onset(units, hour)
        self.base_total[unit] += self.past_total[onset.earliest, unit]
        self.base_n[unit] += self.past_n[onset.earliest, unit]
        self.is_open[unit] = True
        before = self._normal(units, hour, hour + 1)[0][0]
        total = self.past_total[hour + 1, units] - self.past_total[onset.hour, units]
        after = total / (self.past_n[hour + 1, units] - self.past_n[onset.hour, units])
        scores, shares = self._split(units)
        if scores.size:
            family: _Scores | _Shares = self.scores.take(scores)
            alternatives = self.scores.shifts[scores][0]
        else:
            family = self.shares.take(shares)
            alternatives = self.shares.tilts[shares][0]
        size = float(family.estimate(after, before)[0])
        direction = 1 if size >= 0 else -1
        along = alternatives * direction
        self.lasting[unit] = along >= min(abs(size) / 2, along.max())
        self.return_capital[unit] = 0
        statistic = self.statistics[unit]
        return Change(
            stream=self.streams[statistic.stream].name,
            aspect=statistic.aspect,
            cell=statistic.cell,
            direction=direction,
            before=float(before[0]),
            after=float(after[0]),
            alerted=hour,
            onset=onset.hour,
            earliest=onset.earliest,
            latest=onset.latest,
        )

    def _find_onset(self, units: Places, hour: int) -> _Onset:
        """Posterior of the hour in which a unit's change began, each start weighed by its stake."""
        first = int(self.since[units[0]])
        growth, starts = self._steps(units, first, hour + 1)
        since_start = np.cumsum(growth[::-1, 0], axis=0)[::-1]
        with np.errstate(divide="ignore"):
            weight = since_start + np.log(starts[:, 0] * self.stakes[units[0]])
        by_hour = np.exp(weight - weight.max()).sum(axis=1)
        below = np.cumsum(by_hour) / by_hour.sum()
        low, high = np.searchsorted(below, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
        return _Onset(first + int(by_hour.argmax()), first + int(low), first + int(high))

    def _resolve(self, hour: int, growth: Floats, starts: Floats) -> None:
        """Close the units whose change is over."""
        units = np.flatnonzero(self.is_open)
        if not units.size:
            return
        # far beyond any threshold, and times the largest step still a number
        capital = np.minimum(self.return_capital[units], 1e150) + starts[units]
        capital *= np.exp(-growth[units])
        self.return_capital[units] = capital
        least = np.where(self.lasting[units], capital, np.inf).min(axis=1)
        over: Places = units[least >= self.threshold]
        for unit in over.tolist():
            place, k = self.change_of.pop(unit)
            changes = list(self.alerts[place].changes)
            changes[k] = replace(changes[k], resolved=hour)
            self.alerts[place] = replace(self.alerts[place], changes=tuple(changes))
        # what lies between onset and end has taught nothing
        self.base_total[over] -= self.past_total[hour + 1, over]
        self.base_n[over] -= self.past_n[hour + 1, over]
        self.is_open[over] = False
        self.since[over] = hour + 1
