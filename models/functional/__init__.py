"""Arithmetic that the hand-written blocks in Flax NNX and Linen share: pure functions of arrays and sizes."""
