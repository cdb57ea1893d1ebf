"""The search and everything a user does with its results: one module per command, one package per subject.

`evolution` proposes candidates, `runs` trains and stores them, `results` ranks them, `studies` retrain and compare
them, `doctor` tests the leak checks, `reports` makes tables, pages and figures, `dashboard` shows runs in a browser,
`tracking` logs them to experiment trackers, and `simulation` runs searches without training. Importing this package
does not import JAX.
"""

__all__ = [
    "check_program",
    "config",
    "dashboard",
    "doctor",
    "evolution",
    "export_block",
    "generate_text",
    "guided",
    "load_initial_programs",
    "reports",
    "results",
    "run_search",
    "runs",
    "session",
    "simulation",
    "studies",
    "tracking",
    "train_weights",
]
