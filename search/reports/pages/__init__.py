"""Reports as files: HTML pages of runs, ablations and comparisons, and the Markdown report of a run."""

__all__ = [
    "ablation_report",
    "comparison_report",
    "page",
    "run_markdown",
    "run_page",
]
