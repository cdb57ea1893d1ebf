"""PrimerEZBlock: a decoder block for Flax NNX, written by primer-search.

The block is a program of primitive operations, a point of the search space of Primer (So et al. 2021, arXiv
2109.08668). This file is that program in canonical form, dead code removed; its structure hash is
96e6db3c125a76fb196c6357f3b02f82.

Origin: PRIMER_EZ of the library. Primer, section 4.

Size: 3,154,944 parameters at width 512, where it was exported. Other sizes work too. Queries are scaled by 1 /
sqrt(head width), as the program's constant was. Other numbers in the code are those of the program and do not follow
the width.

Checked: before this file was written its code was run beside the searched program, with the same random parameters:
outputs and all gradients agree to 1e-5 in float32 (where a program amplifies rounding, to 1e-9 in float64), inputs at
later positions, drawn anew, leave earlier outputs as they were, and decoding in pieces gives the same outputs as the
whole sequence.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jax.typing import DTypeLike

KERNEL_INIT = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")
"""Dense kernels start normal with variance 1 / fan-in."""


def causal_mask(scores: jax.Array, start: jax.Array | None = None) -> jax.Array:
    """Which keys each query may see: `[queries, keys]`. Queries are at `start` (or 0) and on, keys at 0 and on."""
    queries, keys = scores.shape[-2:]
    return jnp.arange(keys) <= (0 if start is None else start) + jnp.arange(queries)[:, None]


def last_inputs(window: jax.Array | None, x: jax.Array, kernel_size: int) -> jax.Array:
    """x after the `kernel_size - 1` positions before it: zeros, or in decoding the last that were seen."""
    if window is None:
        return jnp.pad(x, [(0, 0), (kernel_size - 1, 0)] + [(0, 0)] * (x.ndim - 2))
    return jnp.concatenate([window.astype(x.dtype), x], axis=1)


def depthwise_init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """0.5 for the current position, 0.5 / kernel_size for earlier ones; the first axis is time, oldest first."""
    taps = jnp.full(shape[0], 0.5 / shape[0]).at[-1].set(0.5)
    return jnp.broadcast_to(taps.reshape(-1, *[1] * (len(shape) - 1)), shape).astype(dtype)


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


class SelfAttention(nnx.Module):
    """What the program calls self_attention: `[batch, length, width]` to the same."""

    def __init__(
        self, width: int, heads: int, *, dtype: DTypeLike | None, param_dtype: DTypeLike, rngs: nnx.Rngs
    ) -> None:
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        general = functools.partial(nnx.LinearGeneral, use_bias=False, kernel_init=KERNEL_INIT, **options)
        self.key_projection = general(width, (heads, width // heads))
        self.key_conv = CausalDepthwiseConv(heads, width // heads, kernel_size=3, **options)
        self.query_projection = general(width, (heads, width // heads))
        self.query_conv = CausalDepthwiseConv(heads, width // heads, kernel_size=3, **options)
        self.value_projection = general(width, (heads, width // heads))
        self.value_conv = CausalDepthwiseConv(heads, width // heads, kernel_size=3, **options)
        self.output_projection = general((heads, width // heads), width, axis=(-2, -1))
        self.keys_cache = History(heads, width // heads)
        self.values_cache = History(heads, width // heads)

    def __call__(self, x: jax.Array, start: jax.Array | None) -> jax.Array:
        keys = self.keys_cache(self.key_conv(self.key_projection(x), start), start)
        queries = self.query_conv(self.query_projection(x), start)
        values = self.values_cache(self.value_conv(self.value_projection(x), start), start)
        scores = jnp.einsum("bqhd,bkhd->bhqk", queries * queries.shape[-1] ** -0.5, keys)
        weights = jax.nn.softmax(scores, where=causal_mask(scores, start))  # softmax attention, causal
        return self.output_projection(jnp.einsum("bhqk,bkhd->bqhd", weights, values))


class FeedForward(nnx.Module):
    """What the program calls feed_forward: `[batch, length, width]` to the same."""

    def __init__(self, width: int, *, dtype: DTypeLike | None, param_dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        linear = functools.partial(nnx.Linear, kernel_init=KERNEL_INIT, **options)
        self.up = linear(width, 4 * width)
        self.down = linear(4 * width, width)

    def __call__(self, x: jax.Array) -> jax.Array:
        squared_relu = jnp.square(jax.nn.relu(self.up(x)))  # squared ReLU (Primer, section 4)
        return self.down(squared_relu)


class PrimerEZBlock(nnx.Module):
    """A decoder block: `[batch, length, width]` to the same; stack it between embedding and head.

    Args:
        width: channels of its input and output, a multiple of heads.
        heads: how many self_attention has side by side; 8 where it was found.
        dtype: of the computation; None promotes inputs and parameters to a common one, as Flax does.
        param_dtype: of the parameters.
        rngs: source of the initial parameters.
    """

    def __init__(
        self,
        width: int,
        heads: int = 8,
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if min(width, heads) < 1:
            raise ValueError(f"sizes must be at least 1: width = {width}, heads = {heads}")
        if width % heads:
            raise ValueError(f"width must be a multiple of {heads} (heads), not {width}")
        self.width, self.dtype, self.param_dtype = width, dtype, param_dtype
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.position = Position()
        self.layer_norm = nnx.LayerNorm(width, epsilon=1e-12, use_fast_variance=False, **options)
        self.self_attention = SelfAttention(width, heads, **options)
        self.layer_norm_2 = nnx.LayerNorm(width, epsilon=1e-12, use_fast_variance=False, **options)
        self.feed_forward = FeedForward(width, **options)

    def init_cache(self, input_shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> None:
        """Make room to decode with `decode=True`; `input_shape` is `(batch, longest, width)`."""
        if len(input_shape) != 3 or input_shape[2] != self.width or min(input_shape) < 1:
            raise ValueError(f"input_shape must be (batch, longest, {self.width}), not {tuple(input_shape)}")
        batch, longest, _ = input_shape
        for _, part in nnx.iter_modules(self):
            if isinstance(part, Position | History | CausalDepthwiseConv):
                part.init_cache(batch, longest, dtype)

    def __call__(self, x: jax.Array, *, decode: bool = False) -> jax.Array:
        """The output at each position of x; with `decode`, x goes on where the last such call ended."""
        if x.ndim != 3 or x.shape[-1] != self.width:
            raise ValueError(f"x must be [batch, length, {self.width}], not {list(x.shape)}")
        dtype = jnp.promote_types(x.dtype, self.param_dtype) if self.dtype is None else self.dtype
        x = x.astype(dtype)
        start = self.position(x) if decode else None
        residual = x + self.self_attention(self.layer_norm(x), start)
        return residual + self.feed_forward(self.layer_norm_2(residual))
