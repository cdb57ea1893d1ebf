"""Flax Linen modules for exported files: norms, convolutions, running sums and decoding state."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike

from .functions import (
    RIDGE_START,
    abs_root,
    depthwise_init,
    divide,
    initial_array,
    last_in_text,
    last_inputs,
    on_branches,
    running_in_texts,
    solve_in_texts,
    tap_inputs,
    with_axes_of,
)

KERNEL_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
"""Dense kernels start from a normal distribution with variance 1 / fan-in."""


class Position(nn.Module):
    """Number of positions decoded so far."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if not (self.is_initializing() or self.has_variable("cache", "index")):
            raise ValueError("decode=True needs the cache that init(key, [batch, longest, width], decode=True) makes")
        index = self.variable("cache", "index", jnp.zeros, x.shape[:1], jnp.int32)
        if len(x) != len(index.value):
            raise ValueError(f"the cache is for {len(index.value)} sequences, x has {len(x)}; make another cache")
        start = index.value[0]  # all sequences are at the same position
        if not self.is_initializing():
            index.value += x.shape[1]
        return start


class History(nn.Module):
    """Cache: in decoding, store the new positions and return all so far, then zeros; else return the input."""

    @nn.compact
    def __call__(self, x: jax.Array, start: jax.Array | None) -> jax.Array:
        if start is None:
            return x
        values = self.variable("cache", "values", jnp.zeros, x.shape, x.dtype)
        if self.is_initializing():
            return x
        new, longest = x.shape[1], values.value.shape[1]
        if new > longest:
            raise ValueError(f"the cache has room for {longest} positions, x has {new}; make a longer cache")
        fits = start + new <= longest
        x = jnp.where(fits, x, jnp.nan)  # past the end of the cache: NaN rather than wrong values
        values.value = jax.lax.dynamic_update_slice_in_dim(values.value, x.astype(values.value.dtype), start, 1)
        return values.value.astype(x.dtype)


class GuardedNorm(nn.Module):
    """Layer norm if `centred`, else RMS norm, with a divisor of at least EPSILON; then a scale and a bias."""

    centred: bool
    use_scale: bool = True
    use_bias: bool = True
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x - jnp.mean(x, axis=-1, keepdims=True) if self.centred else x
        y = divide(x, abs_root(jnp.mean(jnp.square(x), axis=-1, keepdims=True)))
        if self.use_scale:
            y = y * with_axes_of(self.param("scale", nn.initializers.ones, x.shape[-1:], self.param_dtype), x)
        if self.use_bias:
            y = y + with_axes_of(self.param("bias", nn.initializers.zeros, x.shape[-1:], self.param_dtype), x)
        return y


class CausalDepthwiseConv(nn.Module):
    """Causal convolution of each channel separately, over `kernel_size` positions of `[batch, length, *features]`."""

    kernel_size: int
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, start: jax.Array | None = None, visibility: jax.Array | None = None) -> jax.Array:
        taps = self.param("kernel", depthwise_init, (self.kernel_size, *x.shape[2:]), self.param_dtype)
        x, taps = promote_dtype(x, taps, dtype=self.dtype)
        window = None
        if start is not None:
            shape = (x.shape[0], self.kernel_size - 1, *x.shape[2:])
            window = self.variable("cache", "window", jnp.zeros, shape, x.dtype)
        inputs = last_inputs(None if window is None else window.value, x, self.kernel_size)
        if window is not None and not self.is_initializing():
            window.value = inputs[:, x.shape[1] :].astype(window.value.dtype)
        read = tap_inputs(inputs, x.shape[1], start, visibility)
        return functools.reduce(jnp.add, map(jnp.multiply, taps[:, None, None], read))


class CausalConv(nn.Module):
    """Causal convolution that mixes channels; `equation` is the einsum of the stacked last inputs and the kernel."""

    equation: str
    shape: tuple[int, ...]
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, start: jax.Array | None = None, visibility: jax.Array | None = None) -> jax.Array:
        batch_axis = tuple(range(len(self.shape) - 3))
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", (-3, -2), -1, batch_axis)
        kernel = self.param("kernel", init, self.shape, self.param_dtype)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        kernel_size, length = self.shape[-3], x.shape[1]
        window = None
        if start is not None:
            shape = (x.shape[0], kernel_size - 1, *x.shape[2:])
            window = self.variable("cache", "window", jnp.zeros, shape, x.dtype)
        inputs = last_inputs(None if window is None else window.value, x, kernel_size)
        if window is not None and not self.is_initializing():
            window.value = inputs[:, length:].astype(window.value.dtype)
        delayed = jnp.stack(tap_inputs(inputs, length, start, visibility), axis=-2)
        return jnp.einsum(self.equation, delayed, kernel)


