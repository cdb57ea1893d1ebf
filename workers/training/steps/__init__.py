"""The training step and the evaluation of a model, compiled as a whole or layer by layer, and their parts."""

__all__ = [
    "batch_model",
    "brief",
    "compiled_function",
    "data_parallel",
    "flat_model",
    "layerwise_step",
    "optimizer",
    "train_state",
    "train_step",
    "whole_step",
]
