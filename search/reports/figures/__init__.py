"""Figures: interactive ones of the HTML pages (plotly), drawings as SVG, and plots as files (matplotlib)."""

__all__ = [
    "ablation_figure",
    "analysis_figure",
    "comparison_figure",
    "figure_files",
    "layered_layout",
    "lineage_graph",
    "plot_style",
    "prediction_figure",
    "program_drawing",
    "program_outline",
    "refinement_figure",
    "run_figure",
    "static_figures",
    "static_style",
    "svg_parts",
    "training_points",
]