class RunningSum(nn.Module):
    """Cumulative sum over the positions of `[batch, length, *features]`."""

    @nn.compact
    def __call__(self, x: jax.Array, start: jax.Array | None, texts: jax.Array | None = None) -> jax.Array:
        total = running_in_texts(x, jnp.cumsum, 1, start, texts)
        if start is not None:
            kept = jnp.promote_types(x.dtype, jnp.float32)  # rounding at every step would add up
            last = self.variable("cache", "last", jnp.zeros, (x.shape[0], 1, *x.shape[2:]), kept)
            total = last_in_text(last.value, 0, x, start, texts) + total
            if not self.is_initializing():
                last.value = total[:, -1:].astype(last.value.dtype)
        return total.astype(x.dtype)


class RunningProduct(nn.Module):
    """Cumulative product over the positions of `[batch, length, *features]`."""

    @nn.compact
    def __call__(self, x: jax.Array, start: jax.Array | None, texts: jax.Array | None = None) -> jax.Array:
        product = running_in_texts(x, jnp.cumprod, 1, start, texts)
        if start is not None:
            kept = jnp.promote_types(x.dtype, jnp.float32)  # rounding at every step would add up
            last = self.variable("cache", "last", jnp.ones, (x.shape[0], 1, *x.shape[2:]), kept)
            product = last_in_text(last.value, 1, x, start, texts) * product
            if not self.is_initializing():
                last.value = product[:, -1:].astype(last.value.dtype)
        return product.astype(x.dtype)


class LeastSquares(nn.Module):
    """Least squares over the past: z with (sum of k k^T so far + diag(softplus(ridge) + 0.25)) z = q."""

    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, q: jax.Array, k: jax.Array, start: jax.Array | None, texts: jax.Array | None = None
    ) -> jax.Array:
        ridge = self.param("ridge", nn.initializers.constant(RIDGE_START), q.shape[2:], self.param_dtype)
        q, k, ridge = promote_dtype(q, k, ridge, dtype=self.dtype)
        sums = None
        if start is not None:
            shape = (q.shape[0], *q.shape[2:], q.shape[-1])
            sums = self.variable("cache", "sums", jnp.zeros, shape, jnp.promote_types(q.dtype, jnp.float32))
        z, after = solve_in_texts(q, k, ridge, None if sums is None else sums.value, start, texts)
        if sums is not None and not self.is_initializing():
            sums.value = after
        return z


class LearnedFunction(nn.Module):
    """A function of values `[batch, length, *features]` and of learned arrays, which it gets by their names.

    In decoding it keeps the last `window` inputs; if `window` is 0, its last output, which starts as `last`.
    """

    function: Any
    arrays: dict[str, tuple[str, tuple[int, ...]]]
    branches: int = 0
    features: tuple[int, ...] = ()
    window: int = 0
    last: float | None = None
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, *operands: jax.Array, start: jax.Array | None = None) -> jax.Array:
        count, arrays = len(operands), []
        for name, (begin, shape) in self.arrays.items():
            arrays.append(self.param(name, initial_array, shape, self.param_dtype, begin, self.branches))
        values = promote_dtype(*operands, *arrays, dtype=self.dtype)
        inputs, learned = values[:count], dict(zip(self.arrays, values[count:], strict=True))
        if start is None:
            return on_branches(self.function, inputs, learned)
        new, rows = inputs[0], self.window or 1
        dtype = new.dtype if self.window else jnp.promote_types(new.dtype, jnp.float32)
        kept = self.variable("cache", "kept", jnp.full, (new.shape[0], rows, *self.features), self.last or 0, dtype)
        x = jnp.concatenate([kept.value.astype(dtype), new.astype(dtype)], axis=1)
        y = on_branches(self.function, [x], learned)
        if not self.is_initializing():
            kept.value = (x if self.window else y)[:, -rows:].astype(kept.value.dtype)
        return y[:, rows:].astype(new.dtype)
