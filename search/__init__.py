"""The search and everything a user does with its results: one package per subject.

`evolution` proposes candidates and `guided` chooses them better, `runs` trains and stores them, `results` ranks them,
`studies` retrain and compare them, `one_program` exports, trains and runs one of them, `doctor` tests the leak checks,
`reports` makes tables, pages and figures, `dashboard` shows runs in a browser, `tracking` logs them to experiment
trackers, and `simulation` runs searches without training. Importing this package does not import JAX.
"""

__all__ = [
    "config",
    "dashboard",
    "doctor",
    "evolution",
    "guided",
    "load_initial_programs",
    "one_program",
    "recovery",
    "reports",
    "results",
    "run_search",
    "runs",
    "session",
    "simulation",
    "studies",
    "tracking",
]
