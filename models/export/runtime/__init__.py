"""Functions and modules that an exported file may need besides JAX and Flax; `runtime_source` copies those it uses.

`functions` serves both APIs, `nnx_modules` and `linen_modules` serve one each. Guards act on the input of an operation,
as in `primitives.ops.op_arithmetic`, so that gradients stay finite. Decoding state is in Flax's `cache` variables.
A definition must not name another one in its docstring: the exporter counts that as a use.
"""

__all__ = ["functions", "linen_modules", "nnx_modules"]
