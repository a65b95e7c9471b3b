"""The tutorial's four models, judged its way and without leakage.

A table of docs/benchmarks/models.md.

    WINE_QUALITY_DATA=FOLDER python benchmarks/kaggle_protocol.py [--quick] > table.md

FOLDER holds kaggle/train_wine_data.csv and kaggle/test_wine_data.csv. The tutorial trains on the
first file and judges on the second, with scikit-learn's default settings, no scaling, the type as
`red_wine` 0 or 1, and each file's missing values filled with that file's own means. The same models
are then cross-validated on the distinct wines of the first file, each once: 5 folds, equal wines on
one side, means from the training folds. Everything is run with three seeds (`--quick`: one), whose
spread is printed.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.neighbors import KNeighborsRegressor

from wine_quality.modelling.metrics import score
from wine_quality.modelling.splitting import assign_parts
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, QUALITY, TYPE, WINE_TYPES, wine_groups

TREES = 100
FOLDS = 5
SEEDS = (0, 1, 2)
JOBS = 2
MODELS: dict[str, Callable[[int], BaseEstimator]] = {
    "RandomForestRegressor": lambda seed: RandomForestRegressor(
        TREES, random_state=seed, n_jobs=JOBS
    ),
    "RandomForestClassifier": lambda seed: RandomForestClassifier(
        TREES, random_state=seed, n_jobs=JOBS
    ),
    "ExtraTreesClassifier": lambda seed: ExtraTreesClassifier(
        TREES, random_state=seed, n_jobs=JOBS
    ),
    "KNeighborsRegressor": lambda _: KNeighborsRegressor(),
}
PUBLISHED = {
    "RandomForestRegressor": (0.0822, 0.9911),
    "RandomForestClassifier": (0.0668, 0.9941),
    "ExtraTreesClassifier": (0.0633, 0.9948),
    "KNeighborsRegressor": (0.2602, 0.9112),
}
"""RMSE and R² on the second file, as the tutorial prints them; it calls R² accuracy."""


def encode(wines: pd.DataFrame, means: pd.Series) -> np.ndarray:
    """Make the twelve numbers that the tutorial trains on, shape (n, 12)."""
    measured = wines[list(MEASUREMENT_NAMES)].fillna(means)
    return measured.assign(red_wine=(wines[TYPE] == WINE_TYPES[0]).astype(float)).to_numpy(float)


def means_of(wines: pd.DataFrame) -> pd.Series:
    """Mean of each measurement."""
    return wines[list(MEASUREMENT_NAMES)].mean()


def judge_their_way(
    model: BaseEstimator, first: pd.DataFrame, second: pd.DataFrame
) -> dict[str, float]:
    """Train on the first file, judge on the second."""
    model.fit(encode(first, means_of(first)), first[QUALITY])
    prediction = model.predict(encode(second, means_of(second)))
    return score(second[QUALITY].to_numpy(float), prediction.astype(float))


def judge_without_leakage(
    make: Callable[[int], BaseEstimator], wines: pd.DataFrame, seed: int
) -> dict[str, float]:
    """Predict every wine by a model that was not trained on it."""
    part = assign_parts(wines, FOLDS, seed)
    prediction = np.empty(len(wines))
    for fold in range(FOLDS):
        train, test = wines[part != fold], wines[part == fold]
        means = means_of(train)
        model = make(seed).fit(encode(train, means), train[QUALITY])
        prediction[part == fold] = model.predict(encode(test, means))
    return score(wines[QUALITY].to_numpy(float), prediction)


def in_words(scores: list[dict[str, float]], metric: str) -> str:
    """Mean over the seeds and their range."""
    values = [found[metric] for found in scores]
    if np.ptp(values) < 5e-4:
        return f"{np.mean(values):.3f}"
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main(data: Path, seeds: tuple[int, ...]) -> None:
    """Print the table as Markdown."""
    first, second = (
        pd.read_csv(data / "kaggle" / f"{name}_wine_data.csv") for name in ("train", "test")
    )
    distinct = first.drop_duplicates([*INPUTS, QUALITY]).reset_index(drop=True)
    seen = set(map(tuple, distinct[list(INPUTS)].to_numpy()))
    complete = second.dropna().drop_duplicates([*INPUTS, QUALITY])
    known = sum(tuple(wine) in seen for wine in complete[list(INPUTS)].to_numpy())
    groups = wine_groups(distinct).nunique()
    print(
        f"First file: {len(first):,} rows, {len(distinct):,} distinct wines in {groups:,} groups "
        f"of equal inputs. Second file: {len(second):,} rows; of its {len(complete):,} distinct "
        f"complete wines {known:,} stand in the first. {len(seeds)} seed(s): mean (range).\n"
    )
    print(
        "| model | RMSE, published | RMSE, ours | R², published | R², ours "
        "| RMSE, no leakage | R², no leakage |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, make in MODELS.items():
        theirs = [judge_their_way(make(seed), first, second) for seed in seeds]
        honest = [judge_without_leakage(make, distinct, seed) for seed in seeds]
        rmse, r2 = PUBLISHED[name]
        print(
            f"| {name} | {rmse:.3f} | {in_words(theirs, 'rmse')} | {r2:.3f} | "
            f"{in_words(theirs, 'r2')} | {in_words(honest, 'rmse')} | {in_words(honest, 'r2')} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    folder = os.environ.get("WINE_QUALITY_DATA")
    if not folder:
        sys.exit("Set WINE_QUALITY_DATA to a folder that holds the two files in kaggle/.")
    main(Path(folder), SEEDS[:1] if arguments.quick else SEEDS)
