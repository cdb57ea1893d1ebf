"""From a block to a better model: its weights trained, what the layers do, and which ranks they can lose."""

__all__ = [
    "analysis_result",
    "held_out_text",
    "layer_analysis",
    "paired_difference",
    "rank_search",
    "refined_weights",
    "refinement_result",
    "saved_weights",
    "step_counter",
    "token_groups",
    "train_weights",
    "training_budget",
    "training_folder",
    "training_job",
    "training_objective",
    "training_options",
]
