"""Flax NNX modules for exported files: norms, convolutions, running sums and decoding state."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
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

KERNEL_INIT = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")
"""Dense kernels start from a normal distribution with variance 1 / fan-in."""


class Position(nnx.Module):
    """Number of positions decoded so far. It refuses an input that does not fit the cache, before any state changes."""

    def __init__(self) -> None:
        self.index: Any = nnx.data(None)
        self.room = (0, 0)

    def init_cache(self, batch: int, longest: int, dtype: DTypeLike) -> None:
        self.index, self.room = nnx.Cache(jnp.zeros((), jnp.int32)), (batch, longest)

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.index is None:
            raise ValueError("call init_cache((batch, longest, width)) before decode=True")
        if x.shape[0] != self.room[0] or not 0 < x.shape[1] <= self.room[1]:
            raise ValueError(f"the cache is for (batch, longest) = {self.room}, x is {x.shape}; call init_cache again")
        start = self.index[...]
        self.index[...] = start + x.shape[1]
        return start


class History(nnx.Module):
    """Cache: in decoding, store the new positions and return all so far, then zeros; else return the input."""

    def __init__(self, *features: int) -> None:
        self.features = features
        self.values: Any = nnx.data(None)

    def init_cache(self, batch: int, longest: int, dtype: DTypeLike) -> None:
        self.values = nnx.Cache(jnp.zeros((batch, longest, *self.features), dtype))

    def __call__(self, x: jax.Array, start: jax.Array | None) -> jax.Array:
        if start is None:
            return x
        fits = start + x.shape[1] <= self.values.shape[1]
        x = jnp.where(fits, x, jnp.nan)  # past the end of the cache: NaN rather than wrong values
        self.values[...] = jax.lax.dynamic_update_slice_in_dim(self.values[...], x.astype(self.values.dtype), start, 1)
        return self.values[...].astype(x.dtype)


class GuardedNorm(nnx.Module):
    """Layer norm if `centred`, else RMS norm, with a divisor of at least EPSILON; then a scale and a bias."""

    def __init__(
        self,
        width: int,
        *,
        centred: bool,
        use_scale: bool = True,
        use_bias: bool = True,
        dtype: DTypeLike | None,
        param_dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        self.scale = nnx.data(nnx.Param(jnp.ones(width, param_dtype)) if use_scale else None)
        self.bias = nnx.data(nnx.Param(jnp.zeros(width, param_dtype)) if use_bias else None)
        self.centred = centred

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x - jnp.mean(x, axis=-1, keepdims=True) if self.centred else x
        y = divide(x, abs_root(jnp.mean(jnp.square(x), axis=-1, keepdims=True)))
        y = y if self.scale is None else y * with_axes_of(self.scale[...], x)
        return y if self.bias is None else y + with_axes_of(self.bias[...], x)


class CausalDepthwiseConv(nnx.Module):
    """Causal convolution of each channel separately, over `kernel_size` positions of `[batch, length, *features]`."""

    def __init__(
        self, *features: int, kernel_size: int, dtype: DTypeLike | None, param_dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        self.kernel = nnx.Param(depthwise_init(rngs.params(), (kernel_size, *features), param_dtype))
        self.dtype = dtype
        self.window: Any = nnx.data(None)

    def init_cache(self, batch: int, longest: int, dtype: DTypeLike) -> None:
        kernel_size, *features = self.kernel.shape
        self.window = nnx.Cache(jnp.zeros((batch, kernel_size - 1, *features), dtype))

    def __call__(self, x: jax.Array, start: jax.Array | None = None, visibility: jax.Array | None = None) -> jax.Array:
        x, taps = promote_dtype((x, self.kernel[...]), dtype=self.dtype)
        inputs = last_inputs(None if start is None else self.window[...], x, len(taps))
        if start is not None:
            self.window[...] = inputs[:, x.shape[1] :].astype(self.window.dtype)
        read = tap_inputs(inputs, x.shape[1], start, visibility)
        return functools.reduce(jnp.add, map(jnp.multiply, taps[:, None, None], read))


class CausalConv(nnx.Module):
    """Causal convolution that mixes channels; `equation` is the einsum of the stacked last inputs and the kernel."""

    def __init__(
        self,
        equation: str,
        features: tuple[int, ...],
        shape: tuple[int, ...],
        *,
        dtype: DTypeLike | None,
        param_dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        batch_axis = tuple(range(len(shape) - 3))
        init = nnx.initializers.variance_scaling(1.0, "fan_in", "normal", (-3, -2), -1, batch_axis)
        self.kernel = nnx.Param(init(rngs.params(), shape, param_dtype))
        self.equation, self.features, self.dtype = equation, features, dtype
        self.window: Any = nnx.data(None)

    def init_cache(self, batch: int, longest: int, dtype: DTypeLike) -> None:
        self.window = nnx.Cache(jnp.zeros((batch, self.kernel.shape[-3] - 1, *self.features), dtype))

    def __call__(self, x: jax.Array, start: jax.Array | None = None, visibility: jax.Array | None = None) -> jax.Array:
        x, kernel = promote_dtype((x, self.kernel[...]), dtype=self.dtype)
        kernel_size, length = kernel.shape[-3], x.shape[1]
        inputs = last_inputs(None if start is None else self.window[...], x, kernel_size)
        if start is not None:
            self.window[...] = inputs[:, length:].astype(self.window.dtype)
        delayed = jnp.stack(tap_inputs(inputs, length, start, visibility), axis=-2)
        return jnp.einsum(self.equation, delayed, kernel)


class RunningSum(nnx.Module):
    """Cumulative sum over the positions of `[batch, length, *features]`."""

    def __init__(self, *features: int) -> None:
        self.features = features
        self.last: Any = nnx.data(None)

    def init_cache(self, batch: int, longest: int, dtype: DTypeLike) -> None:
        self.last = nnx.Cache(jnp.zeros((batch, 1, *self.features), dtype))

    def __call__(self, x: jax.Array, start: jax.Array | None, texts: jax.Array | None = None) -> jax.Array:
        total = running_in_texts(x, jnp.cumsum, 1, start, texts)
        if start is not None:
            last = last_in_text(self.last[...], 0, x, start, texts)
            total = last + total  # in the dtype of the cache if it is more precise
            self.last[...] = total[:, -1:].astype(self.last.dtype)
        return total.astype(x.dtype)


class RunningProduct(nnx.Module):
    """Cumulative product over the positions of `[batch, length, *features]`."""

    def __init__(self, *features: int) -> None:
        self.features = features
        self.last: Any = nnx.data(None)

    def init_cache(self, batch: int, longest: int, dtype: DTypeLike) -> None:
        self.last = nnx.Cache(jnp.ones((batch, 1, *self.features), dtype))

    def __call__(self, x: jax.Array, start: jax.Array | None, texts: jax.Array | None = None) -> jax.Array:
        product = running_in_texts(x, jnp.cumprod, 1, start, texts)
        if start is not None:
            last = last_in_text(self.last[...], 1, x, start, texts)
            product = last * product  # in the dtype of the cache if it is more precise
            self.last[...] = product[:, -1:].astype(self.last.dtype)
        return product.astype(x.dtype)


class LeastSquares(nnx.Module):
    """Least squares over the past: z with (sum of k k^T so far + diag(softplus(ridge) + 0.25)) z = q."""

    def __init__(self, *features: int, dtype: DTypeLike | None, param_dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.ridge = nnx.Param(jnp.full(features, RIDGE_START, param_dtype))
        self.dtype = dtype
        self.sums: Any = nnx.data(None)

    def init_cache(self, batch: int, longest: int, dtype: DTypeLike) -> None:
        shape = (batch, *self.ridge.shape, self.ridge.shape[-1])
        self.sums = nnx.Cache(jnp.zeros(shape, jnp.promote_types(dtype, jnp.float32)))

    def __call__(
        self, q: jax.Array, k: jax.Array, start: jax.Array | None, texts: jax.Array | None = None
    ) -> jax.Array:
        q, k, ridge = promote_dtype((q, k, self.ridge[...]), dtype=self.dtype)
        sums = None if start is None else self.sums[...]
        z, after = solve_in_texts(q, k, ridge, sums, start, texts)
        if start is not None:
            self.sums[...] = after
        return z


class LearnedFunction(nnx.Module):
    """A function of values `[batch, length, *features]` and of learned arrays, which it gets by their names.

    In decoding it keeps the last `window` inputs; if `window` is 0, its last output, which starts as `last`.
    """

    def __init__(
        self,
        function: Any,
        arrays: dict[str, tuple[str, tuple[int, ...]]],
        *,
        branches: int = 0,
        features: tuple[int, ...] = (),
        window: int = 0,
        last: float | None = None,
        dtype: DTypeLike | None,
        param_dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        for name, (start, shape) in arrays.items():
            setattr(self, name, nnx.Param(initial_array(rngs.params(), shape, param_dtype, start, branches)))
        self.function, self.names, self.dtype = function, tuple(arrays), dtype
        self.features, self.window, self.last = features, window, last
        self.kept: Any = nnx.data(None)

    def init_cache(self, batch: int, longest: int, dtype: DTypeLike) -> None:
        if self.features:
            self.kept = nnx.Cache(jnp.full((batch, self.window or 1, *self.features), self.last or 0, dtype))

    def __call__(self, *operands: jax.Array, start: jax.Array | None = None) -> jax.Array:
        count, arrays = len(operands), [getattr(self, name)[...] for name in self.names]
        values = promote_dtype((*operands, *arrays), dtype=self.dtype)
        inputs, learned = values[:count], dict(zip(self.names, values[count:], strict=True))
        if start is None:
            return on_branches(self.function, inputs, learned)
        dtype = inputs[0].dtype if self.window else jnp.promote_types(self.kept.dtype, inputs[0].dtype)
        x = jnp.concatenate([self.kept[...].astype(dtype), inputs[0].astype(dtype)], axis=1)
        y = on_branches(self.function, [x], learned)
        rows = self.kept.shape[1]
        self.kept[...] = (x if self.window else y)[:, -rows:].astype(self.kept.dtype)
        return y[:, rows:].astype(inputs[0].dtype)
