"""Measure what false alarms cost where an accepted period is the reference.

    python benchmarks/accepted_reference.py [--references N] [--windows N] [--months N] [--seed N]

A version is registered with 5,000 synthetic wines. Then the wines change for good: alcohol rises by
a standard deviation, sulphates fall by a half, and the model errs by a fifth of a point more to one
side. A period of the changed wines is accepted, and everything after it is quiet. Counted are the
windows with a false drift alarm and with a false `decayed` (nominal: `false_alarm_rate` each), and
the alerts from evidence over quiet months of 20 wines an hour that begin where the period ends.
Wines are drawn without repetition; settings are the shipped ones. Prints Markdown, with 95 % Wilson
intervals for shares and bootstrap over references for means.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from drift_power import wilson

from wine_quality.drift.accepted import AcceptedPeriod, make_reference
from wine_quality.drift.judging import judge_hours
from wine_quality.drift.profiles import Profile, count
from wine_quality.drift.reference import Reference
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.watching import find_changes
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import PREDICTION, QUALITY

SEED = 20_261_129
REGISTERED_ROWS, MONTH, PER_HOUR = 5_000, 720, 20
SIZES = (500, 1_000, 2_000)
WINDOW = 500
START = pd.Timestamp("2026-01-01", tz="UTC")
SETTINGS = DriftSettings()


def predicted(wines: pd.DataFrame, seed: int, bias: float = 0.0) -> pd.DataFrame:
    """Wines with predictions that know half of the quality, and err by 0.6 points beside."""
    noise = np.random.default_rng(seed).normal(0, 0.6, len(wines))
    return wines.assign(**{PREDICTION: 5.8 + 0.5 * (wines[QUALITY] - 5.8) + noise + bias})


def changed(rows: int, seed: int) -> pd.DataFrame:
    """Wines of the new normal."""
    wines = draw_wines(rows, seed)
    moved = wines.assign(alcohol=wines["alcohol"] + 1.2, sulphates=wines["sulphates"] - 0.07)
    return predicted(moved, seed, 0.2)


def at_hours(wines: pd.DataFrame, per_hour: int, start: pd.Timestamp = START) -> pd.DataFrame:
    """Spread wines over hours."""
    hour = pd.to_timedelta(np.arange(len(wines)) // per_hour, unit="h")
    return wines.assign(event_time=start + hour)


def accept(registered: Reference, rows: int, seed: int) -> AcceptedPeriod:
    """A period that was accepted, in the days before `START`."""
    begin = START - pd.Timedelta(days=7)
    hours = count(at_hours(changed(rows, seed), rows, begin), registered)
    made, labelled = make_reference(hours, registered, SETTINGS)
    return AcceptedPeriod(
        1, "1", begin.to_pydatetime(), START.to_pydatetime(), registered.fingerprint, made,
        labelled, "benchmark", "", START.to_pydatetime(),
    )  # fmt: skip


def windows(registered: Reference, many: int, seed: int) -> Profile:
    """Windows of a day, all of the new normal."""
    wines = changed(many * WINDOW, seed)
    day = pd.to_timedelta(np.arange(len(wines)) // WINDOW, unit="D")
    return count(wines.assign(event_time=START + day), registered)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--references", type=int, default=20)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--months", type=int, default=20)
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    registered = Reference.from_wines(
        predicted(draw_wines(REGISTERED_ROWS, given.seed), given.seed)
    )
    print(f"| accepted wines | windows of {WINDOW} with a drift alarm | decayed | alerts a month |")
    print("|---|---|---|---|")
    for size in SIZES:
        drift, decayed, alerts = [], [], []
        for k in range(given.references):
            seed = given.seed + 1_000_003 * (k + 1) + size
            period = accept(registered, size, seed)
            hours = windows(registered, given.windows, seed + 1)
            columns, model = judge_hours(hours, registered, "1", SETTINGS, accepted=(period,))
            by_window = columns["verdict"].eq("drift").groupby(columns["window_start"]).any()
            drift += by_window.tolist()
            decayed += model["verdict"].eq("decayed").groupby(model["window_start"]).any().tolist()
        for k in range(given.months):
            seed = given.seed + 2_000_003 * (k + 1) + size
            period = accept(registered, size, seed)
            month = count(at_hours(changed(MONTH * PER_HOUR, seed + 1), PER_HOUR), registered)
            found = find_changes({"1": month}, {"1": registered}, 1.0, (), {"1": (period,)})
            alerts.append(len(found))
        rng = np.random.default_rng(given.seed)
        means = rng.choice(alerts, (2000, len(alerts))).mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        print(
            f"| {size:,} | {share(drift)} | {share(decayed)} | {np.mean(alerts):.2f} "
            f"({low:.2f} to {high:.2f}), {len(alerts)} months |",
            flush=True,
        )


def share(hits: list[bool]) -> str:
    """A share in per cent, with its interval."""
    low, high = wilson(sum(hits), len(hits))
    return f"{np.mean(hits):.1%} ({low:.1%} to {high:.1%}) of {len(hits):,}"


if __name__ == "__main__":
    main()
