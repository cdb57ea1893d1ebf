"""PrimerEZBlock: a decoder block for Flax NNX, written by primer-search.

The block is a program of primitive operations from the search space of Primer (So et al. 2021, arXiv 2109.08668). This
file is that program in canonical form, without dead code. Structure hash: 96e6db3c125a76fb196c6357f3b02f82.

Origin: PRIMER_EZ of the library. Primer, section 4.

Size: 3,154,944 parameters at width 512, the size of the program. The block can be built at other sizes. Queries are
scaled by 1 / sqrt(head width) at every size. All other constants are the program's, at every size.

Verification: before this file was written, its code ran next to the program of the search with the same random
parameters. Outputs, also of packed texts, and all gradients agree to 1e-5 in float32, or to 1e-9 in float64 if the
program amplifies rounding. New random inputs at later positions leave earlier outputs unchanged, and decoding in pieces
gives the outputs of the whole sequence.

Versions: tested from JAX 0.10 and Flax 0.12 on; made and verified with JAX 0.10.2 and Flax 0.12.8.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jax.typing import DTypeLike

if not hasattr(nnx, "data"):
    raise ImportError("this file needs nnx.data, which Flax 0.12 has: pip install --upgrade flax")

KERNEL_INIT = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")
"""Dense kernels start from a normal distribution with variance 1 / fan-in."""


def check_sizes(**sizes: int) -> None:
    """Refuse sizes that are not whole numbers of at least 1."""
    for name, size in sizes.items():
        if not hasattr(size, "__index__") or size < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {size!r}")


def number_texts(segment_ids: jax.Array | None, x: jax.Array, decode: bool) -> jax.Array | None:
    """Return the number of each position's text, a run of equal segment ids; None (one text) without ids."""
    if segment_ids is None:
        return None
    ids = jnp.asarray(segment_ids)
    fits = ids.ndim == 2 and len(ids) == len(x) and ids.size and (decode or ids.shape[1] == x.shape[1])
    if not fits or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"segment_ids must be integers [batch, length] for x {list(x.shape)}, not {list(ids.shape)}")
    return jnp.cumsum(jnp.pad(ids[:, 1:] != ids[:, :-1], [(0, 0), (1, 0)]), axis=1)


def checked_mask(mask: jax.Array, segment_ids: jax.Array | None, x: jax.Array, decode: bool) -> jax.Array:
    """Return a mask that broadcasts to [batch, 1, queries, keys] as [batch, queries, keys]; refuse others."""
    mask = jnp.asarray(mask)
    batch, heads, queries, keys = mask.shape if mask.ndim == 4 else (0, 0, 0, 0)
    fits = heads == 1 and batch in (1, len(x)) and queries in (1, x.shape[1])
    if not fits or not (keys if decode else keys in (1, x.shape[1])) or mask.dtype != bool:
        full = f"[{len(x)}, 1, {x.shape[1]}, {'all positions so far' if decode else x.shape[1]}], with four axes"
        raise ValueError(f"mask must be booleans that broadcast to {full}, not {mask.dtype} {list(mask.shape)}")
    if segment_ids is not None:
        raise ValueError("give segment_ids or a mask, not both")
    return jnp.broadcast_to(mask.reshape(batch, queries, keys), (len(x), x.shape[1], keys))


def texts_at(texts: jax.Array, positions: jax.Array) -> jax.Array:
    """Return the number of the text at each of `positions`; those after the end of `texts` are in the last text."""
    return texts[:, jnp.clip(positions, 0, texts.shape[1] - 1)]


def may_read(visibility: jax.Array, query: jax.Array, key: jax.Array, start: jax.Array | None) -> jax.Array:
    """Return whether a query may read a key. Queries begin at position `start` or 0, keys at 0.

    `visibility` is a mask, booleans [batch, length, keys], or the number of each position's text, [batch, length];
    then a position may read only its own text. Keys after the end of a mask are treated as its last key.
    """
    if visibility.dtype == bool:
        return visibility[:, query, jnp.clip(key, 0, visibility.shape[2] - 1)]
    return texts_at(visibility, query if start is None else start + query) == texts_at(visibility, key)


def causal_mask(scores: jax.Array, start: jax.Array | None = None, visibility: jax.Array | None = None) -> jax.Array:
    """Return which keys each query sees: its own and earlier ones that it may read, or only its own if there are none.

    Queries begin at position `start` or 0, keys at 0.
    """
    queries, keys = scores.shape[-2:]
    query, key = jnp.arange(queries)[:, None], jnp.arange(keys)[None]
    own = query if start is None else start + query
    visible = key <= own
    if visibility is not None:
        visible = visible[None] & may_read(visibility, query, key, start)
        visible |= (key == own)[None] & ~jnp.any(visible, axis=-1, keepdims=True)
    return visible.reshape(*visible.shape[:-2], *[1] * (scores.ndim - visible.ndim), queries, keys)


def last_inputs(window: jax.Array | None, x: jax.Array, kernel_size: int) -> jax.Array:
    """Prepend `kernel_size - 1` earlier positions to x: zeros, or in decoding `window`, the last inputs."""
    if window is None:
        return jnp.pad(x, [(0, 0), (kernel_size - 1, 0)] + [(0, 0)] * (x.ndim - 2))
    return jnp.concatenate([window.astype(x.dtype), x], axis=1)


