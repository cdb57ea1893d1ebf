"""Studies retrain programs with several random seeds: compare, confirm (`retrain`), ablate, and the stress test."""

__all__ = [
    "ablation",
    "ablation_programs",
    "compare",
    "compared_programs",
    "retrain",
    "retrain_at_scale",
    "stress",
    "stress_result",
    "stressed_model",
    "study",
    "study_log",
    "study_queue",
]
