"""Results of a run read step by step, so that a page needs only what is new: totals, and a table to sort and filter."""

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
