"""Objectives of training: what a model learns to predict, as batches that depend on a seed and a step alone."""

__all__ = [
    "causal",
    "denoisers",
    "examples",
    "instruct",
    "mixture",
    "objective",
    "packing",
    "special_tokens",
    "ul2r",
]
