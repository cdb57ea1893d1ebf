"""Studies retrain programs with several random seeds: compare, confirm, ablate and stress."""

__all__ = [
    "ablation",
    "ablation_programs",
    "compare",
    "compared_programs",
    "comparison_result",
    "confirm",
    "confirm_at_scale",
    "end_of_run",
    "final_stages",
    "stress",
    "stress_result",
    "stressed_model",
    "study",
    "study_log",
    "study_queue",
    "training_time",
]
