"""Drift scenarios: wines, instruments and tasters that are no longer what they were.

A scenario starts at a moment and works in full at once or after a ramp: its weight rises from 0 to
1, and scales the effect, or the share of the wines that are affected. Scenarios are composed in the
order in which things happen: which wines come, how they taste, what the instruments say, what is
handed in as their label; among those of one stage, in the order in which they are declared.

What would leave the range of possible values stops at its end, as a real instrument does (the
service would refuse it otherwise). A measurement that is missing stays missing.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, model_validator

from wine_quality.drift.sources import SOURCE
from wine_quality.errors import WineQualityError
from wine_quality.parameters import Parameters
from wine_quality.serving.moments import utc_moment
from wine_quality.serving.schemas import Source
from wine_quality.traffic.planning import EVENT_TIME
from wine_quality.traffic.streams import Floats, Frames, RowDice
from wine_quality.wines import (
    INPUTS,
    MEASUREMENT_NAMES,
    MEASUREMENTS,
    QUALITY,
    QUALITY_BOUNDS,
    QUALITY_IS_WHOLE,
    TYPE,
    WineType,
)

Json = dict[str, Any]
_POSSIBLE = {m.name: m.possible for m in MEASUREMENTS}
_HOURS_A_YEAR = 24 * 366


def _is_measurement(column: str) -> str:
    if column not in MEASUREMENT_NAMES:
        raise ValueError(f"no measurement: choose {', '.join(MEASUREMENT_NAMES)}")
    return column


def _check_hours(moment: Any) -> Any:
    # pydantic would take a number that is no hour of the period for seconds since 1970
    if isinstance(moment, int | float) and not 0 <= moment <= _HOURS_A_YEAR:
        raise ValueError(f"{moment} hours are not from 0 to {_HOURS_A_YEAR}")
    return moment


Measured = Annotated[
    str, AfterValidator(_is_measurement), Field(description="The measurement that is concerned")
]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Moment = Annotated[float | AwareDatetime, BeforeValidator(_check_hours)]
"""Hours after the start of the simulated period, or a moment of event time."""


@dataclass(frozen=True)
class Pool:
    """Wines as they are without drift.

    Attributes:
        wines: Frame with the inputs and, where known, ``quality``.
    """

    wines: pd.DataFrame

    def deviation(self, column: str) -> float:
        """Sample standard deviation of a measurement, in its unit.

        Raises:
            WineQualityError: If fewer than two wines have the measurement.
        """
        return float(self._known(column).std())

    def mean(self, column: str) -> float:
        """Mean of a measurement, in its unit."""
        return float(self._known(column).mean())

    def redraw(self, frame: pd.DataFrame, picks: np.ndarray, where: np.ndarray) -> pd.DataFrame:
        """Put other wines in the place of some, at the same event times.

        Args:
            frame: n wines.
            picks: Positions of the pool's wines that would take their places, shape (n,).
            where: Which do, shape (n,).
        """
        others = self.wines.take(picks).set_axis(frame.index)
        columns = [name for name in (*INPUTS, QUALITY) if name in frame]
        return frame.assign(**{name: frame[name].mask(where, others[name]) for name in columns})

    def _known(self, column: str) -> pd.Series:
        values = self.wines[column].astype("float64")
        if values.count() < 2:
            raise WineQualityError(
                f"Drift in {column} needs at least two wines that have it: ask for more."
            )
        return values


class _Scenario(Parameters):
    """What all scenarios have in common."""

    stage: ClassVar[int] = 2
    """0: which wines come; 1: how they taste; 2: what the instruments say; 3: what is handed in."""
    expected: ClassVar[str] = "drift"
    """The verdict that the monitoring should come to while it works in full."""

    enabled: bool = Field(default=True, description="Whether it takes part")
    onset: Moment = Field(
        default=0.0,
        description="When it starts: hours after the start of the period, or a moment of event "
        "time with a timezone",
    )
    until: Moment | None = Field(
        default=None, description="When it is over, in the same form; never, if not given"
    )
    ramp_hours: float = Field(
        default=0.0,
        ge=0,
        le=_HOURS_A_YEAR,
        description="Hours from its start until it works in full; 0: at once",
    )

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        # of hours and a moment only the period says which comes first
        alike = isinstance(self.onset, datetime) == isinstance(self.until, datetime)
        if alike and self.until is not None:
            onset, _, until = self.span(datetime(1970, 1, 1, tzinfo=UTC))
            if until is not None and until < onset:
                raise ValueError(
                    f"until, {self.until}, lies before onset, {self.onset}: it would never start"
                )
        return self

    @property
    @abstractmethod
    def subject(self) -> str:
        """What the monitoring's verdict on it is about: a column, or `model`."""

    @abstractmethod
    def apply(self, frame: pd.DataFrame, weight: Floats, pool: Pool, dice: RowDice) -> pd.DataFrame:
        """Change wines.

        Args:
            frame: n wines.
            weight: How far the scenario works on each, from 0 to 1, shape (n,).
            pool: Undrifted wines.
            dice: Chance, for n rows.

        Returns:
            A new frame of the same shape.
        """

    def span(self, start: datetime) -> tuple[datetime, datetime, datetime | None]:
        """Place the scenario in event time.

        Args:
            start: Start of the simulated period.

        Returns:
            When it starts, when it works in full, and when it is over, if ever; in UTC.
        """
        onset = _moment(self.onset, start)
        full = onset + timedelta(hours=self.ramp_hours)
        return onset, full, None if self.until is None else _moment(self.until, start)

    def weigh(self, events: pd.Series, start: datetime) -> Floats:
        """Say how far the scenario works at some moments: from 0 to 1, shape (n,)."""
        onset, full, until = self.span(start)
        if full > onset:
            weight = ((events - onset) / (full - onset)).clip(0, 1)
        else:
            weight = (events >= onset).astype("float64")
        if until is not None:
            weight = weight.mask(events >= until, 0.0)
        return np.asarray(weight, dtype=np.float64)


