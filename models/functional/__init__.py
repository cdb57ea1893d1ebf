"""Arithmetic that the hand-written blocks in Flax NNX and Linen share: pure functions of arrays and sizes."""

__all__ = ["attention", "checks", "depthwise", "elementwise", "initializers", "rotary", "sharding"]
