"""Figures of the comparison and of the model's errors."""

import pandas as pd
import plotly.graph_objects as go

from wine_quality.figures import ACCENT, MUTED, TYPE_COLOURS, titled
from wine_quality.pipelines.training.parameters import ComparisonParameters
from wine_quality.wines import PREDICTION, QUALITY, TYPE


def plot_comparison(comparison: pd.DataFrame, parameters: ComparisonParameters) -> go.Figure:
    """Bar chart of the candidates' scores, the best on top, with the spread over the folds."""
    metric = parameters.metric
    best = comparison["rank"] == 1
    figure = go.Figure(
        go.Bar(
            x=comparison[metric],
            y=comparison["candidate"].str.replace("_", " "),
            orientation="h",
            marker_color=best.map({True: ACCENT, False: MUTED}),
            error_x={"type": "data", "array": comparison[f"{metric}_std"]},
            text=comparison[metric].map("{:.3f}".format),
            textposition="inside",
            insidetextanchor="start",
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title=f"{metric.upper()} in points of quality (lower is better)")
    return titled(figure, "Candidates, cross-validated (bars: mean, whiskers: spread over folds)")


def plot_predictions(reference: pd.DataFrame) -> go.Figure:
    """Violins of the predictions for each quality that the tasters gave held-out wines."""
    figure = go.Figure()
    for wine_type, wines in reference.groupby(TYPE):
        figure.add_trace(
            go.Violin(
                x=wines[QUALITY],
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
    figure.update_xaxes(title="quality given by tasters", dtick=1)
    figure.update_yaxes(title="predicted quality")
    return titled(figure, f"Predictions for {len(reference):,} held-out wines")