class _Faulty(_Scenario):
    """A scenario in one measurement."""

    column: Measured

    @property
    def subject(self) -> str:
        """The measurement."""
        return self.column

    def apply(self, frame: pd.DataFrame, weight: Floats, pool: Pool, dice: RowDice) -> pd.DataFrame:
        """Change the measurement alone, within its possible values."""
        before = frame[self.column].astype("float64")
        after = self.measure(np.asarray(before, dtype=np.float64), weight, pool, dice)
        changed = before.where(weight == 0, pd.Series(after, index=frame.index))
        return frame.assign(**{self.column: changed.clip(*_POSSIBLE[self.column])})

    @abstractmethod
    def measure(self, values: Floats, weight: Floats, pool: Pool, dice: RowDice) -> Floats:
        """Say what is measured instead of n values."""


class Noise(_Faulty):
    """Every wine gets its own amount more, drawn between one unit and some standard deviations.

    The rule x + U(1, 3 s). Where 3 s is below 1 (chlorides, density) the interval is taken the
    other way round.
    """

    kind: Literal["noise"]
    standard_deviations: float = Field(default=3.0, gt=0, allow_inf_nan=False)

    def measure(self, values: Floats, weight: Floats, pool: Pool, dice: RowDice) -> Floats:
        """Add noise."""
        low, high = sorted((1.0, self.standard_deviations * pool.deviation(self.column)))
        return values + weight * (low + (high - low) * dice.throw("amount"))


class Shift(_Faulty):
    """Every wine gets the same amount more, or less."""

    kind: Literal["shift"]
    standard_deviations: Finite | None = Field(default=None, description="The amount; or …")
    amount: Finite | None = Field(default=None, description="… the amount in the column's unit")

    @model_validator(mode="after")
    def _has_one_size(self) -> Self:
        if (self.standard_deviations is None) == (self.amount is None):
            raise ValueError("a shift needs either standard_deviations or an amount")
        return self

    def measure(self, values: Floats, weight: Floats, pool: Pool, dice: RowDice) -> Floats:
        """Add the amount."""
        del dice
        if self.amount is not None:
            return values + weight * self.amount
        return values + weight * (self.standard_deviations or 0.0) * pool.deviation(self.column)


class UnitError(_Faulty):
    """Values are reported in another unit, by a growing share of the laboratories."""

    kind: Literal["unit_error"]
    factor: float = Field(
        gt=0, allow_inf_nan=False, description="What they are multiplied by; 1000: mg for g"
    )
    expected = "data_quality"

    def measure(self, values: Floats, weight: Floats, pool: Pool, dice: RowDice) -> Floats:
        """Multiply."""
        del pool
        return np.where(dice.throw("affected") < weight, values * self.factor, values)


class Stuck(_Faulty):
    """A growing share of the sensors repeats one value."""

    kind: Literal["stuck"]
    value: Finite | None = Field(
        default=None, description="The value, in the column's unit; that of some wine, if not given"
    )
    expected = "data_quality"

    def measure(self, values: Floats, weight: Floats, pool: Pool, dice: RowDice) -> Floats:
        """Repeat the value."""
        value = self.value
        if value is None:
            known = pool.wines[self.column].dropna().to_numpy(dtype="float64")
            if not known.size:
                raise WineQualityError(
                    f"No wine has {self.column}, so that it cannot be stuck: name the value."
                )
            # the first row's number, whichever rows these are: one value for all
            (share,) = RowDice(dice.seed, dice.purpose, 0, 1).throw("value")
            value = float(known[int(share * known.size)])
        stuck = (dice.throw("affected") < weight) & ~np.isnan(values)
        return np.where(stuck, value, values)


