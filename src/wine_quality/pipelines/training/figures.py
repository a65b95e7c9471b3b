"""Figures of the comparison and of the model's errors."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wine_quality.figures import ACCENT, MUTED, TYPE_COLOURS, UNDER_WHISKERS, titled
from wine_quality.pipelines.training.parameters import ComparisonParameters
from wine_quality.wines import (
    PREDICTION,
    QUALITY,
    QUALITY_STEP,
    QUALITY_UNIT,
    TYPE,
    quality_classes,
)

CLOSE = "#c48a9b"
"""Of candidates that the folds do not tell from the best."""


def plot_comparison(comparison: pd.DataFrame, parameters: ComparisonParameters) -> go.Figure:
    """Scores of the candidates, the best on top, and how far each lies behind the best."""
    metric = parameters.metric
    names = comparison["candidate"].str.replace("_", " ")
    best = comparison["rank"] == 1
    # the folds do not tell these from the best
    close = comparison["behind_low"] <= 0
    colours = np.select([best, close], [ACCENT, CLOSE], MUTED).tolist()
    figure = make_subplots(
        cols=2,
        shared_yaxes=True,
        column_widths=[0.6, 0.4],
        horizontal_spacing=0.04,
        subplot_titles=[
            "mean, all wines and by type",
            "behind the best, same folds, 95 % interval",
        ],
    )
    bars = go.Bar(
        x=comparison[metric],
        y=names,
        orientation="h",
        name="all wines",
        marker={"color": colours, "opacity": UNDER_WHISKERS},
        error_x={"type": "data", "array": comparison[f"{metric}_std"], "color": "#222"},
        text=comparison[metric].map("{:.3f}".format),
        textposition="inside",
        insidetextanchor="start",
        insidetextfont={"color": "#222"},
        showlegend=False,
    )
    figure.add_trace(bars, row=1, col=1)
    for wine_type, colour in TYPE_COLOURS.items():
        points = go.Scatter(
            x=comparison[f"{metric}_{wine_type}"],
            y=names,
            mode="markers",
            name=wine_type,
            # the types on lines of their own, above and below the whisker
            orientation="h",
            offsetgroup=wine_type,
            marker={
                "color": colour,
                "size": 10,
                "symbol": "diamond",
                "line": {"width": 1.5, "color": "white"},
            },
        )
        figure.add_trace(points, row=1, col=1)
    others = comparison[~best]
    gaps = go.Scatter(
        x=others["behind"],
        y=names[~best],
        mode="markers",
        name="behind the best",
        marker={"color": np.array(colours)[~best].tolist(), "size": 10},
        error_x={"type": "data", "array": others["behind_high"] - others["behind"]},
        showlegend=False,
    )
    figure.add_trace(gaps, row=1, col=2)
    figure.add_vline(x=0, line={"color": ACCENT, "dash": "dot"}, row=1, col=2)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title=f"{metric.upper()} in {QUALITY_UNIT} (lower is better)", col=1)
    figure.update_xaxes(title=f"difference of the {metric.upper()}", col=2)
    figure = titled(figure, "Candidates, cross-validated (whiskers: spread over folds)", 520)
    figure.update_annotations(font_size=13)
    # below the title, the subplots' own titles stand where the legend would
    return figure.update_layout(
        scattermode="group",
        barmode="overlay",
        legend={"y": -0.2, "yanchor": "top"},
        margin={"t": 90, "b": 90},
    )


def plot_predictions(reference: pd.DataFrame) -> go.Figure:
    """Violins of the predictions for each quality that the tasters gave held-out wines."""
    figure = go.Figure()
    for wine_type, wines in reference.groupby(TYPE):
        figure.add_trace(
            go.Violin(
                x=quality_classes(wines[QUALITY]),
                y=wines[PREDICTION].round(3),
                name=str(wine_type),
                line_color=TYPE_COLOURS[str(wine_type)],
                points=False,
                meanline_visible=True,
            )
        )
    low, high = reference[QUALITY].min(), reference[QUALITY].max()
    figure.add_trace(
        go.Scatter(
            x=[low, high],
            y=[low, high],
            mode="lines",
            name="exact",
            line={"color": MUTED, "dash": "dot"},
        )
    )
    figure.update_layout(violinmode="group")
    figure.update_xaxes(title=f"{QUALITY} given", dtick=QUALITY_STEP)
    figure.update_yaxes(title=f"predicted {QUALITY}")
    return titled(figure, f"Predictions for {len(reference):,} held-out wines")


def plot_residuals(reference: pd.DataFrame) -> go.Figure:
    """Prediction less quality over the prediction; a good model leaves no shape but the stripes."""
    figure = go.Figure()
    for wine_type, wines in reference.groupby(TYPE):
        figure.add_trace(
            go.Scatter(
                x=wines[PREDICTION].round(3),
                y=(wines[PREDICTION] - wines[QUALITY]).round(3),
                mode="markers",
                name=str(wine_type),
                marker={"color": TYPE_COLOURS[str(wine_type)], "size": 5, "opacity": 0.45},
                customdata=wines[QUALITY],
                hovertemplate="predicted %{x:.2f}, given %{customdata}, residual %{y:+.2f}",
            )
        )
    figure.add_hline(y=0, line={"color": MUTED, "dash": "dot"})
    figure.update_xaxes(title=f"predicted {QUALITY}")
    figure.update_yaxes(title=f"residual: predicted less given ({QUALITY_UNIT})")
    return titled(figure, "Residuals of the held-out wines (each stripe is one given quality)")


def plot_quality_errors(quality_errors: pd.DataFrame) -> go.Figure:
    """Mean absolute error for each quality by type, and the bias over all."""
    figure = go.Figure()
    for wine_type, colour in TYPE_COLOURS.items():
        rows = quality_errors[quality_errors[TYPE] == wine_type]
        figure.add_trace(
            go.Bar(
                x=rows[QUALITY],
                y=rows["mae"],
                name=f"MAE {wine_type}",
                marker_color=colour,
                customdata=rows["wines"],
                hovertemplate="quality %{x}: MAE %{y:.2f}, %{customdata:,} wines",
            )
        )
    rows = quality_errors[quality_errors[TYPE] == "all"]
    figure.add_trace(
        go.Scatter(
            x=rows[QUALITY],
            y=rows["bias"],
            mode="lines+markers",
            name="bias, all types",
            line={"color": "#333"},
        )
    )
    wines = quality_errors.pivot_table("wines", QUALITY, TYPE, fill_value=0, aggfunc="sum")
    numbers = wines.reindex(columns=list(TYPE_COLOURS), fill_value=0).itertuples(name=None)
    figure.update_xaxes(
        title=f"{QUALITY} given, and held-out wines: {', '.join(TYPE_COLOURS)}",
        tickvals=wines.index,
        ticktext=[
            f"{quality:g}<br>{', '.join(f'{n:,.0f}' for n in of)}" for quality, *of in numbers
        ],
    )
    figure.update_yaxes(title=QUALITY_UNIT, zerolinecolor=MUTED)
    return titled(figure, "Error by quality")


def plot_importance(importance: pd.DataFrame) -> go.Figure:
    """Rise of the error without what each input tells."""
    figure = go.Figure(
        go.Bar(
            x=importance["increase"],
            y=importance["input"].map(_label),
            orientation="h",
            marker={"color": ACCENT, "opacity": UNDER_WHISKERS},
            error_x={"type": "data", "array": importance["spread"], "color": "#222"},
        )
    )
    # lines lead from the names to the bars where some inputs lower the error
    figure.update_yaxes(autorange="reversed", showgrid=True)
    figure.update_xaxes(title=f"rise of the mean absolute error ({QUALITY_UNIT})")
    note = "Inputs that tell the same share their importance."
    figure.add_annotation(
        text=note, x=1, y=0, xref="paper", yref="paper", showarrow=False, xanchor="right"
    )
    return titled(figure, "Permutation importance on held-out wines")


def plot_learning_curve(learning_curve: pd.DataFrame) -> go.Figure:
    """Error on the wines fitted on and on others, by the number of wines fitted on."""
    figure = go.Figure()
    for column, name, colour in (
        ("validation_mae", "other wines", ACCENT),
        ("training_mae", "wines fitted on", MUTED),
    ):
        figure.add_trace(
            go.Scatter(
                x=learning_curve["wines"],
                y=learning_curve[column],
                mode="lines+markers",
                name=name,
                line={"color": colour},
            )
        )
    figure.update_xaxes(title="training wines", rangemode="tozero")
    figure.update_yaxes(title=f"mean absolute error ({QUALITY_UNIT})", rangemode="tozero")
    return titled(figure, "Learning curve: would more wines help?")


def collect_figures(*figures: go.Figure) -> str:
    """Put figures into one HTML page that opens without a network: the script is in it, once."""
    first, *others = figures
    parts = [first.to_html(full_html=False, include_plotlyjs=True)]
    parts += [figure.to_html(full_html=False, include_plotlyjs=False) for figure in others]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Training</title>'
        "</head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _label(name: str) -> str:
    return name.replace("_", " ")
