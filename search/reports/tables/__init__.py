"""Forms of single tables: the leaderboard of several runs, its CSV and Markdown, costs of a program, checks."""

__all__ = ["doctor_table", "leaderboard_formats", "program_table", "run_leaderboards", "stress_table"]