class Missing(_Faulty):
    """A share of the values is missing."""

    kind: Literal["missing"]
    share: Share
    expected = "data_quality"

    def measure(self, values: Floats, weight: Floats, pool: Pool, dice: RowDice) -> Floats:
        """Leave values out."""
        del pool
        return np.where(dice.throw("affected") < weight * self.share, np.nan, values)


class Outliers(_Faulty):
    """A share of the values is far off, on either side."""

    kind: Literal["outliers"]
    share: Share
    standard_deviations: float = Field(default=20.0, gt=0, allow_inf_nan=False)
    expected = "data_quality"

    def measure(self, values: Floats, weight: Floats, pool: Pool, dice: RowDice) -> Floats:
        """Throw values off."""
        size = self.standard_deviations * pool.deviation(self.column)
        off = np.where(dice.throw("side") < 0.5, -size, size)
        return np.where(dice.throw("affected") < weight * self.share, values + off, values)


class Mix(_Scenario):
    """Other shares of the types."""

    kind: Literal["mix"]
    shares: dict[WineType, Share] = Field(
        min_length=1, description="Share of each type in the end; a type that is not named: none"
    )
    stage = 0

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not math.isclose(sum(self.shares.values()), 1, abs_tol=1e-9):
            raise ValueError("the shares of a mix have to add up to 1")
        return self

    @property
    def subject(self) -> str:
        """The type."""
        return TYPE

    def apply(self, frame: pd.DataFrame, weight: Floats, pool: Pool, dice: RowDice) -> pd.DataFrame:
        """Put wines of the wanted mix in the place of those that are affected."""
        reach = np.cumsum([*self.shares.values()])[:-1]
        wanted = np.searchsorted(reach, dice.throw("type"), side="right")
        which = dice.throw("wine")
        picks = np.empty(len(frame), dtype=np.int64)
        for place, kind in enumerate(self.shares):
            chosen = wanted == place
            places = np.flatnonzero(pool.wines[TYPE] == kind)
            if chosen.any() and not places.size:
                raise WineQualityError(
                    f"The mix cannot change: there is no {kind} wine to draw from."
                )
            picks[chosen] = places[(which[chosen] * places.size).astype(np.int64)]
        return pool.redraw(frame, picks, dice.throw("affected") < weight)


class LabelShift(_Scenario):
    """More wines of high, or of low quality come; each quality tastes as before."""

    kind: Literal["label_shift"]
    odds: float = Field(
        ge=0.01,
        le=100,
        description="A wine better by a point comes this many times as often as before; below 1: "
        "more wines of low quality",
    )
    stage = 0

    @property
    def subject(self) -> str:
        """The prediction, which is to follow the quality."""
        return "prediction"

    def apply(self, frame: pd.DataFrame, weight: Floats, pool: Pool, dice: RowDice) -> pd.DataFrame:
        """Put wines of the wanted qualities in the place of those that are affected."""
        quality = _quality(pool.wines).to_numpy(dtype="float64")
        tilted = self.odds ** (quality - np.nanmean(quality))
        reach = np.nancumsum(tilted)
        picks = np.searchsorted(reach, dice.throw("wine") * reach[-1], side="right")
        return pool.redraw(frame, picks, dice.throw("affected") < weight)


class _Taste(_Scenario):
    """The same wines are judged otherwise."""

    stage = 1
    expected = "decayed"

    @property
    def subject(self) -> str:
        """The model, whose errors grow."""
        return "model"

    def apply(self, frame: pd.DataFrame, weight: Floats, pool: Pool, dice: RowDice) -> pd.DataFrame:
        """Change quality alone: by whole points, so that the mean change is the wanted one."""
        change = self.judge(frame, pool) * weight
        points = np.floor(change + dice.throw("rounding")) if QUALITY_IS_WHOLE else change
        quality = (_quality(frame) + points).clip(*QUALITY_BOUNDS)
        return frame.assign(**{QUALITY: quality.astype(frame[QUALITY].dtype)})

    @abstractmethod
    def judge(self, frame: pd.DataFrame, pool: Pool) -> Floats:
        """Say by how many points the judgement of n wines changes."""


class Concept(_Taste):
    """Concept drift: every wine is judged better, or worse."""

    kind: Literal["concept"]
    points: Finite = Field(description="Points of quality that a wine gets more")

    def judge(self, frame: pd.DataFrame, pool: Pool) -> Floats:
        """The same points for all."""
        del pool
        return np.full(len(frame), self.points)


