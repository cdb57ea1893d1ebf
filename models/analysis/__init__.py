"""Analysis of a trained model: activations, linearity of layers, ranks of matrices, losses of tokens."""

__all__ = [
    "activation_recorder",
    "finite_check",
    "linearity",
    "linearity_penalty",
    "projections",
    "rank_reduction",
    "residual_stream",
    "token_scores",
]
