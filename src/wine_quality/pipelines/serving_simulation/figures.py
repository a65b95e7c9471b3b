"""Figures of the serving simulation: how fast the wines were answered."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from wine_quality.figures import ACCENT, BAD, GOOD, titled
from wine_quality.traffic.sender import Batches
from wine_quality.traffic.streams import Stream

BINS = 40
MARGIN = 1.25
"""Times the shortest and the longest time that the axis reaches beyond them."""


def plot_delivery(receipts: Stream) -> go.Figure:
    """Wines by the time until their batch was answered, and wines a second in the course of it."""
    batches = Batches.of(receipts)
    figure = make_subplots(
        rows=2,
        cols=1,
        subplot_titles=("time until a wine's batch was answered", "wines a second"),
        vertical_spacing=0.2,
    )
    done = batches.acknowledged
    for name, chosen, colour in (("acknowledged", done, GOOD), ("failed", ~done, BAD)):
        if not chosen.any():
            continue
        latency, rows = batches.latency_ms[chosen], batches.rows[chosen]
        edges = np.geomspace(
            max(latency.min() / MARGIN, 1e-3), max(latency.max() * MARGIN, 2e-3), BINS + 1
        )
        wines, _ = np.histogram(latency, edges, weights=rows)
        figure.add_bar(
            x=np.sqrt(edges[:-1] * edges[1:]),
            y=wines,
            width=np.diff(edges),
            name=name,
            marker_color=colour,
            hovertemplate="%{y} wines at about %{x:.3g} ms",
            row=1,
            col=1,
        )
    seconds, rate = _throughput(batches)
    figure.add_scatter(
        x=seconds,
        y=rate,
        mode="lines",
        line={"color": ACCENT, "shape": "vh"},
        fill="tozeroy",
        showlegend=False,
        hovertemplate="%{y:,.0f} wines a second<extra></extra>",
        row=2,
        col=1,
    )
    figure.update_xaxes(title_text="milliseconds", type="log", row=1, col=1)
    figure.update_xaxes(title_text="seconds since the first batch", row=2, col=1)
    figure.update_yaxes(title_text="wines", row=1, col=1)
    figure.update_yaxes(rangemode="tozero", row=2, col=1)
    figure.update_layout(bargap=0, barmode="overlay")
    return titled(figure, f"Delivery of {int(batches.rows.sum()):,} wines", height=620)


def _throughput(batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    """Wines a second, each batch spread over the time in which it was under way.

    Returns:
        Ends of equal stretches, in seconds since the first batch; and wines a second in each.
    """
    done = batches.acknowledged
    begin, rows = batches.sent_at.min(), batches.rows[done]
    sent, took = batches.sent_at[done] - begin, batches.latency_ms[done].clip(1e-3) / 1000
    edges = np.linspace(0, max((batches.finished_at() - begin).max(), 1e-3), BINS + 1)
    arrived = np.array([(rows * ((edge - sent) / took).clip(0, 1)).sum() for edge in edges])
    return edges[1:], np.diff(arrived) / np.diff(edges)
