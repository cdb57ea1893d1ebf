"""Results of a run: leaderboard, lineage, predictions, statistics, confirmations and the scale ladder."""

__all__ = [
    "candidate_rows",
    "candidate_summary",
    "confirmation",
    "digest",
    "edits",
    "epoch_warning",
    "equal_time",
    "leaderboard",
    "leaderboard_rows",
    "leak_check_totals",
    "learning_curve",
    "lineage",
    "prediction_calibration",
    "program_reference",
    "scale_ladder",
    "selection",
    "speedup",
    "statistics",
]
