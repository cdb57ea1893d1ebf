"""Pure functions of compiled blocks, and pure functions that the hand-written NNX and Linen blocks share."""

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
