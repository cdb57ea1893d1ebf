"""Arithmetic of the hand-written blocks that is the same in Flax NNX and Linen: pure functions of arrays and sizes."""
