"""Plotly figures of runs and studies, in one style."""

__all__ = ["ablation_figure", "comparison_figure", "run_figure"]
