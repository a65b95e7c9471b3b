"""Measure the promise over time: false alerts in quiet months, and how soon changes are found.

    WINE_QUALITY_DATA=FOLDER python benchmarks/promise.py [--quick] [--part quiet|changes|speed]
        [--seed N] [--references N] [--cache FOLDER]

FOLDER holds uci/winequality-red.csv and uci/winequality-white.csv; without it the UCI rows are left
out. Prints Markdown.

Each reference is drawn anew and watches the streams that monitoring has: measurements, prediction
and joint columns for all wines and by type, the type, the leaf of a small tree, faults by column,
signed and absolute errors of labelled wines. Synthetic traffic is drawn from a pool of 400,000
wines of the project's generator, UCI traffic with replacement from the wines outside of the
reference (equal wines on one side): a limited stock, whose own error adds to the reference's.

Intervals: means of counts and medians of delays by bootstrap over the references, shares by Wilson,
95 %. Seeds 0 to 999 were used while the constants of `drift/evidence.py` were chosen; the default
seed was not.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from wine_quality.drift.evidence import Change, Evidence, Stream, StreamKind, detect
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import (
    MEASUREMENT_NAMES,
    PREDICTION,
    QUALITY,
    TYPE,
    WINE_TYPES,
    wine_groups,
)

SEED = 20_260_701
POOL_ROWS, POOL_SEED = 400_000, 77
FIT_ROWS, FIT_SEED = 5_000, 78
BINS, LEAVES, JOINT = 20, 16, 4
HOURS = 720
QUIET_DAYS, CHANGED_DAYS, RATE = 7, 6, 2000 / 24
NO_CELL = 255
COLUMNS = list(MEASUREMENT_NAMES)
FAULTS = ("missing", "invalid", "too low", "too high")
WEIGHTS = {"all": 1.0, "segment": 0.5, "fault": 0.1}
Codes = dict[str, np.ndarray]
"""Cell of each wine, by stream; `NO_CELL` where it has none."""


class Model:
    """What training registers with a version: predictions, joint columns, and a tree of errors."""

    def __init__(self, wines: pd.DataFrame) -> None:
        self.middle = wines[COLUMNS].mean()
        self.by_type = {}
        for kind in WINE_TYPES:
            own = wines.loc[wines[TYPE] == kind, COLUMNS].fillna(self.middle)
            z = (own - own.mean()) / own.std()
            values, vectors = np.linalg.eigh(np.cov(z.to_numpy().T))
            self.by_type[kind] = own.mean(), own.std(), vectors / np.sqrt(values)
        self.regression = make_pipeline(StandardScaler(), PolynomialFeatures(2), Ridge(50.0))
        half = len(wines) // 2
        fitted, other = wines.iloc[:half], wines.iloc[half:]
        self.regression.fit(self.design(fitted), fitted[QUALITY])
        error = np.abs(self.predict(other) - other[QUALITY])
        self.tree = DecisionTreeRegressor(
            max_leaf_nodes=LEAVES, min_samples_leaf=len(other) // (4 * LEAVES), random_state=0
        ).fit(self.design(other), error)
        self.leaves = np.unique(self.tree.apply(self.design(other)))

    def design(self, wines: pd.DataFrame) -> np.ndarray:
        """What regression and tree are fitted on, shape (n, 12)."""
        measured = wines[COLUMNS].fillna(self.middle).to_numpy()
        return np.column_stack([measured, wines[TYPE] == "red"])

    def predict(self, wines: pd.DataFrame) -> np.ndarray:
        """Predicted quality, shape (n,)."""
        return self.regression.predict(self.design(wines))

    def leaf(self, wines: pd.DataFrame) -> np.ndarray:
        """Leaf of the tree, from 0 on, shape (n,)."""
        return np.searchsorted(self.leaves, self.tree.apply(self.design(wines)))

    def numbers(self, wines: pd.DataFrame) -> dict[str, np.ndarray]:
        """Everything that is binned, shape (n,) each."""
        columns = {name: wines[name].to_numpy() for name in COLUMNS}
        columns[PREDICTION] = self.predict(wines)
        joint = np.empty((len(wines), len(COLUMNS)))
        for kind, (middle, spread, vectors) in self.by_type.items():
            own = (wines[TYPE] == kind).to_numpy()
            filled = wines.loc[own, COLUMNS].fillna(middle)
            joint[own] = ((filled - middle) / spread).to_numpy() @ vectors
        columns |= {f"component {k + 1}": joint[:, k] for k in range(JOINT)}
        columns["distance"] = (joint**2).sum(axis=1)
        columns["error"] = columns[PREDICTION] - wines[QUALITY].to_numpy()
        columns["absolute error"] = np.abs(columns["error"])
        return columns


class Monitor:
    """The streams of one reference."""

    def __init__(self, model: Model, wines: pd.DataFrame) -> None:
        self.model = model
        sharing = wine_groups(wines).value_counts()
        repetition = float((sharing**2).sum() / sharing.sum())
        self.edges = {
            name: np.unique(np.nanquantile(x, np.arange(1, BINS) / BINS, method="inverted_cdf"))
            for name, x in model.numbers(wines).items()
        }
        self.streams = []
        for name, code in self.codes(wines).items():
            kind, cells, weight = self._kind(name)
            counts = np.bincount(code[code != NO_CELL], minlength=cells)
            self.streams.append(Stream(name, kind, tuple(counts.tolist()), repetition, weight))
        for fault in FAULTS[1:]:
            self.streams += [
                Stream(
                    f"{name}: {fault}", StreamKind.FAULT, (len(wines), 0), repetition,
                    WEIGHTS["fault"],
                )
                for name in COLUMNS
            ]  # fmt: skip

    def _kind(self, name: str) -> tuple[StreamKind, int, float]:
        column, _, rest = name.partition(": ")
        if rest in FAULTS:
            return StreamKind.FAULT, 2, WEIGHTS["fault"]
        if column in (TYPE, "leaf"):
            cells = 2 if column == TYPE else len(self.model.leaves)
            return StreamKind.NOMINAL, cells, WEIGHTS["all"]
        weight = WEIGHTS["segment" if rest else "all"]
        return StreamKind.ORDINAL, len(self.edges[column]) + 1, weight

    def codes(self, wines: pd.DataFrame) -> Codes:
        """Cells of wines in the streams in which they can differ."""
        codes: Codes = {}
        segments = {kind: (wines[TYPE] == kind).to_numpy() for kind in WINE_TYPES}
        for name, x in self.model.numbers(wines).items():
            code = np.searchsorted(self.edges[name], x).astype(np.uint8)
            code[np.isnan(x)] = NO_CELL
            codes[name] = code
            for kind, inside in segments.items():
                codes[f"{name}: {kind}"] = np.where(inside, code, np.uint8(NO_CELL))
        codes[TYPE] = segments["red"].astype(np.uint8)
        codes["leaf"] = self.model.leaf(wines).astype(np.uint8)
        for name in COLUMNS:
            codes[f"{name}: missing"] = wines[name].isna().to_numpy(np.uint8)
        return codes

    def count(
        self,
        codes: Codes,
        hours: int,
        rate: float,
        labels: float,
        rng: np.random.Generator,
        copies: int = 1,
    ) -> list[np.ndarray]:
        """Counts of wines drawn at random, shape (hours, cells) for each stream.

        Each wine comes `copies` times within its hour.
        """
        rows = len(codes[TYPE])
        drawn = {}
        for of_labels, mean in ((False, rate), (True, labels)):
            n = rng.poisson(mean / copies, hours)
            wines, hour = rng.integers(0, rows, n.sum()), np.repeat(np.arange(hours), n)
            drawn[of_labels] = np.repeat(wines, copies), np.repeat(hour, copies)
        counts = []
        for stream in self.streams:
            cells = len(stream.reference)
            place, hour = drawn["error" in stream.name]
            if stream.name in codes:
                code = codes[stream.name][place]
            else:
                code = np.zeros(len(place), np.uint8)
            inside = code != NO_CELL
            flat = np.bincount(hour[inside] * cells + code[inside], minlength=hours * cells)
            counts.append(flat.reshape(hours, cells))
        return counts


@dataclass(frozen=True)
class Source:
    """Where references and traffic come from."""

    name: str
    wines: pd.DataFrame
    fresh: bool

    @property
    def references(self) -> tuple[int, ...]:
        """Sizes of the references; of real wines half must be left for the traffic."""
        return (1300, 6500) if self.fresh else (1300, 3250)

    def split(self, rows: int, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
        """A reference of so many wines, and those that traffic is drawn from."""
        if self.fresh:
            seed = int(rng.integers(2**31))
            return draw_wines(rows, seed, duplicates=True, missing=True), self.wines
        group = wine_groups(self.wines).to_numpy()
        order = rng.permutation(group.max() + 1)[group]
        cut = np.sort(order)[rows - 1]
        return self.wines[order <= cut], self.wines[order > cut]


def generator_source(cache: Path | None) -> Source:
    path = cache / f"pool-{POOL_SEED}-{POOL_ROWS}.parquet" if cache else None
    if path and path.exists():
        wines = pd.read_parquet(path)
    else:
        wines = draw_wines(POOL_ROWS, POOL_SEED, missing=True)
        if path:
            wines.to_parquet(path)
    return Source("synthetic", wines, fresh=True)


def uci_source(folder: Path) -> Source:
    frames = [
        pd.read_csv(folder / f"winequality-{kind}.csv", sep=";").assign(**{TYPE: kind})
        for kind in WINE_TYPES
    ]
    wines = pd.concat(frames, ignore_index=True)
    return Source("UCI", wines.rename(columns=lambda name: name.replace(" ", "_")), fresh=False)


QUIET = ((10.0, 1, 1.0), (85.0, 1, 1.0), (1000.0, 1, 1.0), (85.0, 3, 1.0), (85.0, 3, 1 / 3))
"""Wines an hour, how often each comes, and what `effective` says of it."""


def measure_quiet(source: Source, model: Model, seed: int, references: int, months: int) -> None:
    print(f"\n## False alerts in 30 quiet days, promised at most 1\n\n{references} references, "
          f"{months} months from the first hour on with each; everything together.\n")  # fmt: skip
    header(["wines", "reference", "wines an hour", "mean", "worst tenth of references",
            "months with none", "resolved after (median h)"])  # fmt: skip
    for m in source.references:
        found = np.zeros((len(QUIET), references, months))
        lengths: list[list[int]] = [[] for _ in QUIET]
        for k in range(references):
            rng = np.random.default_rng([seed, m, k])
            monitor, codes = watch(source, model, m, rng)
            for i, (rate, copies, effective) in enumerate(QUIET):
                for month in range(months):
                    counts = monitor.count(codes, HOURS, rate, min(rate / 10, 20), rng, copies)
                    alerts = detect(
                        monitor.streams, counts, effective=np.full(HOURS, effective)
                    ).alerts
                    found[i, k, month] = len(alerts)
                    lengths[i] += [a.resolved - a.hour for a in alerts if a.resolved is not None]
        for (rate, copies, effective), table, ends in zip(QUIET, found, lengths, strict=True):
            by_reference = table.mean(axis=1)
            tenth = np.sort(by_reference)[-max(1, references // 10) :].mean()
            traffic = f"{rate:,.0f}"
            if copies > 1:
                traffic += f", each {copies} times, effective {effective:.2f}"
            line(source.name, f"{m:,}", traffic, mean_cell(by_reference), f"{tenth:.2f}",
                 share_cell(int((table == 0).sum()), table.size),
                 f"{np.median(ends):.0f}" if ends else "–")  # fmt: skip


def watch(source: Source, model: Model, m: int, rng: np.random.Generator) -> tuple[Monitor, Codes]:
    reference, traffic = source.split(m, rng)
    monitor = Monitor(model, reference)
    return monitor, monitor.codes(traffic)


class Scenario(NamedTuple):
    """A change: what it does to wines, and the streams that ought to be named."""

    name: str
    alter: Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]
    subject: str | None = None
    labels: float = 8.0
    quiet_days: int = QUIET_DAYS


def scenarios(wines: pd.DataFrame) -> Iterator[Scenario]:
    spread = wines[COLUMNS].std()
    for size in (0.1, 0.25, 0.5):
        for name in COLUMNS:
            yield Scenario(
                f"one column +{size} sd",
                lambda w, _, c=name, by=size * spread[name]: w.assign(**{c: w[c] + by}),
                name,
            )
    for name in COLUMNS:
        step = float(np.median(np.diff(np.unique(wines[name].dropna()))))
        yield Scenario(
            "one column +0.1 sd, rounded again",
            lambda w, r, c=name, by=0.1 * spread[name], step=step: w.assign(
                **{c: w[c] + step * np.floor(by / step + r.random(len(w)))}
            ),
            name,
        )
    for size, days in ((0.1, 0), (0.1, 1), (0.25, 0)):
        for name in COLUMNS[::2]:
            yield Scenario(
                f"one column +{size} sd, from day {days} on",
                lambda w, _, c=name, by=size * spread[name]: w.assign(**{c: w[c] + by}),
                name,
                quiet_days=days,
            )
    for name in COLUMNS:
        by = 0.5 * wines.loc[wines[TYPE] == "red", name].std()
        yield Scenario(
            "reds only +0.5 sd",
            lambda w, _, c=name, by=by: w.assign(**{c: w[c] + by * (w[TYPE] == "red")}),
            name,
        )
    for name in COLUMNS:
        yield Scenario(
            "spread × 1.3",
            lambda w, _, c=name: w.assign(**{c: w[c].mean() + 1.3 * (w[c] - w[c].mean())}),
            name,
        )
    for name in COLUMNS[::3]:
        yield Scenario("one column permuted", lambda w, r, c=name: permuted(w, c, r))
        yield Scenario(
            "missing +3 %",
            lambda w, r, c=name: w.assign(**{c: w[c].where(r.random(len(w)) >= 0.03)}),
            f"{name}: missing",
        )
    yield Scenario("reds 25 → 35 %", more_reds, TYPE)
    for labels in (100, 200, 500):
        for sign in (-1, 1):
            yield Scenario(
                f"bias ±0.25, {labels} labels a day",
                lambda w, _, s=sign: w.assign(**{QUALITY: w[QUALITY] + 0.25 * s}),
                "error",
                labels / 24,
            )
        yield Scenario(
            f"noise of 0.5 in quality, {labels} labels a day",
            lambda w, r: w.assign(**{QUALITY: w[QUALITY] + r.normal(0, 0.5, len(w))}),
            "absolute error",
            labels / 24,
        )


def permuted(wines: pd.DataFrame, column: str, rng: np.random.Generator) -> pd.DataFrame:
    """The column shuffled within each type: its own distribution stays."""
    shuffled = wines[column].to_numpy(copy=True)
    for kind in WINE_TYPES:
        own = np.flatnonzero(wines[TYPE] == kind)
        shuffled[own] = shuffled[rng.permutation(own)]
    return wines.assign(**{column: shuffled})


def more_reds(wines: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    red = (wines[TYPE] == "red").to_numpy()
    p = np.where(red, 0.35 / red.sum(), 0.65 / (~red).sum())
    return wines.iloc[rng.choice(len(wines), len(wines), p=p)]


class Found(NamedTuple):
    """What became of one change."""

    delay: float  # hours from the change to the alert, inf if there was none
    named: bool
    error: float  # hours by which the onset was missed
    covered: bool


def measure_changes(source: Source, model: Model, seed: int, references: int) -> None:
    print(f"\n## Time to alert, {RATE * 24:,.0f} wines a day\n")
    print(f"After {QUIET_DAYS} quiet days unless it says otherwise; {references} references.\n")
    header(["change", "wines", "reference", "median (h)", "9 of 10 within (h)", "found in "
            f"{CHANGED_DAYS} days", "subject named", "onset missed by (median h)",
            "interval covers it"])  # fmt: skip
    results: dict[tuple[str, int], list[list[Found]]] = {}
    for m in source.references:
        for k in range(references):
            rng = np.random.default_rng([seed, m, k])
            reference, traffic = source.split(m, rng)
            monitor = Monitor(model, reference)
            stock = traffic.iloc[rng.permutation(len(traffic))[:20_000]]
            codes = monitor.codes(traffic)
            by_labels: dict[float, list[np.ndarray]] = {}
            here: dict[str, list[Found]] = {}
            for scenario in scenarios(reference):
                if scenario.labels not in by_labels:
                    by_labels[scenario.labels] = monitor.count(
                        codes, QUIET_DAYS * 24, RATE, scenario.labels, rng
                    )
                altered = monitor.codes(scenario.alter(stock, rng))
                changed = monitor.count(altered, CHANGED_DAYS * 24, RATE, scenario.labels, rng)
                start = scenario.quiet_days * 24
                counts = [
                    np.concatenate([pair[0][:start], pair[1]])
                    for pair in zip(by_labels[scenario.labels], changed, strict=True)
                ]
                evidence = detect(monitor.streams, counts)
                here.setdefault(scenario.name, []).append(judge(evidence, start, scenario.subject))
            for name, found in here.items():
                results.setdefault((name, m), []).append(found)
    names = list(dict.fromkeys(name for name, _ in results))
    for (name, m), rows in sorted(results.items(), key=lambda kv: names.index(kv[0][0])):
        flat = [found for row in rows for found in row]
        delays = [[found.delay for found in row] for row in rows]
        caught = [found for found in flat if np.isfinite(found.delay)]
        onsets = [abs(found.error) for found in caught]
        line(name, source.name, f"{m:,}", median_cell(delays),
             quantile_cell(np.concatenate(delays), 0.9), share_cell(len(caught), len(flat)),
             share_cell(sum(f.named for f in caught), len(caught)),
             f"{np.median(onsets):.0f}" if onsets else "–",
             share_cell(sum(f.covered for f in caught), len(caught)))  # fmt: skip


def judge(evidence: Evidence, start: int, subject: str | None) -> Found:
    """The first alert from the change on; what joins it within a day counts as named."""
    changes = [c for alert in evidence.alerts for c in alert.changes if c.alerted >= start]
    if not changes:
        return Found(np.inf, False, np.nan, False)
    first = min(changes, key=lambda c: c.alerted)
    named = subject is None or any(
        about(c, subject) for c in changes if c.alerted <= first.alerted + 24
    )
    covered = first.earliest <= start <= first.latest
    return Found(first.alerted - start + 1, named, first.onset - start, covered)


def about(change: Change, subject: str) -> bool:
    return change.stream == subject or change.stream in {f"{subject}: {k}" for k in WINE_TYPES}


def measure_speed(model: Model, source: Source, seed: int) -> None:
    rng = np.random.default_rng([seed, 1])
    monitor, codes = watch(source, model, 6500, rng)
    counts = monitor.count(codes, 8760, 20.0, 5.0, rng)
    ordinal = [k for k, s in enumerate(monitor.streams) if s.kind is StreamKind.ORDINAL][:60]
    print("\n## A year of hours\n")
    header(["streams", "CPU seconds"])
    for chosen in (ordinal, list(range(len(counts)))):
        began = time.process_time()
        detect([monitor.streams[k] for k in chosen], [counts[k] for k in chosen])
        line(str(len(chosen)), f"{time.process_time() - began:.2f}")


def mean_cell(by_reference: np.ndarray) -> str:
    rng = np.random.default_rng(0)
    drawn = rng.choice(by_reference, (2000, len(by_reference))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{by_reference.mean():.2f} ({low:.2f} to {high:.2f})"


def median_cell(by_reference: Sequence[Sequence[float]]) -> str:
    rng = np.random.default_rng(0)
    rows = len(by_reference)
    table = np.array(by_reference)
    drawn = [np.median(table[rng.integers(0, rows, rows)]) for _ in range(500)]
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return f"{hours_cell(np.median(table))} ({hours_cell(low)} to {hours_cell(high)})"


def quantile_cell(delays: np.ndarray, level: float) -> str:
    return hours_cell(np.quantile(delays, level, method="higher"))


def hours_cell(hours: float) -> str:
    return f"{hours:.0f}" if np.isfinite(hours) else "never"


def share_cell(hits: int, n: int) -> str:
    if not n:
        return "–"
    z, share = 1.96, hits / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return f"{share:.0%} ({max(0, middle - half):.0%} to {min(1, middle + half):.0%})"


def header(cells: Sequence[str]) -> None:
    line(*cells)
    line(*("---" for _ in cells))


def line(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--part", choices=("quiet", "changes", "speed"), help="one table alone")
    parser.add_argument("--wines", choices=("synthetic", "UCI"), help="one source alone")
    parser.add_argument("--quick", action="store_true", help="few references")
    parser.add_argument("--references", type=int, help="references per row")
    parser.add_argument("--months", type=int, default=2, help="quiet months per reference")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--cache", type=Path, help="folder that keeps the pool of wines")
    options = parser.parse_args()
    began = time.perf_counter()
    sources = []
    if options.wines != "UCI":
        sources.append(generator_source(options.cache))
    folder = os.environ.get("WINE_QUALITY_DATA")
    if folder and options.wines != "synthetic":
        sources.append(uci_source(Path(folder) / "uci"))
    models: Mapping[str, Model] = {
        source.name: Model(
            draw_wines(FIT_ROWS, FIT_SEED, missing=True)
            if source.fresh
            else source.wines.sample(FIT_ROWS, random_state=FIT_SEED)
        )
        for source in sources
    }
    for part, few, many in (("quiet", 5, 40), ("changes", 2, 12), ("speed", 1, 1)):
        if options.part not in (None, part):
            continue
        references = options.references or (few if options.quick else many)
        if part == "speed":
            measure_speed(models[sources[0].name], sources[0], options.seed)
        for source in sources:
            if part == "quiet":
                measure_quiet(source, models[source.name], options.seed, references,
                              options.months)  # fmt: skip
            elif part == "changes":
                measure_changes(source, models[source.name], options.seed, references)
    print(f"\nSeed {options.seed}, {time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
