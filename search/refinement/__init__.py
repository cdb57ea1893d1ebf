"""Analysis of the layers of a trained model, and refinement of the model by lower ranks of its matrices."""

__all__ = [
    "analysis_result",
    "layer_analysis",
    "paired_difference",
    "rank_search",
    "refined_weights",
    "refinement_result",
    "step_counter",
    "token_groups",
]
