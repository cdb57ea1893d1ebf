"""From a trained block to a better model: what its layers do, and which ranks of its matrices it can lose."""

__all__ = ["held_out_text"]
