"""Figures of the monitoring: which columns drifted when, and how the error went."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from wine_quality.drift import summary_picture
from wine_quality.drift.window_names import shortest_form
from wine_quality.figures import ACCENT, BAD, GOOD, MUTED, titled
from wine_quality.wines import QUALITY_UNIT

VERDICT_COLOURS = {
    "insufficient_data": "#d5d8dc",
    "unfinished": "#e8eaed",
    "ok": GOOD,
    "data_quality": "#e0a030",
    "drift": BAD,
    "no_traffic": "#5b2c6f",
}
WINDOW_AXIS = {
    "type": "category",
    "title": "window of event time",
    "nticks": summary_picture.MOST_LABELS,
    "autotickangles": [0, -35],
}
MOST_GAPS = 60
"""Windows beyond which a gap between two would be as wide as they are."""


def plot_drift_heat_map(verdicts: pd.DataFrame) -> go.Figure:
    """Heat map of the verdicts, columns by windows; hovering tells the reason."""
    verdicts = verdicts.assign(
        window=_window_labels(verdicts),
        code=verdicts["verdict"].map({name: i for i, name in enumerate(VERDICT_COLOURS)}),
    )
    columns = verdicts["column"].unique()
    by_cell = verdicts.pivot_table(
        index="column", columns="window", values=["code", "reason"], aggfunc="last", sort=False
    )
    codes = by_cell["code"].reindex(columns)
    steps = len(VERDICT_COLOURS)
    scale = [
        [(i + side) / steps, colour]
        for i, colour in enumerate(VERDICT_COLOURS.values())
        for side in (0, 1)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=codes.astype(float).to_numpy(),
            x=list(codes.columns),
            y=[str(column).replace("_", " ") for column in codes.index],
            customdata=by_cell["reason"].reindex(columns)[codes.columns].to_numpy(),
            hovertemplate="%{customdata}<extra></extra>",
            zmin=-0.5,
            zmax=steps - 0.5,
            colorscale=scale,
            xgap=2 if len(codes.columns) <= MOST_GAPS else 0,
            ygap=2,
            colorbar={
                "tickvals": list(range(steps)),
                "ticktext": [name.replace("_", " ") for name in VERDICT_COLOURS],
            },
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(WINDOW_AXIS)
    return titled(figure, "Verdict per column and window", 520)


def plot_error_over_time(model_verdicts: pd.DataFrame) -> go.Figure:
    """Line of the mean absolute error by window, beside the reference's; decay stands out."""
    judged = model_verdicts[model_verdicts["segment"] == "all"].sort_values("window_start")
    labels = _window_labels(judged)
    decayed = judged["mae"].where(judged["verdict"] == "decayed")
    figure = go.Figure(
        [
            go.Scatter(
                x=labels,
                y=judged["mae"],
                mode="lines+markers",
                name="window",
                line_color=MUTED,
                marker_size=6,
                customdata=judged["reason"],
                hovertemplate="%{customdata}<extra></extra>",
            ),
            go.Scatter(
                x=labels,
                y=judged["reference_mae"],
                mode="lines",
                name="held-out reference",
                line={"color": ACCENT, "dash": "dot"},
            ),
            go.Scatter(
                x=labels,
                y=decayed,
                mode="markers",
                name="decayed",
                marker={"size": 9, "color": BAD},
                hoverinfo="skip",
            ),
        ]
    )
    figure.update_xaxes(WINDOW_AXIS)
    figure.update_yaxes(title=f"mean absolute error, {QUALITY_UNIT}", rangemode="tozero")
    return titled(figure, "Error of labelled wines by window")


# Kedro reads the types of a node when a session begins, so each would have to be imported: here,
# all commands would wait for matplotlib
def plot_summary(verdicts: pd.DataFrame, model_verdicts: pd.DataFrame) -> Any:
    """One picture of all windows, a figure of matplotlib: scores, error and traffic."""
    return summary_picture.plot_summary(verdicts, model_verdicts)


def _window_labels(verdicts: pd.DataFrame) -> pd.Series:
    """Name windows by their start, and by the model version where there are several."""
    starts = pd.to_datetime(verdicts["window_start"], utc=True)
    labels = starts.dt.strftime(shortest_form(pd.DatetimeIndex(starts)))
    if len(verdicts["model_version"].unique()) > 1:
        labels = labels + " v" + verdicts["model_version"].astype(str)
    return labels
