"""Forms of single tables: leaderboards of several runs, costs of a program, checks, and what is inside a model."""

__all__ = [
    "analysis_table",
    "doctor_table",
    "leaderboard_formats",
    "leaderboard_table",
    "prediction_table",
    "program_table",
    "refinement_table",
    "run_leaderboards",
    "scale_table",
    "stress_table",
]
