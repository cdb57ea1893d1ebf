"""Weights of one program: trained on demand, saved, continued, and text generated with them."""

__all__ = [
    "generate_text",
    "held_out_text",
    "saved_weights",
    "train_weights",
    "training_budget",
    "training_folder",
    "training_job",
    "training_objective",
    "training_options",
]
