"""How often do the rules of promotion and of its review err? Simulated under the shipped settings.

    python benchmarks/promotion_rule.py promotion|review [--rounds 1000] [--first-seed 0]

Residuals are those of two forests on the project's sample, each wine's from models that were not
fitted on it, so that their tails and their correlation are real. A model that is *no better* is one
whose residuals are exchanged with the champion's by the toss of a coin for each distinct wine: both
have the same error in truth. A model *better by 5 %* is that with its residuals made smaller by
5 %. Each round draws distinct wines for the held-out side and for the replay. Prints Markdown:
how often the rule promotes, or how often a review takes back what was promoted and at which look,
with Wilson's 95 % intervals.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from wine_quality.modelling.candidates import Candidate, build_model
from wine_quality.modelling.contenders import CHAMPION_PREDICTION, WINE
from wine_quality.modelling.evaluation import assign_folds, out_of_fold, score_folds
from wine_quality.modelling.promotion import SHIPPED, judge, weigh
from wine_quality.modelling.review import LOOKS, compare
from wine_quality.pipelines.processing.reading import read_files, sort_rows
from wine_quality.wines import INPUTS, PREDICTION, QUALITY, TYPE, wine_hashes

SAMPLE = Path(__file__).parents[1] / "data/01_raw/sample"
HELD_OUT = 1060
"""Distinct wines on the held-out side of the sample's 5,300."""
ESTIMATORS = ("sklearn.ensemble.ExtraTreesRegressor", "sklearn.ensemble.RandomForestRegressor")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=("promotion", "review"))
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--first-seed", type=int, default=0)
    arguments = parser.parse_args()
    pool = residuals()
    correlation = np.corrcoef(pool["champion"], pool["other"])[0, 1]
    print(f"{len(pool):,} distinct wines, correlation of the residuals {correlation:.2f}\n")
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.rounds)
    {"promotion": tabulate_promotion, "review": tabulate_review}[arguments.table](pool, seeds)


def tabulate_promotion(pool: pd.DataFrame, seeds: range) -> None:
    """Print how often the rule promotes."""
    print("| held-out wines | labels replayed | new version | promoted | 95 % |")
    print("|--:|--:|---|--:|--:|")
    for held_out, replayed in ((HELD_OUT, 0), (HELD_OUT, 200), (HELD_OUT, 1000), (0, 1000)):
        for words, factor in (("no better", 1.0), ("5 % better", 0.95), ("5 % worse", 1.05)):
            promoted = sum(promotes(pool, held_out, replayed, factor, seed) for seed in seeds)
            shown = in_words(promoted, len(seeds))
            print(f"| {held_out:,} | {replayed:,} | {words} | {shown} |", flush=True)


def tabulate_review(pool: pd.DataFrame, seeds: range) -> None:
    """Print how often a review takes a promotion back, and after how many labels."""
    print("| the promoted version is | undone | 95 % | at 200 | 400 | 600 | 800 | 1,000 labels |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for words, factor in (
        ("5 % better", 0.95),
        ("no better", 1.0),
        ("5 % worse", 1.05),
        ("10 % worse", 1.1),
        ("20 % worse", 1.2),
    ):
        looks = pd.Series([undone_at(pool, factor, seed) for seed in seeds])
        counts = [int((looks == look).sum()) for look in LOOKS]
        cells = " | ".join(f"{count / len(seeds):.1%}" for count in counts)
        print(f"| {words} | {in_words(sum(counts), len(seeds))} | {cells} |", flush=True)


def residuals() -> pd.DataFrame:
    """Out-of-fold residuals of two models on the sample's distinct wines."""
    files = {path.name: path.read_text(encoding="utf-8") for path in SAMPLE.glob("*.csv")}
    wines, _ = sort_rows(read_files(files))
    wines = wines.drop_duplicates(list(INPUTS), ignore_index=True)
    folds = assign_folds(wines, 5, 1, 2009)
    found = wines[[TYPE, QUALITY]].assign(**{WINE: wine_hashes(wines)})
    for name, estimator in zip(("champion", "other"), ESTIMATORS, strict=True):
        settings = {"n_estimators": 50, "max_features": 0.3, "n_jobs": 1}
        model = build_model(Candidate(estimator=estimator, settings=settings), 2009)
        predicted = out_of_fold(list(score_folds(model, wines, folds)), len(wines))
        found[name] = predicted - wines[QUALITY].to_numpy(float)
        print(f"{estimator}: RMSE {np.sqrt((found[name] ** 2).mean()):.3f}", file=sys.stderr)
    return found


def undone_at(pool: pd.DataFrame, factor: float, seed: int) -> int:
    """Give the look at which a version with errors of `factor` times the former's is taken back."""
    new, old, _ = exchanged(pool, LOOKS[-1], np.random.default_rng([seed, LOOKS[-1]]))
    for look in LOOKS:
        if compare(old[:look] ** 2, (factor * new[:look]) ** 2, seed)[1] > 0:
            return look
    return 0


def exchanged(
    pool: pd.DataFrame, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Draw wines; the residuals of two models of the same error in truth, and the wines."""
    rows = pool.iloc[rng.choice(len(pool), n)].reset_index(drop=True)
    swap = rng.random(n) < 0.5
    new, old = (np.where(swap == first, rows["champion"], rows["other"]) for first in (True, False))
    return new, old, rows


def promotes(pool: pd.DataFrame, held_out: int, replayed: int, factor: float, seed: int) -> bool:
    """Tell whether the rule promotes a version with errors of `factor` times the champion's."""
    rng = np.random.default_rng([seed, held_out, replayed])
    new, old, rows = exchanged(pool, held_out + replayed, rng)
    rows[WINE] = np.arange(len(rows))
    rows[PREDICTION] = rows[QUALITY] + factor * new
    rows[CHAMPION_PREDICTION] = rows[QUALITY] + old
    pairs = weigh(rows.iloc[:held_out], rows.iloc[held_out:], SHIPPED.recent_share)
    return judge(pairs, seed, "rmse", SHIPPED).is_better


def in_words(hits: int, n: int) -> str:
    """Give a share and its interval as two cells."""
    low, high = wilson(hits, n)
    return f"{hits / n:.1%} | {low:.1%}–{high:.1%}"


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, p = 1.959964, hits / n
    centre, reach = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (centre - reach) / (1 + z**2 / n), (centre + reach) / (1 + z**2 / n)


if __name__ == "__main__":
    main()
