"""One picture that sums the windows up: drift, error and traffic, one under the other."""

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from wine_quality.drift.reference import ALL
from wine_quality.drift.verdicts import TRAFFIC
from wine_quality.drift.vocabulary import count_of
from wine_quality.drift.window_names import shortest_form
from wine_quality.drift.windows import OF_VERSIONS
from wine_quality.wines import QUALITY_UNIT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KEYS = ["window_start", "model_version"]
MOST_TIMES_THRESHOLD = 2.0
"""Scores beyond so many times their threshold have one colour."""
MOST_LABELS = 14
"""Windows named below the picture."""
MARKS = {"drift": "×", "data_quality": "?", "insufficient_data": "–"}
"""What stands in a cell whose verdict its colour does not tell."""


def plot_summary(verdicts: pd.DataFrame, model_verdicts: pd.DataFrame) -> "Figure":
    """Draw columns' scores, the model's error and the traffic of all windows in one picture.

    Args:
        verdicts: Rows of `verdicts.decide` and, under the column `traffic`, of
            `windows.judge_traffic`.
        model_verdicts: Rows of `performance.judge_performance`.

    Returns:
        A figure of three panels over the same windows of event time, a model version's windows
        beside another's: each score as a multiple of its threshold, with a mark where the verdict
        is not plainly ok; the mean absolute error beside the reference's, and the range in which it
        is no decay; the wines. Panels without data say so.
    """
    # Matplotlib asks IPython for its version as soon as another thread has begun to import it, as
    # Plotly does: nothing is drawn beside half of it
    with suppress(ImportError):
        import IPython  # noqa: F401

    from matplotlib.figure import Figure

    windows = _windows(verdicts, model_verdicts)
    figure = Figure(figsize=(float(np.clip(4 + 0.45 * len(windows), 8, 18)), 9.5), dpi=110)
    heat, error, traffic = figure.subplots(3, 1, sharex=True, height_ratios=[13, 6, 4])
    for axes in (error, traffic):
        axes.grid(color="#cccccc")
        axes.set_axisbelow(True)
    figure.set_layout_engine("constrained")
    figure.suptitle(f"Monitoring: {count_of(len(windows), 'window')}")
    _plot_scores(heat, verdicts, windows)
    _plot_error(error, model_verdicts, windows)
    _plot_traffic(traffic, verdicts, windows)
    _name_windows(traffic, windows)
    return figure


@dataclass(frozen=True)
class _Series:
    """One row a window: where it stands, and what is known of it."""

    x: np.ndarray
    rows: pd.DataFrame

    @classmethod
    def of(cls, rows: pd.DataFrame, windows: pd.MultiIndex) -> "_Series":
        # the middles of the heat map's cells
        ordered = rows.drop_duplicates(KEYS, keep="last").set_index(KEYS).reindex(windows)
        return cls(np.arange(len(windows)) + 0.5, ordered)

    def where(self, verdict: str) -> np.ndarray:
        return (self.rows["verdict"] == verdict).to_numpy(bool)


def _windows(*tables: pd.DataFrame) -> pd.MultiIndex:
    """All windows of all model versions, in order."""
    keys = pd.concat([table[KEYS] for table in tables]).drop_duplicates()
    return pd.MultiIndex.from_frame(keys.sort_values(KEYS))


