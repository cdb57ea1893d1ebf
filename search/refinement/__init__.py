"""From a trained block to a better model: what its layers do, and which ranks of its matrices it can lose."""

__all__ = ["analysis_result", "held_out_text", "layer_analysis", "paired_difference"]
