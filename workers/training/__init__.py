"""One trial, or one long training: optimizer step, training loop, budget meter, leak probes, saved states."""

__all__ = [
    "batch_model",
    "budget_meter",
    "data_parallel",
    "device_stats",
    "flat_model",
    "leak_probes",
    "model_training",
    "ngram_baseline",
    "objective_steps",
    "optimizer",
    "phase_clock",
    "train_step",
    "training_loop",
    "training_settings",
    "training_state",
    "trial",
]
