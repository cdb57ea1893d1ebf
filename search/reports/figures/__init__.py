"""Figures of the HTML pages, drawn with plotly."""

__all__ = [
    "ablation_figure",
    "comparison_figure",
    "layered_layout",
    "lineage_graph",
    "plot_style",
    "prediction_figure",
    "program_graph",
    "program_outline",
    "run_figure",
    "svg_parts",
]
