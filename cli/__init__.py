"""The command `primer-search`: a file for each group of commands, and `app`, which joins them and prints errors.

Importing this package imports nothing.
"""

__all__ = [
    "app",
    "dashboard",
    "data",
    "doctor",
    "errors",
    "options",
    "plugins",
    "programs",
    "recovery",
    "refine",
    "runs",
    "simulate",
    "studies",
    "tracking",
    "weights",
]
