"""Score the monitor itself on the real wines: false alarms, power, and both for other rules.

    WINE_QUALITY_DATA=FOLDER python benchmarks/drift_power.py [--quick | --splits N]

FOLDER holds uci/winequality-red.csv and uci/winequality-white.csv.

Each of many random splits divides the UCI wines, equal wines always on one side, into those a
model was made from (37 %, some 2,400 wines: 15 % fit it and come with out-of-fold predictions) and
traffic. Windows are drawn from the traffic without replacement, duplicates included, and judged by
`decide` and `judge_performance` at their default settings. Prints Markdown; intervals are Wilson's,
95 %. A split's windows share its reference, so that the intervals are somewhat too narrow; what the
worst references come to is shown beside them.
"""

import argparse
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from wine_quality.drift.performance import judge_performance
from wine_quality.drift.profiles import Profile, count
from wine_quality.drift.reference import JOINT, Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.verdicts import decide
from wine_quality.wines import MEASUREMENT_NAMES, PREDICTION, TYPE, WINE_TYPES, wine_groups

SEED = 20_260_101
FIT, HELD_OUT = 0.15, 0.37
SETTINGS = DriftSettings()
NUMBERS = (*MEASUREMENT_NAMES, PREDICTION)
SMALL_WINDOWS, LARGE_WINDOWS = {100: 10, 200: 10, 500: 8}, {1000: 2, 2000: 2}
"""Windows per split by size; none of a size share a wine."""
LARGE_SHARE = 4
"""Splits for the large windows to one for the small ones: their verdicts depend on the reference
they share, so that many references tell more than many windows."""
SIZES = (*SMALL_WINDOWS, *LARGE_WINDOWS)
DAY_S = 86_400
MANY_HELD_OUT, MANY_ROWS = 20_000, 200_000


@dataclass
class Tally:
    """Hits out of trials by key."""

    hits: Counter[tuple[object, ...]] = field(default_factory=Counter)
    trials: Counter[tuple[object, ...]] = field(default_factory=Counter)
    by_reference: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Rate of false alarms of each reference, by size of the windows."""

    def add(self, key: tuple[object, ...], hit: bool) -> None:
        """Count one trial."""
        self.hits[key] += bool(hit)
        self.trials[key] += 1

    def cell(self, *key: object) -> str:
        """`rate % (hits/trials; low to high)`, or a dash where nothing was tried."""
        n = self.trials[key]
        if not n:
            return "–"
        low, high = wilson(self.hits[key], n)
        rate = self.hits[key] / n
        return f"{rate:.1%} ({self.hits[key]}/{n}; {low:.1%} to {high:.1%})"


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (JASA 22(158), 1927)."""
    z, share = 1.96, hits / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Split:
    """One division of the wines, with the predictions of a ridge regression."""

    reference: Reference
    held_out: pd.DataFrame
    traffic: pd.DataFrame


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--splits", type=int, default=50, help="splits of the wines")
    parser.add_argument("--quick", action="store_const", const=5, dest="splits", help="five splits")
    splits = parser.parse_args().splits
    folder = os.environ.get("WINE_QUALITY_DATA")
    if not folder:
        print("set WINE_QUALITY_DATA to the folder that holds uci/", file=sys.stderr)
        return 1
    began = time.perf_counter()
    wines = read_wines(Path(folder) / "uci")
    ours, others = Tally(), Tally()
    for i in range(LARGE_SHARE * splits):
        rng = np.random.default_rng([SEED, i])
        split = divide(wines, rng)
        count_false_alarms(split, rng, ours, LARGE_WINDOWS)
        if i < splits:
            count_false_alarms(split, rng, ours, SMALL_WINDOWS)
            count_detections(split, rng, ours)
        if i % 4 == 0 and i < splits:
            compare_rules(split, rng, others)
    print_tables(ours, others)
    print_floor(wines)
    seconds = time.perf_counter() - began
    print(
        f"\n{splits} splits, {LARGE_SHARE * splits} for {min(LARGE_WINDOWS):,} wines and more, "
        f"seed {SEED}, {seconds:.0f} s"
    )
    return 0


