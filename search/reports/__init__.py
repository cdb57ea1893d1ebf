"""Tables, HTML pages, figures and progress displays of runs and studies."""

__all__ = [
    "ablation",
    "candidate_details",
    "comparison",
    "console",
    "figures",
    "formatting",
    "leaderboard_table",
    "page",
    "phrases",
    "prediction_table",
    "progress",
    "run_markdown",
    "run_page",
    "scale_table",
    "tables",
]
