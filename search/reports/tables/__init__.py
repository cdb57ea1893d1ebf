"""Tables for the console: leaderboards, scales, predictions, programs, checks, and analyses of trained models."""

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
