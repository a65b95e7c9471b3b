"""How near the embedded sample comes to the UCI wines.

The tables and figures of docs/benchmarks/sample.md.

    WINE_QUALITY_DATA=FOLDER python benchmarks/sample_vs_uci.py > tables.md

FOLDER holds uci/winequality-red.csv and uci/winequality-white.csv. Prints Markdown, and writes
docs/images/sample_*.png. Two to three minutes on two cores.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import ks_2samp
from sklearn.base import RegressorMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from wine_quality.errors import WineQualityError
from wine_quality.traffic.figures import Figures
from wine_quality.traffic.fit_figures import fit_figures, rank_correlations, read_uci
from wine_quality.traffic.synthetic import SAMPLE_SEED, draw_wines
from wine_quality.wines import INPUTS, MEASUREMENT_NAMES, MEASUREMENTS, QUALITY, TYPE, WINE_TYPES

PROJECT = Path(__file__).parents[1]
SAMPLE = PROJECT / "data" / "01_raw" / "sample"
IMAGES = PROJECT / "docs" / "images"
COLUMNS = [*MEASUREMENT_NAMES, QUALITY]
SEED = 0
TREES = 300
MODELS: dict[str, Callable[[], RegressorMixin]] = {
    "ExtraTreesRegressor": lambda: ExtraTreesRegressor(TREES, random_state=SEED, n_jobs=-1),
    "RandomForestRegressor": lambda: RandomForestRegressor(TREES, random_state=SEED, n_jobs=-1),
    "LinearRegression": LinearRegression,
}
STATISTICS: dict[str, Callable[[pd.Series], float]] = {
    "mean": pd.Series.mean,
    "sd": pd.Series.std,
    "5 %": lambda column: column.quantile(0.05),
    "50 %": lambda column: column.quantile(0.5),
    "95 %": lambda column: column.quantile(0.95),
}


def main(data: Path) -> None:
    """Compare the sample with the wines of `data`/uci."""
    real, sample = read_uci(data / "uci"), read_uci(SAMPLE)
    IMAGES.mkdir(parents=True, exist_ok=True)
    for kind in WINE_TYPES:
        print(f"\n### {kind.capitalize()}\n")
        show(marginals(of(real, kind), of(sample, kind)))
    print("\n### Rank correlations\n")
    show(correlations(real, sample))
    print("\n### Density as a linear function of the ten other measurements\n")
    show(density_explained(real, sample))
    print("\n### Duplicates and missing values\n")
    show(repeats_and_gaps(real, sample))
    print("\n### Models, cross-validated\n")
    show(scores(real, sample))
    print("\n### Models, trained here and asked there\n")
    show(transfers(real, sample))
    draw_marginals(real, sample, IMAGES / "sample_marginals.png")
    draw_dependence(real, sample, IMAGES / "sample_dependence.png")


def show(table: pd.DataFrame) -> None:
    """Print a table as Markdown."""
    print("| " + " | ".join(table.columns) + " |")
    print("|---|" + "--:|" * (table.shape[1] - 1))
    for row in table.itertuples(index=False):
        print("| " + " | ".join(map(str, row)) + " |")


def of(wines: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The wines of one type."""
    return wines[wines[TYPE] == kind]


def marginals(real: pd.DataFrame, sample: pd.DataFrame) -> pd.DataFrame:
    """One row per column: real / sample statistics, and the Kolmogorov-Smirnov distance."""
    rows = []
    for name in COLUMNS:
        pair = [frame[name].dropna() for frame in (real, sample)]
        digits = 5 if name == "density" else 3
        rows.append(
            {
                "column": name,
                **{
                    label: " / ".join(f"{round(float(statistic(c)), digits):g}" for c in pair)
                    for label, statistic in STATISTICS.items()
                },
                "K-S": f"{ks_2samp(*pair).statistic:.3f}",
            }
        )
    return pd.DataFrame(rows)


