"""Analysis and refinement of a trained model: what its layers do, and which ranks they can lose."""

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
