"""Trust in a run: its leak checks, its predictions, and how often its text was read."""

__all__ = ["epoch_warning", "leak_check_totals", "prediction_calibration"]