def correlations(real: pd.DataFrame, sample: pd.DataFrame) -> pd.DataFrame:
    """Differences of Spearman's correlations from the real ones, by type.

    A bootstrap resample of the real wines shows what chance alone does at this size.
    """
    pairs = np.triu_indices(len(COLUMNS), 1)
    rows = []
    for kind in WINE_TYPES:
        wines = of(real, kind)
        target = rank_correlations(wines)
        others = {
            "sample": of(sample, kind).dropna(),
            "200,000 synthetic wines": draw_wines(200_000, SEED, types={kind: 1}),
            "real wines, bootstrapped": wines.sample(frac=1, replace=True, random_state=SEED),
        }
        for label, other in others.items():
            miss = np.abs(rank_correlations(other) - target)[pairs]
            worst = int(miss.argmax())
            rows.append(
                {
                    "against the real wines": f"{kind}, {label}",
                    "mean": f"{miss.mean():.3f}",
                    "largest": f"{miss.max():.3f}",
                    "of": " and ".join(COLUMNS[axis[worst]] for axis in pairs),
                }
            )
    return pd.DataFrame(rows)


def density_explained(real: pd.DataFrame, sample: pd.DataFrame) -> pd.DataFrame:
    """R² of a linear model of density: nearly physics in real wines."""
    rows = []
    for kind in WINE_TYPES:
        row = {"type": kind}
        for label, frame in {"UCI": real, "sample": sample}.items():
            wines = of(frame, kind)[[*MEASUREMENT_NAMES]].dropna()
            others, density = wines.drop(columns="density"), wines["density"]
            fitted = LinearRegression().fit(others, density)
            row[f"R², {label}"] = f"{fitted.score(others, density):.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def repeats_and_gaps(real: pd.DataFrame, sample: pd.DataFrame) -> pd.DataFrame:
    """Exact duplicates by type, and empty fields by column."""
    rows = [
        {
            "what": f"{kind}: rows that repeat an earlier one",
            "UCI": f"{(r := of(real, kind).duplicated()).sum()} of {r.size}",
            "sample": f"{(s := of(sample, kind).duplicated()).sum()} of {s.size}",
        }
        for kind in WINE_TYPES
    ]
    gaps = [
        {"what": f"{name}: empty", "UCI": real[name].isna().sum(), "sample": count}
        for name, count in sample.isna().sum().items()
        if count
    ]
    return pd.DataFrame([*rows, *gaps])


def pipeline(model: RegressorMixin) -> Pipeline:
    """The model behind mean imputation and the one-hot encoded type."""
    prepare = ColumnTransformer(
        [
            ("measurements", SimpleImputer(), list(MEASUREMENT_NAMES)),
            ("type", OneHotEncoder(drop="if_binary"), [TYPE]),
        ]
    )
    return Pipeline([("prepare", prepare), ("model", model)])


def scores(real: pd.DataFrame, sample: pd.DataFrame) -> pd.DataFrame:
    """Five-fold cross-validation, exact duplicates kept on one side of every split.

    Beside the sample: wines drawn as the sample is, but from one copula per type.
    """
    single = fit_figures(real, bands=[(0, 10)])
    wines = {"UCI": real, "sample": sample, "one copula per type": like_the_sample(single)}
    rows = []
    for model, make in MODELS.items():
        for label, frame in wines.items():
            groups = frame.groupby([TYPE, *COLUMNS], dropna=False).ngroup()
            folds = GroupKFold(5, shuffle=True, random_state=SEED)
            predicted = cross_val_predict(
                pipeline(make()), frame[[*INPUTS]], frame[QUALITY], groups=groups, cv=folds
            )
            rows.append({"model": model, "wines": label, **errors(frame, predicted)})
    return pd.DataFrame(rows)


def like_the_sample(figures: Figures) -> pd.DataFrame:
    """Wines drawn as the sample is, from other figures."""
    return pd.concat(
        [
            draw_wines(
                figures.types[kind].rows, seed, figures, {kind: 1}, duplicates=True, missing=True
            )
            for seed, kind in enumerate(WINE_TYPES, start=SAMPLE_SEED)
        ],
        ignore_index=True,
    )


