"""Progress of searches, studies and trainings on the terminal; plain lines elsewhere."""

__all__ = [
    "display",
    "search_progress",
    "sparkline",
    "step_progress",
    "study_progress",
    "training_progress",
    "work_progress",
]
