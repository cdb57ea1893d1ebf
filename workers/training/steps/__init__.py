"""The training step and the evaluation of a model, compiled whole or layer by layer, and what they are made of."""

__all__ = [
    "batch_model",
    "choose_step",
    "data_parallel",
    "few_flops",
    "flat_model",
    "layerwise_step",
    "optimizer",
    "train_step",
]
