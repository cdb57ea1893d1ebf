"""Progress of searches, studies and trainings on the terminal; plain lines elsewhere."""

__all__ = ["display", "search_progress", "sparkline", "study_progress", "training_progress"]