def read_wines(folder: Path) -> pd.DataFrame:
    """Read the two UCI files, 6,497 wines."""
    frames = [
        pd.read_csv(folder / f"winequality-{kind}.csv", sep=";").assign(**{TYPE: kind})
        for kind in WINE_TYPES
    ]
    wines = pd.concat(frames, ignore_index=True)
    return wines.rename(columns=lambda name: name.replace(" ", "_"))


def divide(wines: pd.DataFrame, rng: np.random.Generator) -> Split:
    group = wine_groups(wines).to_numpy()
    place = rng.random(group.max() + 1)[group]
    fitting = wines[place < FIT]
    x = design(fitting)
    middle, spread = x.mean(axis=0), x.std(axis=0)
    z = (x - middle) / spread
    quality = fitting["quality"].to_numpy(float)
    weights = np.linalg.solve(z.T @ z + np.eye(z.shape[1]), z.T @ (quality - quality.mean()))

    def predict(frame: pd.DataFrame) -> np.ndarray:
        return (design(frame) - middle) / spread @ weights + quality.mean()

    held_out, traffic = wines[(place >= FIT) & (place < HELD_OUT)], wines[place >= HELD_OUT]
    held_out = held_out.assign(**{PREDICTION: predict(held_out)})
    traffic = traffic.assign(**{PREDICTION: predict(traffic)})
    # leave-one-out predictions of the wines that were fitted, in closed form
    leverage = np.einsum("ij,ij->i", z, np.linalg.solve(z.T @ z + np.eye(z.shape[1]), z.T).T)
    residual = (quality - predict(fitting)) / (1 - leverage - 1 / len(z))
    known = pd.concat([fitting.assign(**{PREDICTION: quality - residual}), held_out])
    return Split(Reference.from_wines(known), held_out, traffic)


def design(wines: pd.DataFrame) -> np.ndarray:
    red = (wines[TYPE] == "red").to_numpy(float)
    return np.column_stack([wines[list(MEASUREMENT_NAMES)].to_numpy(float), red])


def as_profile(windows: Iterable[pd.DataFrame], reference: Reference) -> Profile:
    """Count windows, the k-th one as the k-th day."""
    log = pd.concat(
        [w.assign(event_time=pd.Timestamp(DAY_S * k, unit="s", tz="UTC"))
         for k, w in enumerate(windows)],
        ignore_index=True,
    )  # fmt: skip
    return count(log, reference)


def judge(windows: list[tuple[str, pd.DataFrame]], reference: Reference) -> pd.DataFrame:
    """Judge named windows; the name stands in `window`."""
    return _named(windows, judge_columns([w for _, w in windows], reference))


def judge_columns(windows: list[pd.DataFrame], reference: Reference) -> pd.DataFrame:
    profile = as_profile(windows, reference)
    return decide(profile, profile.starts + DAY_S, reference, "1", SETTINGS)


def judge_model(windows: list[pd.DataFrame], reference: Reference) -> pd.DataFrame:
    profile = as_profile(windows, reference)
    return judge_performance(profile, profile.starts + DAY_S, reference, "1", SETTINGS)


def _named(windows: list[tuple[str, pd.DataFrame]], verdicts: pd.DataFrame) -> pd.DataFrame:
    day = (verdicts["window_start"] - pd.Timestamp(0, tz="UTC")).dt.days
    return verdicts.assign(window=[windows[k][0] for k in day])


