"""One trial, or one long training: compiled steps, training loop, budget meter, leak probes, saved states."""

__all__ = [
    "budget_meter",
    "device_stats",
    "leak_probes",
    "model_training",
    "ngram_baseline",
    "objective_steps",
    "phase_clock",
    "steps",
    "training_loop",
    "training_settings",
    "training_state",
    "trial",
]
