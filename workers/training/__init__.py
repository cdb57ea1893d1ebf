"""One trial, or one long training: compiled steps, training loop, budget meter, probes, saved states."""

__all__ = [
    "budget_meter",
    "device_stats",
    "ngram_baseline",
    "objective_steps",
    "phase_clock",
    "relative_timer",
    "resumable_training",
    "steps",
    "training_loop",
    "training_settings",
    "training_state",
    "trial",
    "trial_probes",
]
