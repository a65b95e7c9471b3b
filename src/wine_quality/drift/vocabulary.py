"""Words and the form of tables that verdicts and alerts share."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd

Alarm = Literal["drift", "data_quality", "no_traffic", "decayed"]
ALARMS: tuple[Alarm, ...] = ("drift", "data_quality", "no_traffic", "decayed")
SELECTED_LABELS: Literal["selected_labels"] = "selected_labels"
"""Verdict on a model whose labelled wines are not like the others."""
UNFINISHED = "unfinished"
"""Verdict on a window that still goes on."""


def count_of(number: int, noun: str) -> str:
    """Write how many there are of something: `1 wine`, `2,000 wines`.

    Args:
        number: How many.
        noun: One of them, a word whose plural ends in s.
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def window_table(rows: Sequence[Any], dtypes: Mapping[str, str]) -> pd.DataFrame:
    """Make a table of verdicts.

    Args:
        rows: Tuples in the order of `dtypes`, or mappings; `window_start` and `window_end` are
            seconds since 1970.
        dtypes: Columns and types of the table.
    """
    table = pd.DataFrame(rows, columns=list(dtypes))
    moments = {
        name: pd.to_datetime(table[name].astype("int64"), unit="s", utc=True).dt.as_unit("us")
        for name in ("window_start", "window_end")
    }
    return table.assign(**moments).astype(dict(dtypes))
