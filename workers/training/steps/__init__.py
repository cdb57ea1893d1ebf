"""The training step and the evaluation of a model, compiled whole or layer by layer, and what they are made of."""

__all__ = [
    "batch_model",
    "data_parallel",
    "flat_model",
    "layerwise_step",
    "objective_steps",
    "optimizer",
    "train_step",
]
