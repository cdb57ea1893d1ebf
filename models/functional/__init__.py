"""Pure functions: those that the hand-written blocks in Flax NNX and Linen share, and those of compiled blocks."""

__all__ = [
    "attention",
    "checks",
    "dense",
    "depthwise",
    "elementwise",
    "flax_initializers",
    "fused_idioms",
    "initial_values",
    "least_squares",
    "refuse_float16",
    "rotary",
    "sharding",
]
