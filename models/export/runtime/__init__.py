"""Functions and modules that an exported file may need in addition to JAX and Flax; `runtime_source` reads their text.

`functions` is for both APIs, `nnx_modules` and `linen_modules` for one each. Small divisors and operands of logarithms
are raised before the operation, as in `primitives.ops.op_arithmetic`, so that gradients stay finite. Decoding state is
in Flax's `cache` variables. A docstring must not contain the name of another definition, because the exporter counts
the name as a use.
"""

__all__ = ["functions", "linen_modules", "nnx_modules"]
