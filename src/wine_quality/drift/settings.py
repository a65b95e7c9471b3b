"""What a user may choose about the monitoring."""

from typing import Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd
from pydantic import Field, field_validator, model_validator

from wine_quality.drift.reference import JOINT
from wine_quality.drift.sources import Sources
from wine_quality.drift.window_calendar import WindowCalendar
from wine_quality.parameters import Parameters
from wine_quality.wines import INPUTS, PREDICTION

FEWEST_EXCEEDANCES = 5
"""Resamples that must lie beyond a threshold for its quantile to mean anything."""


class DriftSettings(Parameters):
    """The monitoring's settings; every figure is one a person may have reason to change."""

    window: str = Field(
        "1D",
        description="Length of a window of event time, as pandas writes it (1D, 6h, 15min); days "
        "begin at midnight, weeks (7D) on Mondays",
    )
    time_zone: str = Field(
        "UTC", description="Time zone in whose days and weeks windows begin, such as Europe/Lisbon"
    )
    window_offset: str = Field(
        "0h",
        description="How long after midnight windows begin, as pandas writes it: 6h for days that "
        "begin at six",
    )
    false_alarm_rate: float = Field(
        0.01,
        gt=0,
        le=0.2,
        description="Chance that a window without any change raises a drift alarm in whichever "
        "column; the same chance, again, for its data quality and for its model",
    )
    min_rows: int = Field(
        50, ge=10, description="Fewest wines (or labelled wines) that a judgement may rest on"
    )
    small_windows: Literal["insufficient_data", "merge"] = Field(
        "insufficient_data",
        description="What becomes of a window with fewer wines: it is not judged, or it is merged "
        "with the windows after it until they are enough",
    )
    newest_windows: int = Field(
        400,
        ge=1,
        description="Windows judged in each run; older ones are judged again when what is counted "
        "of them changes, for the history",
    )
    min_traffic_share: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Fewest wines of a window, as a share of the median of the windows before it, "
        "that count as ordinary traffic; 0 lets any number but none pass",
    )
    traffic_until: Literal["newest", "now"] = Field(
        "newest",
        description="Until when traffic is expected: windows without any are looked for up to the "
        "newest logged one, or up to this moment",
    )
    min_share_moved: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Smallest share of wines that must have moved, across some value or between "
        "types, before a change counts as drift however certain it is",
    )
    min_fault_rise: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="Smallest rise of the share of missing, invalid, implausible or unknown values "
        "over the reference's share that counts as a fault",
    )
    min_mae_rise: float = Field(
        0.05,
        ge=0,
        description="Smallest rise of the mean absolute error, in quality points, that is decay",
    )
    min_bias_change: float = Field(
        0.1,
        ge=0,
        description="Smallest change of the mean error, in quality points, that is decay",
    )
    reported_windows: int = Field(
        4,
        ge=0,
        description="Windows that get Evidently's reports: the newest, then the newest alarming",
    )
    reports_kept: int = Field(
        20,
        ge=1,
        description="Windows whose reports stay in Evidently's workspace: the newest, and alarming "
        "ones",
    )
    alarming_reports_days: int = Field(
        90,
        ge=0,
        description="Days before the newest window of which each alarming window's reports stay; "
        "of older ones those of one window a week",
    )
    columns_left_out: tuple[str, ...] = Field(
        (),
        description="Columns, or `joint`, that are counted, but raise no alarm and take no share "
        "of the rate",
    )
    sources_apart: tuple[str, ...] = Field(
        ("simulation",),
        description="Sources whose event times are not those of the others, such as simulations: "
        "each is judged apart, in a timeline of its own that does not end at the present",
    )
    sources_left_out: tuple[str, ...] = Field(
        (), description="Sources that are not counted at all, such as a load test"
    )
    resamples: int = Field(
        2000, ge=200, le=100_000, description="Resamples of the reference behind each threshold"
    )
    seed: int = Field(0, ge=0, description="Seed of the resampling")

    @property
    def calendar(self) -> WindowCalendar:
        """Where windows begin and end."""
        second = pd.Timedelta(seconds=1)
        return WindowCalendar(
            window_length(self.window) // second,
            self.time_zone,
            pd.Timedelta(self.window_offset) // second,
        )

    @property
    def sources(self) -> Sources:
        """The sources set apart and left out."""
        return Sources(self.sources_apart, self.sources_left_out)

    @field_validator("window")
    @classmethod
    def _is_a_length_of_time(cls, window: str) -> str:
        window_length(window)
        return window

    @field_validator("columns_left_out")
    @classmethod
    def _are_columns(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        known = (*INPUTS, PREDICTION, JOINT)
        unknown = [column for column in columns if column not in known]
        if unknown:
            raise ValueError(f"there is no column {unknown[0]!r}, choose {', '.join(known)}")
        return columns

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ValueError, OSError, ZoneInfoNotFoundError) as error:
            raise ValueError(
                f"there is no time zone {zone!r}: name one as in Europe/Lisbon, or UTC"
            ) from error
        return zone

    @model_validator(mode="after")
    def _has_whole_windows(self) -> Self:
        length = window_length(self.window)
        try:
            offset = pd.Timedelta(self.window_offset)
        except ValueError as error:
            raise ValueError(
                f"window_offset {self.window_offset!r} is no length of time such as 6h"
            ) from error
        day = pd.Timedelta("1D")
        if not pd.Timedelta(0) <= offset < day or offset % pd.Timedelta("1s"):
            raise ValueError(
                f"window_offset {self.window_offset!r} must be whole seconds, from 0h to below 24h"
            )
        if self.time_zone == "UTC":
            return self
        nothing = pd.Timedelta(0)
        if (length % day if length >= day else day % length) != nothing:
            raise ValueError(
                f"window {self.window!r} neither divides a day nor is made of days, which the "
                f"time zone {self.time_zone} asks for: choose one that does, or UTC"
            )
        return self

    @model_validator(mode="after")
    def _enough_resamples(self) -> Self:
        if self.resamples * self.false_alarm_rate < FEWEST_EXCEEDANCES:
            needed = round(FEWEST_EXCEEDANCES / self.false_alarm_rate)
            raise ValueError(
                f"{self.resamples} resamples are too few for a false-alarm rate of "
                f"{self.false_alarm_rate:g}: set resamples to {needed} or more"
            )
        return self


def window_length(window: str) -> pd.Timedelta:
    """Read a window's length.

    Args:
        window: A fixed length of time as pandas writes it, such as `1D` or `15min`.

    Returns:
        The length, a whole number of seconds.

    Raises:
        ValueError: If it is no fixed, positive, whole number of seconds (a month is not fixed).
    """
    try:
        length = pd.Timedelta(window)
    except ValueError as error:
        raise ValueError(
            f"window {window!r} is no fixed length of time such as 1D or 15min"
        ) from error
    if length <= pd.Timedelta(0) or length % pd.Timedelta(seconds=1) != pd.Timedelta(0):
        raise ValueError(f"window {window!r} must be a positive, whole number of seconds")
    return length
