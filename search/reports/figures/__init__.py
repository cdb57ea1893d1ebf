"""Figures of the HTML pages, drawn with plotly."""

__all__ = ["ablation_figure", "comparison_figure", "plot_style", "prediction_figure", "run_figure"]
