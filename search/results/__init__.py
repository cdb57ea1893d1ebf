"""Results of a run: leaderboard, lineage, predictions, statistics, confirmations and the scale ladder."""

__all__ = [
    "candidate_summary",
    "confirmation",
    "digest",
    "edits",
    "equal_time",
    "leaderboard",
    "leaderboard_rows",
    "learning_curve",
    "lineage",
    "program_reference",
    "scale_ladder",
    "selection",
    "speedup",
    "statistics",
    "trust",
]
