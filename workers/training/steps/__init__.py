"""The training step and the evaluation of a model, compiled whole or layer by layer, and what they are made of."""

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
