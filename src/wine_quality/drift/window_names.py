"""How windows are called: by their start, to the minute where that tells them apart."""

from datetime import datetime

import pandas as pd

DAY, MINUTE, SECOND = "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"


def in_words(moment: datetime) -> str:
    """Write a moment, with its seconds only if it has any: a window is a whole number of them."""
    return f"{moment:{SECOND if moment.second else MINUTE}}"


def shortest_form(starts: pd.DatetimeIndex) -> str:
    """Find how to write windows' starts so that no two of them look alike.

    Args:
        starts: Whole seconds.

    Returns:
        A format of `strftime`: days, or minutes, or seconds.
    """
    if (starts == starts.normalize()).all():
        return DAY
    return SECOND if starts.second.any() else MINUTE


def folder_name(start: datetime, version: str) -> str:
    """Call a window's folder; names sort by time, and `read_folder_name` reads them."""
    return f"{start:%Y-%m-%dT%H%M%S}_v{version}"


def read_folder_name(name: str) -> tuple[datetime, str]:
    """Read a window's start, without a time zone, and the model version in a folder's name."""
    start, _, version = name.partition("_v")
    return datetime.strptime(start, "%Y-%m-%dT%H%M%S"), version
