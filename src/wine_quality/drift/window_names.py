"""How windows are called: by their start, to the minute where that tells them apart."""

from datetime import datetime, timedelta

import pandas as pd

DAY, MINUTE, SECOND = "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"


def in_words(moment: datetime) -> str:
    """Write a moment, with its seconds only if it has any: a window is a whole number of them."""
    return f"{moment:{SECOND if moment.second else MINUTE}}"


def span_in_words(start: datetime, end: datetime) -> str:
    """Name a stretch of time shortly: a day by its date, hours of one day by their date and ends.

    Args:
        start: Where it begins.
        end: Where it ends, without this moment itself; midnight is the end of the day before.
    """
    last = end - timedelta(seconds=1)
    is_whole = all(f"{moment:%H%M%S}" == "000000" for moment in (start, end))
    if is_whole:
        days = f"{start:{DAY}}"
        return days if start.date() == last.date() else f"{days} to {last:{DAY}}"
    if start.date() != last.date():
        return f"{in_words(start)} to {in_words(end)}"
    until = "24:00" if end.date() != start.date() else in_words(end)[len("2026-01-01 ") :]
    return f"{in_words(start)} to {until}"


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
