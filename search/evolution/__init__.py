"""Regularized evolution (Real et al. 2019) over programs: mutations, population, hurdles. Pure: no I/O, no training."""

__all__ = [
    "best_candidate",
    "candidate",
    "edit_kinds",
    "evolution",
    "hurdles",
    "initial_programs",
    "paper_mutations",
    "population",
    "program_edits",
    "proposals",
    "random_draws",
    "random_programs",
    "search_strategy",
    "trial_seeds",
    "vocabulary",
]
