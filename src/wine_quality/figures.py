"""Colours and layout that all Plotly figures share."""

from itertools import cycle

import plotly.graph_objects as go

from wine_quality.wines import WINE_TYPES

_PALETTE = ("#8c1c3a", "#c9a227", "#2b6c8f", "#6b5b95", "#3b7d4f", "#a0522d")
TYPE_COLOURS: dict[str, str] = dict(zip(WINE_TYPES, cycle(_PALETTE)))
ACCENT, MUTED, GOOD, BAD = "#8c1c3a", "#8a8f98", "#2e7d4f", "#c0392b"
UNDER_WHISKERS = 0.55
"""Opacity of a bar on which a dark whisker can be seen."""


def titled(figure: go.Figure, title: str, height: int = 480) -> go.Figure:
    """Give a figure its title and the project's plain layout, and return it."""
    # names touch neither bars nor the other axis' zero
    figure.update_xaxes(ticklabelstandoff=4).update_yaxes(ticklabelstandoff=6)
    return figure.update_layout(
        title={"text": title, "x": 0.02},
        template="plotly_white",
        height=height,
        margin={"l": 60, "r": 30, "t": 60, "b": 50},
        legend={"orientation": "h", "y": 1.02, "x": 1, "xanchor": "right", "yanchor": "bottom"},
    )