def _plot_scores(axes: "Axes", verdicts: pd.DataFrame, windows: pd.MultiIndex) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    from wine_quality.figures import BAD

    judged = verdicts[~verdicts["column"].isin(OF_VERSIONS)]
    axes.set_title("Drift: score by its threshold", loc="left")
    if judged.empty:
        _say(axes, "No window has been judged yet")
        return
    columns = judged["column"].unique()
    newest = judged.drop_duplicates(["column", *KEYS], keep="last").assign(
        times=judged["value"] / judged["threshold"], mark=judged["verdict"].map(MARKS).fillna("")
    )
    by_cell = newest.set_index(["column", *KEYS])
    times, marks = (
        by_cell[name].unstack(KEYS).reindex(index=columns, columns=windows)  # noqa: PD010
        for name in ("times", "mark")
    )
    axes.set_facecolor("#c9ccd2")
    few = len(windows) <= 40
    cells = axes.pcolormesh(
        np.ma.masked_invalid(times.to_numpy(float)),
        vmin=0,
        vmax=MOST_TIMES_THRESHOLD,
        cmap=LinearSegmentedColormap.from_list("scores", ["#dcece2", "#f7e3b5", BAD]),
        edgecolors="white",
        linewidth=0.5 if few else 0,
    )
    axes.set_yticks(np.arange(len(columns)) + 0.5, [str(c).replace("_", " ") for c in columns])
    axes.tick_params(length=0)
    axes.invert_yaxis()
    figure = cast("Figure", axes.figure)
    figure.colorbar(cells, ax=axes, label="× threshold", extend="max", aspect=30, pad=0.01)
    # cells without a score have marks, too
    named = marks.fillna("").to_numpy(str)
    for row, column in np.argwhere(named != ""):
        axes.text(
            column + 0.5, row + 0.5, named[row, column],
            ha="center", va="center", fontsize=9 if few else 6,
        )  # fmt: skip
    legend = "   ".join(f"{mark} {verdict.replace('_', ' ')}" for verdict, mark in MARKS.items())
    axes.set_title(legend, loc="right", fontsize=9)


def _plot_error(axes: "Axes", model_verdicts: pd.DataFrame, windows: pd.MultiIndex) -> None:
    from wine_quality.figures import ACCENT, BAD, MUTED

    axes.set_title(f"Model: mean absolute error, {QUALITY_UNIT}", loc="left")
    series = _Series.of(model_verdicts[model_verdicts["segment"] == ALL], windows)
    rows, x = series.rows, series.x
    if not rows["mae"].notna().any():
        _say(axes, "No ground truth yet")
        return
    before = rows["reference_mae"]
    # a score is a rise in standard errors, its threshold is in the same unit
    limit = before + (rows["mae"] - before) / rows["mae_score"] * rows["mae_threshold"]
    axes.bar(x, limit - before, 1, before, color=MUTED, alpha=0.25, label="no more than chance")
    axes.hlines(before, x - 0.5, x + 0.5, color=MUTED, linestyle=":", label="held-out reference")
    axes.plot(x, rows["mae"], color=ACCENT, marker="o", markersize=4, label="window")
    if (decayed := series.where("decayed")).any():
        axes.plot(x[decayed], rows["mae"][decayed], "o", color=BAD, markersize=8, label="decayed")
    axes.legend(loc="lower left", ncols=4, fontsize=8)
    drawn = np.stack([rows["mae"], before, limit])
    axes.set_ylim(0, 1.1 * float(drawn[np.isfinite(drawn)].max()))


def _plot_traffic(axes: "Axes", verdicts: pd.DataFrame, windows: pd.MultiIndex) -> None:
    from wine_quality.figures import BAD, MUTED

    axes.set_title("Traffic: wines", loc="left")
    series = _Series.of(verdicts[verdicts["column"] == TRAFFIC], windows)
    if not series.rows["value"].notna().any():
        _say(axes, "No traffic has been counted yet")
        return
    unusual = ~series.where("ok") & series.rows["verdict"].notna().to_numpy()
    wines = series.rows["value"].to_numpy()
    axes.bar(series.x, wines, color=np.where(unusual, BAD, MUTED), width=0.8)
    for x, n in zip(series.x[unusual], wines[unusual], strict=True):
        axes.annotate(f"{n:.0f}", (x, n), ha="center", va="bottom", color=BAD, fontsize=8)
    axes.margins(y=0.2)


def _name_windows(axes: "Axes", windows: pd.MultiIndex) -> None:
    starts = pd.DatetimeIndex(windows.get_level_values(0))
    versions = windows.get_level_values(1)
    form = shortest_form(starts)
    several = len(versions.unique()) > 1
    names = [
        f"{start:{form}} v{version}" if several else f"{start:{form}}"
        for start, version in zip(starts, versions, strict=True)
    ]
    shown = np.arange(0, len(windows), -(-len(windows) // MOST_LABELS) or 1)
    axes.set_xticks(shown + 0.5, [names[k] for k in shown], rotation=35, ha="right")
    axes.set_xlim(0, max(len(windows), 1))
    axes.set_xlabel("window of event time")


def _say(axes: "Axes", what: str) -> Any:
    axes.set_yticks([])
    return axes.text(
        0.5, 0.5, what, transform=axes.transAxes, ha="center", va="center", color="0.4"
    )
