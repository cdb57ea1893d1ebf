"""Source text of what an exported file may need beside JAX and Flax; only what is used is written out.

Functions are the same for both APIs; modules are written for each. They guard as `primitives.kernels` does: on the
input of an operation, so that gradients stay finite. What decoding keeps is in variables of Flax's kind `cache`.
"""

from __future__ import annotations

__all__ = ["CONSTANTS", "FUNCTIONS", "LINEN_CLASSES", "NNX_CLASSES"]

CONSTANTS = {
    "EPSILON": '''EPSILON = 1e-6
"""Smallest magnitude that a logarithm or a division sees."""
''',
    "KERNEL_INIT": '''KERNEL_INIT = {flax}.initializers.variance_scaling(1.0, "fan_in", "normal")
"""Dense kernels start normal with variance 1 / fan-in."""
''',
}

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
    "causal_mask": '''
def causal_mask(scores: jax.Array, start: jax.Array | None = None) -> jax.Array:
    """Which keys each query may see: `[queries, keys]`. Queries are at `start` (or 0) and on, keys at 0 and on."""
    queries, keys = scores.shape[-2:]
    return jnp.arange(keys) <= (0 if start is None else start) + jnp.arange(queries)[:, None]
''',
    "rows": '''
def rows(x: jax.Array, axis: int, count: int, start: jax.Array | None) -> jax.Array:
    """The part of all positions' values that belongs to the `count` positions at `start` and on."""
    return x if start is None else jax.lax.dynamic_slice_in_dim(x, start, count, axis)
''',
    "into_branches": '''
def into_branches(x: jax.Array, *branches: int) -> jax.Array:
    """`[..., width]` as `[..., *branches, width]`: each branch sees the same."""
    *outer, width = x.shape
    return jnp.broadcast_to(x.reshape(*outer, *[1] * len(branches), width), (*outer, *branches, width))
''',
    "join_branches": '''
def join_branches(x: jax.Array) -> jax.Array:
    """`[..., branches, width]` as `[..., branches * width]`."""
    return x.reshape(*x.shape[:-2], -1)
''',
    "last_inputs": '''
def last_inputs(window: jax.Array | None, x: jax.Array, kernel_size: int) -> jax.Array:
    """x after the `kernel_size - 1` positions before it: zeros, or in decoding the last that were seen."""
    if window is None:
        return jnp.pad(x, [(0, 0), (kernel_size - 1, 0)] + [(0, 0)] * (x.ndim - 2))
    return jnp.concatenate([window.astype(x.dtype), x], axis=1)
''',
    "depthwise_init": '''
def depthwise_init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """0.5 for the current position, 0.5 / kernel_size for earlier ones; the first axis is time, oldest first."""
    taps = jnp.full(shape[0], 0.5 / shape[0]).at[-1].set(0.5)
    return jnp.broadcast_to(taps.reshape(-1, *[1] * (len(shape) - 1)), shape).astype(dtype)
''',
}
"""Functions by name, in the order they are written."""

