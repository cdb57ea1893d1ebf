"""Pure functions: those that the hand-written blocks in Flax NNX and Linen share, and those of compiled blocks."""

__all__ = [
    "attention",
    "checks",
    "dense",
    "depthwise",
    "elementwise",
    "float16",
    "fused_idioms",
    "initial_values",
    "initializers",
    "least_squares",
    "rotary",
    "sharding",
]