def tap_inputs(
    inputs: jax.Array, length: int, start: jax.Array | None, visibility: jax.Array | None
) -> list[jax.Array]:
    """Return what each tap of a convolution reads at `length` positions, oldest tap first; 0 where it may not read."""
    last = inputs.shape[1] - length
    taps = [inputs[:, tap : tap + length] for tap in range(last + 1)]
    if visibility is None:
        return taps
    query = jnp.arange(length)
    for tap in range(last):
        key = (query if start is None else start + query) - (last - tap)
        visible = may_read(visibility, query, key, start)
        taps[tap] = jnp.where(jnp.expand_dims(visible, tuple(range(2, inputs.ndim))), taps[tap], 0)
    return taps


def depthwise_init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Return 0.5 for the current position and 0.5 / kernel size for earlier ones; axis 0 is time, oldest first."""
    taps = jnp.full(shape[0], 0.5 / shape[0]).at[-1].set(0.5)
    return jnp.broadcast_to(taps.reshape(-1, *[1] * (len(shape) - 1)), shape).astype(dtype)


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


class SelfAttention(nnx.Module):
    """The self_attention of the program: `[batch, length, width]` to the same shape."""

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

    def __call__(self, x: jax.Array, start: jax.Array | None, visibility: jax.Array | None) -> jax.Array:
        keys = self.keys_cache(self.key_conv(self.key_projection(x), start, visibility), start)
        queries = self.query_conv(self.query_projection(x), start, visibility)
        values = self.values_cache(self.value_conv(self.value_projection(x), start, visibility), start)
        scores = jnp.einsum("bqhd,bkhd->bhqk", queries * queries.shape[-1] ** -0.5, keys)
        weights = jax.nn.softmax(scores, where=causal_mask(scores, start, visibility))  # softmax attention, causal
        return self.output_projection(jnp.einsum("bhqk,bkhd->bqhd", weights, values))


class FeedForward(nnx.Module):
    """The feed_forward of the program: `[batch, length, width]` to the same shape."""

    def __init__(self, width: int, *, dtype: DTypeLike | None, param_dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        linear = functools.partial(nnx.Linear, kernel_init=KERNEL_INIT, **options)
        self.up = linear(width, 4 * width)
        self.down = linear(4 * width, width)

    def __call__(self, x: jax.Array) -> jax.Array:
        squared_relu = jnp.square(jax.nn.relu(self.up(x)))  # squared ReLU (Primer, section 4)
        return self.down(squared_relu)


class PrimerEZBlock(nnx.Module):
    """A decoder block: `[batch, length, width]` to the same shape; stack it between embedding and head.

    Args:
        width: channels of its input and output, a multiple of heads.
        heads: number of heads of self_attention; 8 in the program.
        dtype: dtype of the computation; None promotes inputs and parameters to a common one, as Flax does.
        param_dtype: dtype of the parameters.
        rngs: random streams for the initial parameters.
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
        check_sizes(width=width, heads=heads)
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
        """Allocate the cache for calls with `decode=True`; `input_shape` is `(batch, longest, width)`."""
        if len(input_shape) != 3 or input_shape[2] != self.width or min(input_shape) < 1:
            raise ValueError(f"input_shape must be (batch, longest, {self.width}), not {tuple(input_shape)}")
        if self.self_attention.key_projection.kernel.ndim != 3:
            raise ValueError(
                "this is a stack of blocks; use nnx.vmap(lambda block: block.init_cache(input_shape))(blocks)"
            )
        batch, longest, _ = input_shape
        for _, part in nnx.iter_graph(self):
            if isinstance(part, Position | History | CausalDepthwiseConv):
                part.init_cache(batch, longest, dtype)

    def __call__(
        self, x: jax.Array, *, decode: bool = False, segment_ids: jax.Array | None = None, mask: jax.Array | None = None
    ) -> jax.Array:
        """Return the output at each position; with `decode`, x continues the sequence of the last such call.

        `segment_ids` [batch, length] keep packed texts apart. They are equal within a text, and each text
        gets the same outputs as alone in a sequence. Padding is a separate text. With `decode`, they begin
        at the first position of the sequence in every call. Positions after their end belong to the last
        text.

        `mask`, an alternative to `segment_ids`, is True where a position may read another, in addition to
        the causal mask. Its four axes broadcast to [batch, 1, queries, keys]. With `decode`, its keys begin
        at the first position of the sequence in every call.
        """
        x = jnp.asarray(x)
        if x.ndim != 3 or x.shape[-1] != self.width:
            raise ValueError(f"x must be [batch, length, {self.width}], not {list(x.shape)}")
        dtype = jnp.promote_types(x.dtype, self.param_dtype) if self.dtype is None else self.dtype
        x = x.astype(dtype)
        visibility = number_texts(segment_ids, x, decode)
        if mask is not None:
            visibility = checked_mask(mask, segment_ids, x, decode)
        start = self.position(x) if decode else None
        residual = x + self.self_attention(self.layer_norm(x), start, visibility)
        return residual + self.feed_forward(self.layer_norm_2(residual))
