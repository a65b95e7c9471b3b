"""Whose traffic is judged together: a model version's, with sources set apart or left out.

Simulated wines have event times of their own. A version's simulated wines and its real ones are two
traffics: what is called a model version in monitoring's tables is the name of such a traffic, `3`
or `3 (simulation)`.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa

MODEL_VERSION = "model_version"
SOURCE = "source"


def name_traffic(version: str, source: str = "") -> str:
    """Name the traffic of a model version that comes from a source set apart, or the rest of it."""
    return f"{version} ({source})" if source else version


def version_of(traffic: str) -> str:
    """The model version in the name of a traffic, as the registry knows it."""
    return traffic.partition(" (")[0]


def timeline_of(traffic: str) -> str:
    """The source that is set apart, and so has a timeline of its own; empty for the real one."""
    return traffic.partition(" (")[2].removesuffix(")")


def timelines(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Divide a table with `model_version` into timelines, the real one first."""
    of_row = table[MODEL_VERSION].map(timeline_of)
    for name in sorted(of_row.unique()):
        yield name, table[of_row == name]


@dataclass(frozen=True)
class Sources:
    """Which sources of wines are judged apart from the others, and which are not judged.

    Attributes:
        apart: Sources whose wines live in a time of their own.
        left_out: Sources whose wines are not counted.
    """

    apart: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def mark(self, state: str) -> str:
        """Write into an hour's state how its log was divided: divided otherwise, it is another."""
        parts = (("apart", self.apart), ("without", self.left_out))
        return state + "".join(f" {word} {','.join(sorted(of))}" for word, of in parts if of)

    def have_marked(self, state: str) -> bool:
        """Tell whether an hour's state is of a log that was divided in this way."""
        return state == self.mark(state.partition(" ")[0])

    def traffic(self, log: sa.FromClause) -> sa.ColumnElement[str]:
        """The name of each row's traffic, as text whatever a log keeps the version as."""
        version: sa.ColumnElement[str] = sa.cast(log.c[MODEL_VERSION], sa.Text)
        apart = self._known(self.apart, log)
        if not apart:
            return version
        name = version + " (" + log.c[SOURCE] + ")"
        return sa.case((log.c[SOURCE].in_(apart), name), else_=version)

    def conditions(self, log: sa.FromClause) -> list[sa.ColumnElement[bool]]:
        """Conditions that leave out the rows that are not judged."""
        left_out = self._known(self.left_out, log)
        if not left_out:
            return []
        return [sa.func.coalesce(log.c[SOURCE], "").not_in(left_out)]

    @staticmethod
    def _known(names: Collection[str], log: sa.FromClause) -> list[Any]:
        """A log that keeps no source has nothing to set apart."""
        return sorted(names) if SOURCE in log.c else []