NNX_CLASSES = {
    "Position": '''
class Position(nnx.Module):
    """How many positions earlier calls decoded; refuses inputs that the cache is not for, before anything changes."""

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
''',
    "History": '''
class History(nnx.Module):
    """In decoding: takes `[batch, new, *features]`, gives all positions so far, later ones 0. Else the identity."""

    def __init__(self, *features: int) -> None:
        self.features = features
        self.values: Any = nnx.data(None)

    def init_cache(self, batch: int, longest: int, dtype: DTypeLike) -> None:
        self.values = nnx.Cache(jnp.zeros((batch, longest, *self.features), dtype))

    def __call__(self, x: jax.Array, start: jax.Array | None) -> jax.Array:
        if start is None:
            return x
        fits = start + x.shape[1] <= self.values.shape[1]
        x = jnp.where(fits, x, jnp.nan)  # better no number than a wrong one
        self.values[...] = jax.lax.dynamic_update_slice_in_dim(self.values[...], x.astype(self.values.dtype), start, 1)
        return self.values[...].astype(x.dtype)
''',
    "GuardedNorm": '''
class GuardedNorm(nnx.Module):
    """x over its deviation, at least EPSILON, or (not centred) over its root mean square; then a scale and a bias."""

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
        y = y if self.scale is None else y * self.scale[...].astype(x.dtype)
        return y if self.bias is None else y + self.bias[...].astype(x.dtype)
''',
    "CausalDepthwiseConv": '''
class CausalDepthwiseConv(nnx.Module):
    """Each channel by itself, over the last `kernel_size` positions: `[batch, length, *features]` to the same."""

    def __init__(
        self, *features: int, kernel_size: int, dtype: DTypeLike | None, param_dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        self.kernel = nnx.Param(depthwise_init(rngs.params(), (kernel_size, *features), param_dtype))
        self.dtype = dtype
        self.window: Any = nnx.data(None)

    def init_cache(self, batch: int, longest: int, dtype: DTypeLike) -> None:
        kernel_size, *features = self.kernel.shape
        self.window = nnx.Cache(jnp.zeros((batch, kernel_size - 1, *features), dtype))

    def __call__(self, x: jax.Array, start: jax.Array | None = None) -> jax.Array:
        x, taps = promote_dtype((x, self.kernel[...]), dtype=self.dtype)
        inputs = last_inputs(None if start is None else self.window[...], x, len(taps))
        if start is not None:
            self.window[...] = inputs[:, x.shape[1] :].astype(self.window.dtype)
        return functools.reduce(jnp.add, (tap * inputs[:, i : i + x.shape[1]] for i, tap in enumerate(taps)))
''',
    "CausalConv": '''
class CausalConv(nnx.Module):
    """A dense layer over the last positions; `equation` says how they, side by side, meet the kernel."""

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

    def __call__(self, x: jax.Array, start: jax.Array | None = None) -> jax.Array:
        x, kernel = promote_dtype((x, self.kernel[...]), dtype=self.dtype)
        kernel_size, length = kernel.shape[-3], x.shape[1]
        inputs = last_inputs(None if start is None else self.window[...], x, kernel_size)
        if start is not None:
            self.window[...] = inputs[:, length:].astype(self.window.dtype)
        delayed = jnp.stack([inputs[:, delay : delay + length] for delay in range(kernel_size)], axis=-2)
        return jnp.einsum(self.equation, delayed, kernel)
''',
    "RunningSum": '''
class RunningSum(nnx.Module):
    """The sum over all positions so far: `[batch, length, *features]` to the same."""

    def __init__(self, *features: int) -> None:
        self.features = features
        self.last: Any = nnx.data(None)

    def init_cache(self, batch: int, longest: int, dtype: DTypeLike) -> None:
        self.last = nnx.Cache(jnp.zeros((batch, 1, *self.features), dtype))

    def __call__(self, x: jax.Array, start: jax.Array | None) -> jax.Array:
        total = jnp.cumsum(x, axis=1)
        if start is not None:
            total = self.last[...] + total  # in the cache's type, if that is the finer
            self.last[...] = total[:, -1:].astype(self.last.dtype)
        return total.astype(x.dtype)
''',
    "RunningProduct": '''
class RunningProduct(nnx.Module):
    """The product over all positions so far: `[batch, length, *features]` to the same."""

    def __init__(self, *features: int) -> None:
        self.features = features
        self.last: Any = nnx.data(None)

    def init_cache(self, batch: int, longest: int, dtype: DTypeLike) -> None:
        self.last = nnx.Cache(jnp.ones((batch, 1, *self.features), dtype))

    def __call__(self, x: jax.Array, start: jax.Array | None) -> jax.Array:
        product = jnp.cumprod(x, axis=1)
        if start is not None:
            product = self.last[...] * product  # in the cache's type, if that is the finer
            self.last[...] = product[:, -1:].astype(self.last.dtype)
        return product.astype(x.dtype)
''',
}
"""NNX modules by name, in the order they are written."""

