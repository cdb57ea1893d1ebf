"""Weights of one program: train them on demand, save them, continue their training, and generate text with them."""

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
