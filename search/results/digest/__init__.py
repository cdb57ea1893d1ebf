"""Digest of a run for the dashboard: totals and a table of candidates, updated by reading only new events."""

__all__ = [
    "ancestry_cache",
    "candidate_rows",
    "candidate_table",
    "hurdle_survival",
    "loss_history",
    "pareto_front",
    "proposal_counts",
    "row_query",
    "run_digest",
]
