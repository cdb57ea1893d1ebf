"""Guided search: live mutations, merges, and the models that choose parents, stop trainings and price steps."""

__all__ = [
    "edit_choice",
    "edit_model",
    "extrapolation",
    "guided_search",
    "linear_model",
    "live_code",
    "live_mutations",
    "make_strategy",
    "measurements",
    "price",
    "recombination",
    "stop_rule",
]
