"""What a run found: leaderboard, lineage, statistics, confirmations and the ladder of model scales."""

__all__ = [
    "candidate_summary",
    "confirmation",
    "leaderboard",
    "leaderboard_rows",
    "leak_check_totals",
    "lineage",
    "program_reference",
    "scale_ladder",
    "speedup",
    "statistics",
]
