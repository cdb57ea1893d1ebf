"""Source text of what an exported module may need beside JAX and Flax; only what is used is written out.

The functions guard as `primitives.kernels` does: on the input of an operation, so that gradients stay finite.
"""

from __future__ import annotations

__all__ = ["CLASSES", "CONSTANTS", "FUNCTIONS"]

CONSTANTS = {
    "EPSILON": '''EPSILON = 1e-6
"""Smallest magnitude that a logarithm or a division sees."""
''',
    "KERNEL_INIT": '''KERNEL_INIT = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")
"""Dense kernels start normal with variance 1 / fan-in."""
''',
}

CLASSES = {
    "Scale": '''
class Scale(nnx.Module):
    """Multiplies by a learned vector: `shape` is `[*branches, width]`."""

    def __init__(self, *shape: int, dtype: DTypeLike | None, param_dtype: DTypeLike) -> None:
        self.scale = nnx.Param(jnp.ones(shape, param_dtype))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        x, scale = promote_dtype((x, self.scale[...]), dtype=self.dtype)
        return x * scale[..., None, :]
''',
    "Shift": '''
class Shift(nnx.Module):
    """Adds a learned vector: `shape` is `[*branches, width]`."""

    def __init__(self, *shape: int, dtype: DTypeLike | None, param_dtype: DTypeLike) -> None:
        self.bias = nnx.Param(jnp.zeros(shape, param_dtype))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        x, bias = promote_dtype((x, self.bias[...]), dtype=self.dtype)
        return x + bias[..., None, :]
''',
    "Affine": '''
class Affine(nnx.Module):
    """Multiplies by a learned vector, then adds another: `shape` is `[*branches, width]`."""

    def __init__(self, *shape: int, dtype: DTypeLike | None, param_dtype: DTypeLike) -> None:
        self.scale = nnx.Param(jnp.ones(shape, param_dtype))
        self.bias = nnx.Param(jnp.zeros(shape, param_dtype))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        x, scale, bias = promote_dtype((x, self.scale[...], self.bias[...]), dtype=self.dtype)
        return x * scale[..., None, :] + bias[..., None, :]
''',
    "CausalDepthwiseConv": '''
class CausalDepthwiseConv(nnx.Module):
    """Each channel by itself, over the last `kernel_size` positions: `shape` is `[*branches, width]`."""

    def __init__(self, *shape: int, kernel_size: int, dtype: DTypeLike | None, param_dtype: DTypeLike) -> None:
        taps = jnp.full((kernel_size, 1), 0.5 / kernel_size).at[-1].set(0.5)  # oldest position first
        self.kernel = nnx.Param(jnp.broadcast_to(taps, (*shape[:-1], kernel_size, shape[-1])).astype(param_dtype))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        x, taps = promote_dtype((x, self.kernel[...]), dtype=self.dtype)
        kernel_size, length = taps.shape[-2], x.shape[-2]
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(kernel_size - 1, 0), (0, 0)])
        y = taps[..., 0, None, :] * padded[..., :length, :]
        for tap in range(1, kernel_size):
            y = y + taps[..., tap, None, :] * padded[..., tap : tap + length, :]
        return y
''',
    "BranchedLinear": '''
class BranchedLinear(nnx.Module):
    """A dense layer without bias for each branch: `shape` is `[*branches, inputs, outputs]`."""

    def __init__(self, *shape: int, dtype: DTypeLike | None, param_dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        batch_axis = tuple(range(len(shape) - 2))
        init = nnx.initializers.variance_scaling(1.0, "fan_in", "normal", batch_axis=batch_axis)
        self.kernel = nnx.Param(init(rngs.params(), shape, param_dtype))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        x, kernel = promote_dtype((x, self.kernel[...]), dtype=self.dtype)
        return x @ kernel
''',
    "BranchedCausalConv": '''
class BranchedCausalConv(nnx.Module):
    """A causal convolution without bias for each branch: `shape` is `[*branches, kernel_size, inputs, outputs]`."""

    def __init__(self, *shape: int, dtype: DTypeLike | None, param_dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        batch_axis = tuple(range(len(shape) - 3))
        init = nnx.initializers.variance_scaling(1.0, "fan_in", "normal", batch_axis=batch_axis)
        self.kernel = nnx.Param(init(rngs.params(), shape, param_dtype))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        x, kernel = promote_dtype((x, self.kernel[...]), dtype=self.dtype)
        kernel_size, length = kernel.shape[-3], x.shape[-2]
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(kernel_size - 1, 0), (0, 0)])
        windows = jnp.concatenate([padded[..., tap : tap + length, :] for tap in range(kernel_size)], axis=-1)
        return windows @ kernel.reshape(*kernel.shape[:-3], -1, kernel.shape[-1])
''',
}
"""Modules by name, in the order they are written."""

FUNCTIONS = {
    "divide": '''
def divide(x: jax.Array, y: jax.Array) -> jax.Array:
    """x / y, with |y| at least EPSILON; the sign of y is kept, and that of 0 counts as positive."""
    return x / jnp.where(y < 0, jnp.minimum(y, -EPSILON), jnp.maximum(y, EPSILON))
''',
    "abs_root": '''
def abs_root(x: jax.Array) -> jax.Array:
    """The square root of |x|; value and gradient are 0 at 0."""
    magnitude = jnp.abs(x)
    zero = magnitude == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, magnitude)))
''',
    "log_abs": '''
def log_abs(x: jax.Array) -> jax.Array:
    """The logarithm of |x|, which counts as at least EPSILON."""
    return jnp.log(jnp.maximum(jnp.abs(x), EPSILON))
''',
    "reciprocal": '''
def reciprocal(x: jax.Array) -> jax.Array:
    """1 / x; value and gradient are 0 at 0."""
    nonzero = x != 0
    return jnp.where(nonzero, 1 / jnp.where(nonzero, x, 1), 0)
''',
    "below_maximum": '''
def below_maximum(x: jax.Array) -> jax.Array:
    """x less the largest of its row, so that its softmax cannot overflow."""
    return x - jax.lax.stop_gradient(jnp.max(x, axis=-1, keepdims=True))
''',
    "below_visible_maximum": '''
def below_visible_maximum(scores: jax.Array) -> jax.Array:
    """Scores less the largest that their position sees, so that their softmax cannot overflow; 0 for later keys."""
    length = scores.shape[-1]
    visible = jnp.tril(jnp.ones((length, length), bool))
    seen = jnp.where(visible, scores, -jnp.inf)
    return jnp.where(visible, scores - jax.lax.stop_gradient(jnp.max(seen, axis=-1, keepdims=True)), 0)
''',
    "split_branches": '''
def split_branches(x: jax.Array, *branches: int) -> jax.Array:
    """`[batch, length, branches * width]` as `[batch, *branches, length, width]`."""
    return jnp.moveaxis(x.reshape(*x.shape[:2], *branches, -1), 1, -2)
''',
    "join_branches": '''
def join_branches(x: jax.Array) -> jax.Array:
    """`[..., branches, length, width]` as `[..., length, branches * width]`."""
    x = jnp.moveaxis(x, -3, -2)
    return x.reshape(*x.shape[:-2], -1)
''',
}
"""Functions by name, in the order they are written."""
