"""What a run found: leaderboard, lineage, statistics, confirmations and the ladder of model scales."""

__all__ = [
    "candidate_summary",
    "confirmation",
    "leaderboard",
    "leak_check_totals",
    "program_reference",
    "scale_ladder",
    "speedup",
    "statistics",
]
