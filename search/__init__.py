"""The search and everything a user does with its results: one package per subject.

    evolution    proposals, mutations, population and hurdles
    guided       guided search: models that choose parents and edits, and stop trainings
    runs         the controller that has candidates trained, and the store of a run
    sessions     start, resume and end of a search
    results      leaderboard, lineage, statistics and confirmations
    studies      retraining: compare, confirm, ablate and stress
    one_program  check and export of a program
    weights      weights of a program: trained, saved, continued, and text from them
    refinement   analysis of a trained model, and reduction of its ranks
    recovery     audit and repair of a run, and deletion of what it no longer needs
    doctor       self-test of the leak checks
    reports      tables, pages, figures and progress displays
    dashboard    runs in a browser
    tracking     runs in experiment trackers
    simulation   searches without training

Importing this package does not import JAX.
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
    "weights",
]
