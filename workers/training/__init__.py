"""One trial: optimizer step, training loop, budget meter, leak probes and the n-gram baseline."""

__all__ = [
    "budget_meter",
    "data_parallel",
    "device_stats",
    "flat_model",
    "leak_probes",
    "ngram_baseline",
    "optimizer",
    "phase_clock",
    "train_step",
    "training_loop",
    "trial",
]
