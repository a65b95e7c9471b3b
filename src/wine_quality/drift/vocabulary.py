"""Words that verdicts and alerts share."""

from typing import Literal

Alarm = Literal["drift", "data_quality", "no_traffic", "decayed"]
ALARMS: tuple[Alarm, ...] = ("drift", "data_quality", "no_traffic", "decayed")
UNFINISHED = "unfinished"
"""Verdict on a window that still goes on."""
