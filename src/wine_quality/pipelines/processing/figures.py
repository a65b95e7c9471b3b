"""Figures of the accepted wines: what is missing, how values spread, what goes together."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wine_quality.figures import ACCENT, TYPE_COLOURS, titled
from wine_quality.wines import MEASUREMENT_NAMES, MEASUREMENTS, QUALITY, TYPE


def plot_missing_values(accepted_wines: pd.DataFrame) -> go.Figure:
    """Bar chart of missing values by column."""
    missing = accepted_wines[list(MEASUREMENT_NAMES)].isna().sum()
    figure = go.Figure(
        go.Bar(
            x=missing.to_numpy(),
            y=[name.replace("_", " ") for name in missing.index],
            orientation="h",
            marker_color=ACCENT,
            text=missing.map("{:,}".format),
            textposition="outside",
            cliponaxis=False,
        )
    )
    figure.update_yaxes(autorange="reversed").update_xaxes(title="wines without the value")
    return titled(figure, f"Missing values among {len(accepted_wines):,} wines")


def plot_box_plots(accepted_wines: pd.DataFrame) -> go.Figure:
    """Box plots of every measurement by wine type.

    The quartiles are computed here, so that the figure's size does not grow with the wines.
    Whiskers end at the 1st and 99th percentile.
    """
    columns = 4
    figure = make_subplots(
        rows=-(-len(MEASUREMENTS) // columns),
        cols=columns,
        subplot_titles=[m.label for m in MEASUREMENTS],
        vertical_spacing=0.1,
    )
    for position, measurement in enumerate(MEASUREMENTS):
        for wine_type, wines in accepted_wines.groupby(TYPE):
            low, q1, median, q3, high = (
                wines[measurement.name].quantile([0.01, 0.25, 0.5, 0.75, 0.99]).tolist()
            )
            box = go.Box(
                x=[wine_type],
                lowerfence=[low],
                q1=[q1],
                median=[median],
                q3=[q3],
                upperfence=[high],
                name=str(wine_type),
                marker_color=TYPE_COLOURS[str(wine_type)],
                showlegend=False,
            )
            figure.add_trace(box, row=position // columns + 1, col=position % columns + 1)
    figure.update_annotations(font_size=12)
    return titled(figure, "Measurements by wine type (whiskers: 1st to 99th percentile)", 780)


def plot_correlations(accepted_wines: pd.DataFrame) -> go.Figure:
    """Heat map of Spearman's rank correlations of the measurements and quality."""
    names = [*MEASUREMENT_NAMES, QUALITY]
    correlations = accepted_wines[names].corr(method="spearman").round(2)
    labels = [name.replace("_", " ") for name in names]
    figure = go.Figure(
        go.Heatmap(
            z=correlations.to_numpy(),
            x=labels,
            y=labels,
            zmin=-1,
            zmax=1,
            colorscale="RdBu_r",
            texttemplate="%{z:.2f}",
            colorbar={"title": {"text": "ρ", "side": "right"}},
        )
    )
    figure.update_yaxes(autorange="reversed")
    return titled(figure, "Rank correlations of measurements and quality", 640)
