"""Measure what labels that are a selection make of the verdict on the model.

    python benchmarks/selected_labels.py [--references N] [--windows N] [--seed N]

Synthetic wines, 1,000 a day; a model that knows half of the quality and errs by 0.6 points beside.
Nothing changes, but only some wines are labelled: a fifth by lot, only the extremes (quality up to
4 or from 8), only complaints (quality up to 4), only the predictions in the highest and the lowest
tenth. Counted are windows with `decayed`, with and without the comparison of predictions, windows
that are not judged since labels are a selection, and incidents of the model in that time. Then the
model errs by a quarter of a point to one side, a fifth is labelled by lot: the power. Settings are
the shipped ones. Prints Markdown, with 95 % Wilson intervals.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from accepted_reference import predicted, share

from wine_quality.drift.judging import judge_hours
from wine_quality.drift.profiles import Profile, count
from wine_quality.drift.reference import Reference
from wine_quality.drift.selection import selected_hours
from wine_quality.drift.settings import DriftSettings
from wine_quality.drift.vocabulary import SELECTED_LABELS
from wine_quality.drift.watching import MODEL, find_changes
from wine_quality.traffic.synthetic import draw_wines
from wine_quality.wines import PREDICTION, QUALITY

SEED = 20_261_130
REGISTERED_ROWS, WINDOW, PER_HOUR = 5_000, 1_000, 42
START = pd.Timestamp("2026-01-01", tz="UTC")
SETTINGS = DriftSettings()
Chosen = Callable[[pd.DataFrame, np.random.Generator], pd.Series]


def by_lot(wines: pd.DataFrame, rng: np.random.Generator) -> pd.Series:
    """A fifth, whatever they are."""
    return pd.Series(rng.random(len(wines)) < 0.2, wines.index)


def extremes(wines: pd.DataFrame, _: np.random.Generator) -> pd.Series:
    """The best and the worst."""
    return (wines[QUALITY] <= 4) | (wines[QUALITY] >= 8)


def complaints(wines: pd.DataFrame, _: np.random.Generator) -> pd.Series:
    """The worst."""
    return wines[QUALITY] <= 4


def extreme_predictions(wines: pd.DataFrame, _: np.random.Generator) -> pd.Series:
    """Those of which the model says most, or least."""
    low, high = wines[PREDICTION].quantile([0.1, 0.9])
    return (wines[PREDICTION] <= low) | (wines[PREDICTION] >= high)


CASES: dict[str, tuple[Chosen, float]] = {
    "nothing changed; a fifth, by lot": (by_lot, 0.0),
    "nothing changed; only quality up to 4 or from 8": (extremes, 0.0),
    "nothing changed; only quality up to 4": (complaints, 0.0),
    "nothing changed; the extreme tenths of predictions": (extreme_predictions, 0.0),
    "mean error 0.1 off; a fifth, by lot": (by_lot, 0.1),
    "mean error 0.25 off; a fifth, by lot": (by_lot, 0.25),
}


def logged(many: int, chosen: Chosen, bias: float, seed: int) -> pd.DataFrame:
    """Days of wines of which some are labelled."""
    rows = many * WINDOW
    wines = predicted(draw_wines(rows, seed), seed, bias)
    labelled = chosen(wines, np.random.default_rng([seed, 1]))
    place = np.arange(rows)
    hours = place // WINDOW * 24 + place % WINDOW // PER_HOUR
    return wines.assign(
        quality=wines[QUALITY].where(labelled), event_time=START + pd.to_timedelta(hours, unit="h")
    )


def without_comparison(hours: Profile, reference: Reference) -> Profile:
    """The same counts as an edition took them that knew no labelled wines by prediction."""
    sums = hours.sums.copy()
    sums[:, reference.sums_layout.by_prediction] = np.nan
    return Profile(hours.starts, hours.counts, sums, hours.lows, hours.highs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--references", type=int, default=20)
    parser.add_argument("--windows", type=int, default=15)
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    print("| labels | `decayed` before | `decayed` | not judged | model alerts before | and now |")
    print("|---|---|---|---|---|---|")
    for name, (chosen, bias) in CASES.items():
        before, after, unjudged = [], [], []
        alerts_before, alerts_after = 0, 0
        for k in range(given.references):
            seed = given.seed + 1_000_003 * k
            reference = Reference.from_wines(predicted(draw_wines(REGISTERED_ROWS, seed), seed))
            hours = count(logged(given.windows, chosen, bias, seed + 1), reference)
            unknown = without_comparison(hours, reference)
            before += decayed(unknown, reference)
            after += decayed(hours, reference)
            _, model = judge_hours(hours, reference, "1", SETTINGS)
            whole = model[model["segment"] == "all"]
            unjudged += whole["verdict"].eq(SELECTED_LABELS).tolist()
            alerts_before += model_alerts(unknown, reference)
            alerts_after += model_alerts(hours, reference)
        print(
            f"| {name} | {share(before)} | {share(after)} | {share(unjudged)} | "
            f"{alerts_before} of {given.references} | {alerts_after} of {given.references} |",
            flush=True,
        )


def decayed(hours: Profile, reference: Reference) -> list[bool]:
    """Which windows have any such verdict."""
    _, model = judge_hours(hours, reference, "1", SETTINGS)
    found: list[bool] = model["verdict"].eq("decayed").groupby(model["window_start"]).any().tolist()
    return found


def model_alerts(hours: Profile, reference: Reference) -> bool:
    """Whether evidence over time alerts of the model."""
    selected = {"1": selected_hours(hours, reference, SETTINGS)}
    found = find_changes({"1": hours}, {"1": reference}, 1.0, (), {}, selected)
    return any(finding.subject == MODEL for finding in found)


if __name__ == "__main__":
    main()
