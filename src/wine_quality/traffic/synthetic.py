"""Synthetic wines: as many as wanted, drawn from committed figures of the real ones.

A wine's type and band of quality (up to 5, 6, from 7) are drawn first. Each type and band has a
Gaussian copula over the eleven measurements and quality: twelve correlated standard normals, each
carried onto its column's quantiles (a measurement) or cut into classes (quality). One copula per
type would let every measurement speak about quality in one direction only, and a straight line
would predict it better than a forest. docs/benchmarks/sample.md says how near the synthetic wines
come to the real ones, docs/explanation/sample.md what they are not good for.

    python -m wine_quality.traffic.synthetic data/01_raw/sample    # writes the embedded sample
"""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wine_quality.errors import WineQualityError
from wine_quality.traffic.figures import (
    BandFigures,
    Figures,
    cholesky,
    packaged_figures,
)
from wine_quality.wines import (
    MEASUREMENT_NAMES,
    PARTS_OF_TOTALS,
    QUALITY,
    QUALITY_DTYPE,
    TYPE,
    WINE_TYPES,
    WineType,
)

Floats = NDArray[np.float64]

BLOCK_ROWS = 16_384
"""Rows that one random stream yields. Part of what is drawn: another value gives other wines."""
SAMPLE_SEED = 2009
_PARTS_OF_TOTALS = [
    (MEASUREMENT_NAMES.index(part), MEASUREMENT_NAMES.index(whole))
    for part, whole in PARTS_OF_TOTALS
]


def draw_wines(
    rows: int,
    seed: int,
    figures: Figures | None = None,
    types: Mapping[WineType, float] | None = None,
    *,
    duplicates: bool = False,
    missing: bool = False,
) -> pd.DataFrame:
    """Draw synthetic wines at once: the concatenation of `iter_wines` with the same arguments."""
    return next(
        iter_wines(rows, seed, rows, figures, types, duplicates=duplicates, missing=missing)
    )


def iter_wines(
    rows: int,
    seed: int,
    chunk_rows: int,
    figures: Figures | None = None,
    types: Mapping[WineType, float] | None = None,
    *,
    duplicates: bool = False,
    missing: bool = False,
) -> Iterator[pd.DataFrame]:
    """Draw synthetic wines in chunks, in memory bounded by the chunk.

    The concatenation of the chunks depends on everything but `chunk_rows`.

    Args:
        rows: How many wines, 1 or more.
        seed: Seed of the random streams, 0 or more.
        chunk_rows: Rows of every chunk but the last, 1 or more.
        figures: What the wines are drawn from; the packaged figures of the UCI wines by default.
        types: Relative shares of the types, met on average; as in the UCI files by default.
        duplicates: Make some rows exact copies of others of their type, in the figures' share.
        missing: Leave out values, in the figures' shares.

    Yields:
        Frames with the twelve inputs (type str, measurements float) and quality (int), indexed
        from 0 on through all chunks.

    Raises:
        WineQualityError: A number is out of range, or the shares of the types make no sense.
    """
    if rows < 1 or seed < 0 or chunk_rows < 1:
        raise WineQualityError(
            f"Cannot draw {rows} wines with seed {seed} in chunks of {chunk_rows}; rows and chunk "
            "must be 1 or more, the seed 0 or more"
        )
    known = figures or packaged_figures()
    cellar = _Cellar.of(known, types, duplicates=duplicates, missing=missing)
    return _chunks(cellar, rows, seed, chunk_rows)