def transfers(real: pd.DataFrame, sample: pd.DataFrame) -> pd.DataFrame:
    """A model trained on the one and asked about the other."""
    rows = []
    for label, taught, asked in (
        ("sample, asked about UCI", sample, real),
        ("UCI, asked about the sample", real, sample),
    ):
        for model, make in MODELS.items():
            fitted = pipeline(make()).fit(taught[[*INPUTS]], taught[QUALITY])
            predicted = fitted.predict(asked[[*INPUTS]])
            rows.append({"model": model, "trained on": label, **errors(asked, predicted)})
    return pd.DataFrame(rows)


def errors(wines: pd.DataFrame, predicted: np.ndarray) -> dict[str, str]:
    """MAE, RMSE and R² of predictions, R² by type as well."""
    quality = wines[QUALITY].to_numpy()
    by_type = {
        f"R² {kind}": f"{r2_score(quality[mask], predicted[mask]):.2f}"
        for kind in WINE_TYPES
        for mask in [(wines[TYPE] == kind).to_numpy()]
    }
    return {
        "MAE": f"{mean_absolute_error(quality, predicted):.3f}",
        "RMSE": f"{root_mean_squared_error(quality, predicted):.3f}",
        "R²": f"{r2_score(quality, predicted):.3f}",
        **by_type,
    }


def draw_marginals(real: pd.DataFrame, sample: pd.DataFrame, path: Path) -> None:
    """Cumulative shares of every column, by type."""
    figure, grid = plt.subplots(3, 4, figsize=(11, 7), layout="constrained")
    labels = {m.name: m.label for m in MEASUREMENTS} | {QUALITY: QUALITY}
    for axes, name in zip(grid.flat, COLUMNS, strict=True):
        for kind, frame, style in curves(real, sample):
            values = np.sort(of(frame, kind)[name].dropna())
            axes.step(values, np.linspace(0, 1, values.size), where="post", **style)
        low, high = real[name].quantile([0.001, 0.999])
        axes.set(xlabel=labels[name], xlim=(low, high), ylim=(0, 1))
    figure.supylabel("share of wines up to this value")
    handles, names = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, dpi=64)


def curves(
    real: pd.DataFrame, sample: pd.DataFrame
) -> Iterator[tuple[str, pd.DataFrame, dict[str, object]]]:
    """Type, wines and line of each curve: real wines wide and pale, the sample thin and dark."""
    for kind, pale, dark in (("red", "#e8a0a8", "#7a0019"), ("white", "#b8cf9a", "#3f5f0f")):
        yield kind, real, {"color": pale, "lw": 4, "label": f"{kind}, UCI"}
        yield kind, sample, {"color": dark, "lw": 1, "label": f"{kind}, sample"}


def draw_dependence(real: pd.DataFrame, sample: pd.DataFrame, path: Path) -> None:
    """Rank correlations against each other, and a close pair of columns as points."""
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(11, 3.8), layout="constrained", width_ratios=(1.1, 1, 1)
    )
    pairs = np.triu_indices(len(COLUMNS), 1)
    for kind, colour in (("red", "#7a0019"), ("white", "#6f9a2a")):
        x, y = (rank_correlations(of(f, kind).dropna())[pairs] for f in (real, sample))
        left.plot(x, y, "o", ms=3.5, alpha=0.7, color=colour, label=kind)
    left.axline((0, 0), slope=1, color="grey", lw=0.8)
    left.set(xlabel="Spearman's correlation, UCI", ylabel="the same, sample", aspect="equal")
    left.legend(frameon=False)
    for axes, frame, label in ((middle, real, "UCI"), (right, sample, "sample")):
        wines = of(frame, "white")
        axes.plot(wines["residual_sugar"], wines["density"], ".", ms=1.5, color="#6f9a2a")
        axes.set(xlim=(0, 25), ylim=(0.986, 1.004), title=f"white wines, {label}")
        axes.set(xlabel="residual sugar (g/dm³)", ylabel="density (g/cm³)")
        axes.ticklabel_format(useOffset=False)
    figure.savefig(path, dpi=64)


if __name__ == "__main__":
    folder = os.environ.get("WINE_QUALITY_DATA")
    if not folder:
        sys.exit("Set WINE_QUALITY_DATA to the folder that holds uci/winequality-*.csv")
    try:
        main(Path(folder))
    except WineQualityError as mistake:
        sys.exit(str(mistake))
