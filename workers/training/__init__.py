"""One trial, or one long training: compiled steps, training loop, budget meter, probes, saved states."""

__all__ = [
    "budget_meter",
    "device_stats",
    "model_training",
    "ngram_baseline",
    "objective_steps",
    "phase_clock",
    "relative_timer",
    "steps",
    "training_loop",
    "training_settings",
    "training_state",
    "trial",
    "trial_probes",
]