def _chunks(cellar: "_Cellar", rows: int, seed: int, chunk_rows: int) -> Iterator[pd.DataFrame]:
    held, block = -1, pd.DataFrame()
    for start in range(0, rows, chunk_rows):
        stop = min(start + chunk_rows, rows)
        pieces = []
        for number in range(start // BLOCK_ROWS, (stop - 1) // BLOCK_ROWS + 1):
            first = number * BLOCK_ROWS
            if number != held:
                rng = np.random.default_rng([seed, number])
                held, block = number, cellar.block(min(BLOCK_ROWS, rows - first), rng)
            pieces.append(block.iloc[max(start - first, 0) : stop - first])
        yield pd.concat(pieces).set_axis(pd.RangeIndex(start, stop))


@dataclass(frozen=True)
class _Cellar:
    """Draws blocks of wines of all wanted types and bands."""

    copulas: list["_Copula"]
    kinds: NDArray[np.intp]  # each copula's type, as an index into WINE_TYPES
    shares: Floats  # cumulative shares of all copulas but the last
    duplicates: dict[int, float]  # share by type, empty where none are wanted
    missing: dict[int, float]  # share by column, empty where none are wanted

    @classmethod
    def of(
        cls,
        figures: Figures,
        types: Mapping[WineType, float] | None,
        *,
        duplicates: bool,
        missing: bool,
    ) -> Self:
        wanted = _type_shares(figures, types)
        parts = [
            (kind, wanted[name] * share, _Copula.of(figures.levels, band))
            for kind, name in enumerate(WINE_TYPES)
            if name in wanted
            for share, band in zip(
                figures.types[name].shares, figures.types[name].bands, strict=True
            )
        ]
        kinds, shares, copulas = zip(*parts, strict=True)
        return cls(
            copulas=list(copulas),
            kinds=np.array(kinds),
            shares=np.cumsum(shares)[:-1],
            duplicates={
                WINE_TYPES.index(name): figures.types[name].duplicates
                for name in wanted
                if duplicates
            },
            missing={
                MEASUREMENT_NAMES.index(name): share
                for name, share in figures.missing.items()
                if missing
            },
        )

    def block(self, rows: int, rng: np.random.Generator) -> pd.DataFrame:
        parts = np.searchsorted(self.shares, rng.random(rows))
        wines = np.empty((len(MEASUREMENT_NAMES) + 1, rows))
        for part, copula in enumerate(self.copulas):
            places = np.flatnonzero(parts == part)
            wines[:, places] = copula.draw(places.size, rng)
        for column, share in self.missing.items():
            wines[column, rng.random(rows) < share] = np.nan
        kinds = self.kinds[parts]
        for kind, share in self.duplicates.items():
            order = rng.permutation(np.flatnonzero(kinds == kind))
            copies = round(share * order.size)
            wines[:, order[:copies]] = wines[:, rng.choice(order[copies:], copies)]
        frame = pd.DataFrame(wines.T, columns=[*MEASUREMENT_NAMES, QUALITY])
        frame.insert(0, TYPE, pd.Series(WINE_TYPES, dtype="str").take(kinds).set_axis(frame.index))
        return frame.astype({QUALITY: QUALITY_DTYPE})


def _type_shares(figures: Figures, types: Mapping[WineType, float] | None) -> dict[WineType, float]:
    given = types or {name: figures.types[name].rows for name in WINE_TYPES}
    total = sum(given.values())
    if not given.keys() <= set(WINE_TYPES) or min(given.values()) < 0 or not 0 < total < math.inf:
        raise WineQualityError(
            f"Cannot draw types in the shares {dict(given)}; give {', '.join(WINE_TYPES)} shares "
            "of 0 or more, not all 0"
        )
    return {name: share / total for name, share in given.items() if share}


@dataclass(frozen=True)
class _Copula:
    """The figures of one type and band, made ready for drawing."""

    lower: list[list[float]]
    scores: Floats  # the levels' normal scores
    knots: list[Floats]
    steps: list[tuple[Floats, Floats]]  # every k, and cumulative shares of all but the last
    qualities: Floats
    cuts: Floats  # normal scores between the qualities

    @classmethod
    def of(cls, levels: tuple[float, ...], figures: BandFigures) -> Self:
        score = NormalDist().inv_cdf
        measurements = figures.measurements.values()
        qualities = sorted(figures.quality)
        shares = np.cumsum([figures.quality[q] for q in qualities])[:-1]
        return cls(
            lower=cholesky(figures.correlations),
            scores=np.array([score(level) for level in levels]),
            knots=[np.array(m.knots) for m in measurements],
            steps=[
                (np.array([*m.steps], dtype=float), np.cumsum([*m.steps.values()])[:-1])
                for m in measurements
            ],
            qualities=np.array(qualities, dtype=float),
            cuts=np.array([score(share) for share in shares]),
        )

    def draw(self, rows: int, rng: np.random.Generator) -> Floats:
        """Measurements and quality, shape (12, rows), none with more free than total SO2."""
        wines = self._draw_any(rows, rng)
        while (wrong := np.flatnonzero(_impossible(wines))).size:
            wines[:, wrong] = self._draw_any(wrong.size, rng)
        return wines

    def _draw_any(self, rows: int, rng: np.random.Generator) -> Floats:
        wines = self._correlated(rng.standard_normal((len(self.lower), rows)))
        for column, knots, (steps, shares) in zip(wines, self.knots, self.steps, strict=False):
            # beyond the outermost levels np.interp stays at the extremes
            values = np.interp(column, self.scores, knots)
            step = steps[np.searchsorted(shares, rng.random(rows))] if shares.size else steps
            column[:] = np.rint(values * step) / step
        wines[-1] = self.qualities[np.searchsorted(self.cuts, wines[-1])]
        return wines

    def _correlated(self, normals: Floats) -> Floats:
        """Term by term in a fixed order: BLAS may sum otherwise on another processor."""
        mixed = np.zeros_like(normals)
        for column, factors in zip(mixed, self.lower, strict=True):
            for factor, normal in zip(factors, normals, strict=False):
                np.add(column, factor * normal, out=column)
        return mixed


def _impossible(wines: Floats) -> NDArray[np.bool_]:
    """Mark the wines in which a part exceeds its whole, shape (n,)."""
    wrong = np.zeros(wines.shape[1], dtype=bool)
    for part, whole in _PARTS_OF_TOTALS:
        wrong |= wines[part] > wines[whole]
    return wrong


def write_sample(folder: Path) -> list[Path]:
    """Write the embedded sample: as many wines as UCI has, in the form of UCI's two files.

    The same bytes every time. As in the real files some rows repeat another one; missing values,
    which UCI's files do not have but copies of them do, are empty fields.

    Returns:
        The two files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for seed, kind in enumerate(WINE_TYPES, start=SAMPLE_SEED):
        rows = packaged_figures().types[kind].rows
        wines = draw_wines(rows, seed, types={kind: 1}, duplicates=True, missing=True)
        names = [*MEASUREMENT_NAMES, QUALITY]
        header = ";".join(f'"{name.replace("_", " ")}"' for name in names)
        lines = [";".join(map(_shortest, row)) for row in wines[names].to_numpy().tolist()]
        path = folder / f"winequality-{kind}.csv"
        path.write_bytes("\n".join([header, *lines, ""]).encode())
        written.append(path)
    return written


def _shortest(value: float) -> str:
    """A number as the UCI files write it: 7.4, 0, 11; nothing where it is missing."""
    return "" if math.isnan(value) else repr(value).removesuffix(".0")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m wine_quality.traffic.synthetic FOLDER")
    for written_file in write_sample(Path(sys.argv[1])):
        print(written_file)  # noqa: T201  what the command wrote