def draw_windows(
    traffic: pd.DataFrame, n: int, most: int, rng: np.random.Generator
) -> list[pd.DataFrame]:
    order = rng.permutation(len(traffic))
    count = min(most, len(traffic) // n)
    return [traffic.iloc[order[k * n : (k + 1) * n]] for k in range(count)]


def count_false_alarms(
    split: Split, rng: np.random.Generator, tally: Tally, most_by_size: dict[int, int]
) -> None:
    for n, most in most_by_size.items():
        windows = draw_windows(split.traffic, n, most, rng)
        columns = judge_columns(windows, split.reference).groupby("window_start")["verdict"]
        model = judge_model(windows, split.reference).groupby("window_start")["verdict"]
        alarms = [(verdicts == "drift").any() for _, verdicts in columns]
        for alarm, (_, verdicts) in zip(alarms, columns, strict=True):
            tally.add(("drift", n), alarm)
            tally.add(("data_quality", n), (verdicts == "data_quality").any())
        tally.by_reference[n].append(float(np.mean(alarms)))
        for _, verdicts in model:
            tally.add(("decayed", n), (verdicts == "decayed").any())


def shift(window: pd.DataFrame, column: str, by: float | np.ndarray) -> pd.DataFrame:
    return window.assign(**{column: window[column] + by})


def tutorial_rule(window: pd.DataFrame, column: str, rng: np.random.Generator) -> pd.DataFrame:
    """The tutorial's drift: x += U(1, 3 std(x)) for each wine, also where 3 std(x) is below 1."""
    bound = 3 * window[column].std()
    return shift(window, column, 1 + (bound - 1) * rng.random(len(window)))


SCENARIOS: dict[tuple[str, int], float] = {
    ("shift of 0.5 sd", 100): 0.5,
    ("shift of 0.25 sd", 500): 0.25,
}
TUTORIAL = ("tutorial's rule", 100)


def altered_windows(
    split: Split, rng: np.random.Generator
) -> Iterable[tuple[tuple[str, int], list[tuple[str, pd.DataFrame]]]]:
    """One window per scenario and measurement, the altered column's name with it."""

    def draw(n: int) -> pd.DataFrame:
        return draw_windows(split.traffic, n, 1, rng)[0]

    for (name, n), by in SCENARIOS.items():
        spread = split.held_out[list(MEASUREMENT_NAMES)].std()
        yield (name, n), [(c, shift(draw(n), c, by * spread[c])) for c in MEASUREMENT_NAMES]
    yield TUTORIAL, [(c, tutorial_rule(draw(TUTORIAL[1]), c, rng)) for c in MEASUREMENT_NAMES]


def count_detections(split: Split, rng: np.random.Generator, tally: Tally) -> None:
    for scenario, windows in altered_windows(split, rng):
        verdicts = judge(windows, split.reference)
        # a measurement that moves alone no longer goes with the others, and `joint` says so
        verdicts = verdicts[verdicts["column"] != JOINT]
        altered = verdicts["column"] == verdicts["window"]
        for row in verdicts[altered].itertuples():
            beyond = row.value > row.threshold
            tally.add((*scenario, row.column), row.verdict == "drift")
            tally.add((*scenario, "all"), row.verdict == "drift")
            tally.add((*scenario, "no floor"), beyond)
            for floor in (0.02, 0.05, 0.1):
                tally.add((*scenario, floor), beyond and row.psi >= floor)
        for verdict in verdicts.loc[~altered, "verdict"]:
            tally.add((*scenario, "other columns"), verdict != "ok")
        for _, others in verdicts[~altered].groupby("window"):
            tally.add((*scenario, "windows with another"), (others["verdict"] != "ok").any())
    for (name, n), alter in STRUCTURAL.items():
        window = alter(draw_windows(split.traffic, n, 1, rng)[0], rng)
        tally.add((name, n), (judge_columns([window], split.reference)["verdict"] == "drift").any())
    for name, by in DECAYS.items():
        for n in LABELS:
            window = draw_windows(split.traffic, n, 1, rng)[0]
            for sign in (-1, 1):
                changed = shift(window, PREDICTION, sign * by)
                verdicts = judge_model([changed], split.reference)["verdict"]
                tally.add((name, n), (verdicts == "decayed").any())


def reds_shifted(window: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """One measurement of the red wines by half a standard deviation."""
    column = rng.choice(MEASUREMENT_NAMES)
    by = 0.5 * window[column].std() * (window[TYPE] == "red")
    return shift(window, column, by.to_numpy())


def permuted(window: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """One measurement dealt among the wines of each type: its distribution stays."""
    column = rng.choice(MEASUREMENT_NAMES)
    dealt = window.groupby(TYPE)[column].transform(lambda x: rng.permutation(x.to_numpy()))
    return window.assign(**{column: dealt})


def flipped(window: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Alcohol turned round within each type, rank by rank: its correlations change their sign."""
    turned = window.groupby(TYPE)["alcohol"].transform(
        lambda x: np.sort(x.to_numpy())[::-1][np.argsort(np.argsort(x.to_numpy()))]
    )
    return window.assign(alcohol=turned)


def clustered(window: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """A tenth of the wines near one point: the first wine, blurred by a fifth of an sd."""
    names = list(MEASUREMENT_NAMES)
    changed = window.reset_index(drop=True).astype(dict.fromkeys(names, float))
    rows = rng.choice(len(changed), len(changed) // 10, replace=False)
    blur = 0.2 * rng.normal(size=(len(rows), len(names))) * changed[names].std().to_numpy()
    changed.loc[rows, names] = changed.loc[0, names].to_numpy(float) + blur
    return changed


STRUCTURAL: dict[tuple[str, int], Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]] = {
    ("reds only, 0.5 sd", 500): reds_shifted,
    ("one column permuted", 500): permuted,
    ("correlations of alcohol flipped", 500): flipped,
    ("10 % in a new cluster", 500): clustered,
}
DECAYS = {"bias of a quarter point": 0.25, "bias of half a point": 0.5}
LABELS = (100, 200, 500)


def compare_rules(split: Split, rng: np.random.Generator, tally: Tally) -> None:
    """Judge the same kinds of windows, fewer of them, by other rules."""
    for n in SIZES:
        for window in draw_windows(split.traffic, n, 4, rng):
            for rule, flagged in other_rules(window, split.held_out).items():
                tally.add((rule, n), bool(flagged))
    for scenario, windows in altered_windows(split, rng):
        for column, window in windows:
            for rule, flagged in other_rules(window, split.held_out).items():
                tally.add((rule, *scenario), column in flagged)


def other_rules(window: pd.DataFrame, held_out: pd.DataFrame) -> dict[str, set[str]]:
    """Columns that the customary rules flag."""
    from scipy.stats import chi2_contingency, ks_2samp, wasserstein_distance

    table = pd.DataFrame(
        {"now": window[TYPE].value_counts(), "before": held_out[TYPE].value_counts()}
    ).fillna(0)
    p, evidently, psi = {}, {}, {}
    p[TYPE] = chi2_contingency(table.to_numpy()).pvalue
    evidently[TYPE] = jensen_shannon(*(table / table.sum()).to_numpy().T)
    psi[TYPE] = population_stability(*(table / table.sum()).to_numpy().T)
    for c in NUMBERS:
        now, before = window[c].to_numpy(), held_out[c].to_numpy()
        p[c] = ks_2samp(now, before, method="asymp").pvalue
        evidently[c] = wasserstein_distance(before, now) / max(before.std(), 0.001)
        bounds = np.unique(np.quantile(before, np.arange(1, 10) / 10))
        shares = [
            np.bincount(np.searchsorted(bounds, x), minlength=len(bounds) + 1) / len(x)
            for x in (now, before)
        ]
        psi[c] = population_stability(*shares)
    return {
        "Evidently's defaults (Wasserstein, Jensen-Shannon ≥ 0.1)": _at_least(evidently, 0.1),
        "K-S, p < 0.05": {c for c, x in p.items() if x < 0.05},
        "K-S with Holm, 1 %": holm(p, 0.01),
        "PSI ≥ 0.1, ten bins": _at_least(psi, 0.1),
    }


def _at_least(scores: dict[str, float], limit: float) -> set[str]:
    return {c for c, x in scores.items() if x >= limit}


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon distance, natural logarithm, as Evidently computes it."""
    from scipy.spatial.distance import jensenshannon

    return float(jensenshannon(p, q))


def population_stability(p: np.ndarray, q: np.ndarray) -> float:
    p, q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
    return float(np.sum((p - q) * np.log(p / q)))


def holm(p: dict[str, float], level: float) -> set[str]:
    """Columns rejected by Holm's step-down procedure (Scandinavian J. of Statistics 6(2), 1979)."""
    rejected: set[str] = set()
    for k, c in enumerate(sorted(p, key=p.__getitem__)):
        if p[c] > level / (len(p) - k):
            break
        rejected.add(c)
    return rejected


def print_tables(ours: Tally, others: Tally) -> None:
    rules = list(dict.fromkeys(str(key[0]) for key in others.trials))
    print("## False alarms: windows of unchanged wines in which any column is flagged\n")
    header(["rule", *(f"{n:,} wines" for n in SIZES)])
    line("**drift** (goal ≤ 2 %)", *(ours.cell("drift", n) for n in SIZES))
    line("**data_quality**", *(ours.cell("data_quality", n) for n in SIZES))
    line("**decayed**, all labelled", *(ours.cell("decayed", n) for n in SIZES))
    for rule in rules:
        line(rule, *(others.cell(rule, n) for n in SIZES))
    for words, level in (("worst tenth of references", 0.9), ("worst hundredth", 0.99)):
        line(
            f"drift, {words} (goals ≤ 2 %, 5 %)",
            *(f"{np.quantile(ours.by_reference[n], level):.1%}" for n in SIZES),
        )
    print("\n## Detection: the altered column is flagged\n")
    scenarios = [*SCENARIOS, TUTORIAL]
    header(["rule", *(f"{name}, {n} wines" for name, n in scenarios)])
    line("**drift** (goals ≥ 90 %, 95 %, 98 %)", *(ours.cell(*s, "all") for s in scenarios))
    for rule in rules:
        line(rule, *(others.cell(rule, *s) for s in scenarios))
    print("\nBy column, and what else was flagged:\n")
    header(["", *(f"{name}, {n} wines" for name, n in scenarios)])
    for c in MEASUREMENT_NAMES:
        line(c, *(ours.cell(*s, c) for s in scenarios))
    line(
        "verdicts on other columns not ok (goal ≤ 1 %)",
        *(ours.cell(*s, "other columns") for s in scenarios),
    )
    line("windows with any of these", *(ours.cell(*s, "windows with another") for s in scenarios))
    print("\n## Relations and segments: any drift in the window\n")
    header([f"{name}, {n} wines" for name, n in STRUCTURAL])
    line(*(ours.cell(*scenario) for scenario in STRUCTURAL))
    print("\n## Decay, both directions\n")
    header(["", *(f"{n} labelled wines" for n in LABELS)])
    for name in DECAYS:
        line(name, *(ours.cell(name, n) for n in LABELS))
    print(
        "\n## The effect floor\n\nDetection with the same score and threshold under other floors:\n"
    )
    header(["floor", *(f"{name}, {n} wines" for name, n in scenarios)])
    line(
        f"**share moved ≥ {SETTINGS.min_share_moved}**", *(ours.cell(*s, "all") for s in scenarios)
    )
    line("none", *(ours.cell(*s, "no floor") for s in scenarios))
    for floor in (0.02, 0.05, 0.1):
        line(f"bias-corrected PSI ≥ {floor}", *(ours.cell(*s, floor) for s in scenarios))


def print_floor(wines: pd.DataFrame) -> None:
    """Shifts too small to matter, at sizes that make them certain."""
    rng = np.random.default_rng(SEED)
    spread = wines[list(MEASUREMENT_NAMES)].std()

    def smooth_draw(n: int) -> pd.DataFrame:
        """Wines drawn with replacement, each measurement blurred by a tenth of its sd."""
        drawn = wines.iloc[rng.integers(0, len(wines), n)].reset_index(drop=True)
        blur = rng.normal(0, 0.1, (n, len(spread))) * spread.to_numpy()
        drawn[list(MEASUREMENT_NAMES)] += blur
        return drawn.assign(**{PREDICTION: drawn["quality"] + rng.normal(0, 0.5, n)})

    reference = Reference.from_wines(smooth_draw(MANY_HELD_OUT))
    print(
        f"\nLarge samples (reference of {MANY_HELD_OUT:,} and window of {MANY_ROWS:,} blurred "
        "wines, all eleven measurements shifted):\n"
    )
    header(["shift", "score exceeds threshold", "share moved (median)", "drift"])
    window = smooth_draw(MANY_ROWS)
    for by in (0.02, 0.05, 0.1, 0.25):
        moved = window.copy()
        moved[list(MEASUREMENT_NAMES)] += by * spread
        verdicts = judge([("1", moved)], reference).set_index("column").loc[list(MEASUREMENT_NAMES)]
        beyond = int((verdicts["value"] > verdicts["threshold"]).sum())
        gaps = [kolmogorov(moved[c], window[c]) for c in MEASUREMENT_NAMES]
        drifted = int((verdicts["verdict"] == "drift").sum())
        line(f"{by} sd", f"{beyond}/11", f"{np.median(gaps):.1%}", f"{drifted}/11")


def kolmogorov(a: pd.Series, b: pd.Series) -> float:
    grid = np.quantile(b, np.arange(1, 20) / 20)
    return float(np.abs([(a <= x).mean() - (b <= x).mean() for x in grid]).max())


def header(cells: list[str]) -> None:
    line(*cells)
    line(*("---" for _ in cells))


def line(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
