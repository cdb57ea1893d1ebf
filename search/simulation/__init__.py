"""Simulated searches: the real controller, strategy and store, with invented trainings and a virtual clock."""

__all__ = [
    "copied_children",
    "found_program",
    "recorded_trainings",
    "simulate",
    "simulated_trainer",
    "simulation_summary",
    "simulation_table",
    "true_programs",
]
