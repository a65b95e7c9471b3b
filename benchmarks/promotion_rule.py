"""How often does the promotion rule err? Simulated under the settings that ship.

    python benchmarks/promotion_rule.py [--rounds 1000] [--first-seed 0]

Residuals are those of two forests on the project's sample, each wine's from models that were not
fitted on it, so that their tails and their correlation are real. A model that is *no better* is one
whose residuals are exchanged with the champion's by the toss of a coin for each distinct wine: both
have the same error in truth. A model *better by 5 %* is that with its residuals made smaller by
5 %. Each round draws distinct wines anew for the held-out side and for the replay. Prints Markdown:
how often the rule promotes, with Wilson's 95 % intervals.
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
from wine_quality.pipelines.processing.reading import read_files, sort_rows
from wine_quality.wines import INPUTS, PREDICTION, QUALITY, TYPE, wine_hashes

SAMPLE = Path(__file__).parents[1] / "data/01_raw/sample"
HELD_OUT = 1060
"""Distinct wines on the held-out side of the sample's 5,300."""
ESTIMATORS = ("sklearn.ensemble.ExtraTreesRegressor", "sklearn.ensemble.RandomForestRegressor")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--first-seed", type=int, default=0)
    arguments = parser.parse_args()
    pool = residuals()
    correlation = np.corrcoef(pool["champion"], pool["other"])[0, 1]
    print(f"{len(pool):,} distinct wines, correlation of the residuals {correlation:.2f}\n")
    print("| held-out wines | labels replayed | new version | promoted | 95 % |")
    print("|--:|--:|---|--:|--:|")
    for held_out, replayed in ((HELD_OUT, 0), (HELD_OUT, 200), (HELD_OUT, 1000), (0, 1000)):
        for words, factor in (("no better", 1.0), ("5 % better", 0.95), ("5 % worse", 1.05)):
            promoted = sum(
                promotes(pool, held_out, replayed, factor, arguments.first_seed + seed)
                for seed in range(arguments.rounds)
            )
            low, high = wilson(promoted, arguments.rounds)
            share = promoted / arguments.rounds
            print(
                f"| {held_out:,} | {replayed:,} | {words} | {share:.1%} | {low:.1%}–{high:.1%} |",
                flush=True,
            )


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


def promotes(pool: pd.DataFrame, held_out: int, replayed: int, factor: float, seed: int) -> bool:
    """Tell whether the rule promotes a version with errors of `factor` times the champion's."""
    rng = np.random.default_rng([seed, held_out, replayed])
    rows = pool.iloc[rng.choice(len(pool), held_out + replayed)].reset_index(drop=True)
    swap = rng.random(len(rows)) < 0.5
    rows[WINE] = np.arange(len(rows))
    new, old = (np.where(swap == first, rows["champion"], rows["other"]) for first in (True, False))
    rows[PREDICTION] = rows[QUALITY] + factor * new
    rows[CHAMPION_PREDICTION] = rows[QUALITY] + old
    pairs = weigh(rows.iloc[:held_out], rows.iloc[held_out:], SHIPPED.recent_share)
    return judge(pairs, seed, "rmse", SHIPPED).is_better


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, p = 1.959964, hits / n
    centre, reach = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (centre - reach) / (1 + z**2 / n), (centre + reach) / (1 + z**2 / n)


if __name__ == "__main__":
    main()