LINEN_CLASSES = {
    "Position": '''
class Position(nn.Module):
    """How many positions earlier calls decoded."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if not (self.is_initializing() or self.has_variable("cache", "index")):
            raise ValueError("decode=True needs the cache that init(key, [batch, longest, width], decode=True) makes")
        index = self.variable("cache", "index", jnp.zeros, x.shape[:1], jnp.int32)
        if len(x) != len(index.value):
            raise ValueError(f"the cache is for {len(index.value)} sequences, x has {len(x)}; make one of that batch")
        start = index.value[0]  # sequences go in step
        if not self.is_initializing():
            index.value += x.shape[1]
        return start
''',
    "History": '''
class History(nn.Module):
    """In decoding: takes `[batch, new, *features]`, gives all positions so far, later ones 0. Else the identity."""

    @nn.compact
    def __call__(self, x: jax.Array, start: jax.Array | None) -> jax.Array:
        if start is None:
            return x
        values = self.variable("cache", "values", jnp.zeros, x.shape, x.dtype)
        if self.is_initializing():
            return x
        new, longest = x.shape[1], values.value.shape[1]
        if new > longest:
            raise ValueError(f"the cache has room for {longest} positions, x has {new}; make a longer one")
        fits = start + new <= longest
        x = jnp.where(fits, x, jnp.nan)  # better no number than a wrong one
        values.value = jax.lax.dynamic_update_slice_in_dim(values.value, x.astype(values.value.dtype), start, 1)
        return values.value.astype(x.dtype)
''',
    "GuardedNorm": '''
class GuardedNorm(nn.Module):
    """x over its deviation, at least EPSILON, or (not centred) over its root mean square; then a scale and a bias."""

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
            y = y * self.param("scale", nn.initializers.ones, x.shape[-1:], self.param_dtype).astype(x.dtype)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, x.shape[-1:], self.param_dtype).astype(x.dtype)
        return y
''',
    "CausalDepthwiseConv": '''
class CausalDepthwiseConv(nn.Module):
    """Each channel by itself, over the last `kernel_size` positions: `[batch, length, *features]` to the same."""

    kernel_size: int
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, start: jax.Array | None = None) -> jax.Array:
        taps = self.param("kernel", depthwise_init, (self.kernel_size, *x.shape[2:]), self.param_dtype)
        x, taps = promote_dtype(x, taps, dtype=self.dtype)
        window = None
        if start is not None:
            shape = (x.shape[0], self.kernel_size - 1, *x.shape[2:])
            window = self.variable("cache", "window", jnp.zeros, shape, x.dtype)
        inputs = last_inputs(None if window is None else window.value, x, self.kernel_size)
        if window is not None and not self.is_initializing():
            window.value = inputs[:, x.shape[1] :].astype(window.value.dtype)
        return functools.reduce(jnp.add, (tap * inputs[:, i : i + x.shape[1]] for i, tap in enumerate(taps)))
''',
    "CausalConv": '''
class CausalConv(nn.Module):
    """A dense layer over the last positions; `equation` says how they, side by side, meet the kernel."""

    equation: str
    shape: tuple[int, ...]
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, start: jax.Array | None = None) -> jax.Array:
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
        delayed = jnp.stack([inputs[:, delay : delay + length] for delay in range(kernel_size)], axis=-2)
        return jnp.einsum(self.equation, delayed, kernel)
''',
    "RunningSum": '''
class RunningSum(nn.Module):
    """The sum over all positions so far: `[batch, length, *features]` to the same."""

    @nn.compact
    def __call__(self, x: jax.Array, start: jax.Array | None) -> jax.Array:
        total = jnp.cumsum(x, axis=1)
        if start is not None:
            kept = jnp.promote_types(x.dtype, jnp.float32)  # a sum of many, rounded at each, would drift
            last = self.variable("cache", "last", jnp.zeros, (x.shape[0], 1, *x.shape[2:]), kept)
            total = last.value + total
            if not self.is_initializing():
                last.value = total[:, -1:].astype(last.value.dtype)
        return total.astype(x.dtype)
''',
    "RunningProduct": '''
class RunningProduct(nn.Module):
    """The product over all positions so far: `[batch, length, *features]` to the same."""

    @nn.compact
    def __call__(self, x: jax.Array, start: jax.Array | None) -> jax.Array:
        product = jnp.cumprod(x, axis=1)
        if start is not None:
            kept = jnp.promote_types(x.dtype, jnp.float32)  # a product of many, rounded at each, would drift
            last = self.variable("cache", "last", jnp.ones, (x.shape[0], 1, *x.shape[2:]), kept)
            product = last.value * product
            if not self.is_initializing():
                last.value = product[:, -1:].astype(last.value.dtype)
        return product.astype(x.dtype)
''',
}
"""Linen modules by name, in the order they are written."""
