"""The search and everything a user does with its results: one package per subject.

`evolution` proposes candidates and `guided` chooses them better, `runs` trains and stores them, `results` ranks them,
`studies` retrain and compare them, `one_program` exports and runs one of them, `refinement` trains its weights,
looks inside and improves them, `doctor` tests the leak checks, `reports` makes tables, pages and figures, `dashboard`
shows runs in a browser, `tracking` logs them to experiment trackers, `sessions` starts and resumes searches, and
`simulation` runs them without training. Importing this package does not import JAX.
"""

__all__ = [
    "config",
    "dashboard",
    "doctor",
    "evolution",
    "guided",
    "one_program",
    "recovery",
    "refinement",
    "reports",
    "results",
    "runs",
    "sessions",
    "simulation",
    "studies",
    "tracking",
]
