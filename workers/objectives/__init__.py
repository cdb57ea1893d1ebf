"""Training objectives: what a model learns to predict, in batches that depend only on a seed and a step."""

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
