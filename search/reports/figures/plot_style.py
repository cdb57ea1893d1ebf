"""Style of all figures: a plotly template, its colors, and the conversion of a figure to HTML."""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["BLUE", "GRAY", "INK", "LIGHT_GRAY", "ORANGE", "SERIES_COLORS", "escape_label", "figure_html"]

INK, BLUE, ORANGE, GRAY, LIGHT_GRAY = "#1f2933", "#2563a8", "#c2571a", "#7b8794", "#b8bfc7"
SERIES_COLORS = (
    "#52606d", BLUE, ORANGE, "#2f855a", "#8b3fa8", "#b7791f", "#0e7490", "#be185d", "#65731c", "#4c51bf",
)  # fmt: skip
_GRID = "#e4e7eb"


def figure_html(figure: Any, height: int, script: bool = True) -> str:
    """Return a figure in the common style as HTML.

    Args:
        figure: plotly figure.
        height: height in pixels; the width follows the page.
        script: whether to include plotly's script; a page needs it once.
    """
    figure.update_layout(template=_register_template(), height=height)
    return figure.to_html(full_html=False, include_plotlyjs=script, config={"displaylogo": False, "responsive": True})


def escape_label(text: str) -> str:
    """Return a text that plotly does not read as HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


@cache
def _register_template() -> str:
    import plotly.graph_objects as go
    import plotly.io

    axis = {
        "gridcolor": _GRID,
        "linecolor": _GRID,
        "tickcolor": _GRID,
        "ticks": "outside",
        "zeroline": False,
        "automargin": True,
    }
    plotly.io.templates["primer-search"] = go.layout.Template(
        layout={
            "margin": {"l": 64, "r": 16, "t": 44, "b": 52},
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "font": {"family": "system-ui, -apple-system, Segoe UI, sans-serif", "size": 13, "color": INK},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "xaxis": axis,
            "yaxis": axis,
        }
    )
    return "primer-search"
