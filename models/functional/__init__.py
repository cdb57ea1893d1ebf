"""Functions and initializers that the hand-written blocks in Flax NNX and Linen share. They are pure."""

__all__ = ["attention", "checks", "depthwise", "elementwise", "initializers", "rotary", "sharding"]