class Staleness(_Taste):
    """The taste moves away from what the model has learnt, in the direction of a measurement."""

    kind: Literal["staleness"]
    column: Measured
    points: Finite = Field(
        description="Points more for a wine one standard deviation above the mean of the "
        "measurement, and as many less for one below"
    )
    ramp_hours: float = Field(
        default=72.0, ge=0, le=_HOURS_A_YEAR, description="Hours until the taste has moved"
    )

    def judge(self, frame: pd.DataFrame, pool: Pool) -> Floats:
        """Points by the measurement; none where it is missing."""
        values = frame[self.column].to_numpy(dtype="float64")
        distance = (values - pool.mean(self.column)) / (pool.deviation(self.column) or 1.0)
        return self.points * np.nan_to_num(distance)


class WrongLabels(_Scenario):
    """A share of the wines comes from one source, which hands in the labels of other wines."""

    kind: Literal["wrong_labels"]
    source: Source
    share: Share
    stage = 3
    expected = "decayed"

    @property
    def subject(self) -> str:
        """The model, whose errors seem to grow."""
        return "model"

    def apply(self, frame: pd.DataFrame, weight: Floats, pool: Pool, dice: RowDice) -> pd.DataFrame:
        """Change quality and source."""
        theirs = dice.throw("affected") < weight * self.share
        others = _quality(pool.wines).dropna().to_numpy()
        wrong = pd.Series(others[(dice.throw("label") * others.size).astype(np.int64)], frame.index)
        source = pd.Series(self.source, frame.index, dtype="str").where(theirs, frame.get(SOURCE))
        quality = _quality(frame).mask(theirs, wrong).astype(frame[QUALITY].dtype)
        return frame.assign(**{QUALITY: quality, SOURCE: source})


Scenario = Annotated[
    Noise
    | Shift
    | UnitError
    | Stuck
    | Missing
    | Outliers
    | Mix
    | LabelShift
    | Concept
    | Staleness
    | WrongLabels,
    Field(discriminator="kind"),
]


class DriftParameters(Parameters):
    """What drifts."""

    enabled: bool = Field(default=False, description="Whether anything drifts")
    scenarios: dict[str, Scenario] = Field(default={}, description="What drifts, by name")

    def active(self) -> dict[str, Scenario]:
        """List the scenarios that take part, in the order in which they are applied."""
        chosen = {name: one for name, one in self.scenarios.items() if one.enabled and self.enabled}
        return dict(sorted(chosen.items(), key=lambda item: item[1].stage))


def inject_drift(
    traffic: Frames,
    wines: pd.DataFrame,
    scenarios: Mapping[str, Scenario],
    *,
    start: datetime,
    seed: int,
) -> Iterator[pd.DataFrame]:
    """Let traffic drift.

    Args:
        traffic: Frames with the inputs, ``event_time`` and, where known, ``quality``, indexed from
            0 on through all of them.
        wines: Undrifted wines, for standard deviations and for other wines to draw.
        scenarios: What drifts, by name, in the order in which it is applied.
        start: Start of the simulated period.
        seed: Seed of whatever is left to chance; each scenario has its own by its name.

    Yields:
        New frames of the same shape.

    Raises:
        WineQualityError: If a scenario needs something that the wines do not have.
    """
    pool = Pool(wines)
    for frame in traffic:
        drifted = frame
        for name, scenario in scenarios.items():
            weight = scenario.weigh(frame[EVENT_TIME], start)
            if weight.any():
                dice = RowDice.of(frame, seed, f"scenario {name}")
                drifted = scenario.apply(drifted, weight, pool, dice)
        yield drifted


def describe_drift(scenarios: Mapping[str, Scenario], start: datetime, end: datetime) -> list[Json]:
    """Write down what is injected into a period, for verdicts to be scored against.

    Args:
        scenarios: What drifts, by name.
        start: Start of the period.
        end: End of the period.

    Returns:
        A row for each scenario that works within the period: `period_start`, `name`, `kind`,
        `subject` (a column, or `model`), `verdict` (the one to be expected), and the moments
        `onset`, `full` (from which it works in full) and `until`, none of them beyond the period.
    """
    rows = []
    for name, scenario in scenarios.items():
        onset, full, until = scenario.span(start)
        over = min(until or end, end)
        if onset < end and over > max(onset, start):
            rows.append(
                {
                    "period_start": start.isoformat(),
                    "name": name,
                    "kind": scenario.kind,
                    "subject": scenario.subject,
                    "verdict": scenario.expected,
                    "onset": max(onset, start).isoformat(),
                    "full": min(max(full, start), over).isoformat(),
                    "until": over.isoformat(),
                }
            )
    return rows


def _moment(moment: float | datetime, start: datetime) -> datetime:
    if isinstance(moment, datetime):
        return utc_moment(moment, "a scenario's moment")
    return utc_moment(start, "start") + timedelta(hours=moment)


def _quality(wines: pd.DataFrame) -> pd.Series:
    if QUALITY not in wines:
        raise WineQualityError(
            "The wines have no quality, so that judgements cannot drift: send wines with one."
        )
    return wines[QUALITY]
