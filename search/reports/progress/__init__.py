"""Progress of searches, studies and trainings, as lines on the terminal."""

__all__ = ["search_progress", "study_progress", "training_progress"]
