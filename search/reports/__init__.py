"""Tables, HTML pages and figures of runs and studies. Only commands import it."""

__all__ = [
    "ablation",
    "candidate_table",
    "comparison",
    "doctor_table",
    "figures",
    "leaderboard_table",
    "page",
    "phrases",
    "progress",
    "run_page",
    "scale_table",
    "stress_table",
]
