"""Arithmetic with finite gradients, masks, branch axes, convolution inputs and initializers for exported files."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...functional.least_squares import least_squares, sum_of_products
from ...functional.refuse_float16 import refuse_float16

EPSILON = 1e-6
"""Smallest magnitude of a divisor, and of the operand of a logarithm; smaller ones are raised to it."""


def divide(x: jax.Array, y: jax.Array) -> jax.Array:
    """Return x / y with |y| raised to at least EPSILON; the sign of y is kept, and 0 counts as positive."""
    refuse_float16(y)
    return x / jnp.where(y < 0, jnp.minimum(y, -EPSILON), jnp.maximum(y, EPSILON))


def abs_root(x: jax.Array) -> jax.Array:
    """Return the square root of |x|; its value and its gradient are 0 at 0."""
    magnitude = jnp.abs(x)
    zero = magnitude == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, magnitude)))


def log_abs(x: jax.Array) -> jax.Array:
    """Return the logarithm of |x|, with |x| raised to at least EPSILON."""
    refuse_float16(x)
    return jnp.log(jnp.maximum(jnp.abs(x), EPSILON))


def reciprocal(x: jax.Array) -> jax.Array:
    """Return 1 / x; its value and its gradient are 0 at 0."""
    nonzero = x != 0
    return jnp.where(nonzero, 1 / jnp.where(nonzero, x, 1), 0)


RIDGE_START = 0.11064653495964616
"""Initial value of the parameter of a ridge; the ridge is then 1."""


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


def with_axes_of(vector: jax.Array, x: jax.Array) -> jax.Array:
    """Return a vector of the last axis in the dtype of x, with as many axes as x."""
    return jnp.expand_dims(vector.astype(x.dtype), tuple(range(x.ndim - 1)))


def rows(x: jax.Array, axis: int, count: int, start: jax.Array | None) -> jax.Array:
    """Return the `count` positions of x that begin at `start`, or all of x if `start` is None."""
    return x if start is None else jax.lax.dynamic_slice_in_dim(x, start, count, axis)


def into_branches(x: jax.Array, *branches: int) -> jax.Array:
    """Broadcast `[..., width]` to `[..., *branches, width]`: each branch sees the same values."""
    *outer, width = x.shape
    return jnp.broadcast_to(x.reshape(*outer, *[1] * len(branches), width), (*outer, *branches, width))


def join_branches(x: jax.Array) -> jax.Array:
    """Reshape `[..., branches, width]` to `[..., branches * width]`."""
    return x.reshape(*x.shape[:-2], -1)


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


def running_in_texts(
    x: jax.Array, function: Any, axis: int, start: jax.Array | None, texts: jax.Array | None
) -> jax.Array:
    """Return the cumulative sum or product (`function`) over the positions of x, restarted at each text."""
    if texts is None:
        return function(x, axis=axis)
    combine, neutral = (jnp.add, 0) if function is jnp.cumsum else (jnp.multiply, 1)
    positions = jnp.arange(x.shape[axis])
    own = texts_at(texts, positions if start is None else start + positions)
    shape = [len(x), *[1] * (x.ndim - 1)]
    shape[axis] = len(positions)
    delay = 1
    while delay < len(positions):
        same = (positions >= delay)[None] & (jnp.roll(own, delay, axis=1) == own)
        x = combine(x, jnp.where(same.reshape(shape), jnp.roll(x, delay, axis), neutral))
        delay *= 2
    return x


def last_in_text(last: jax.Array, neutral: float, x: jax.Array, start: jax.Array, texts: jax.Array | None) -> jax.Array:
    """Return `last`, the value at the position before x, or `neutral` for positions of x that are in another text."""
    if texts is None:
        return last
    same = texts_at(texts, start + jnp.arange(x.shape[1])) == texts_at(texts, start - 1 + jnp.arange(1))
    return jnp.where(jnp.expand_dims(same, tuple(range(2, x.ndim))), last, neutral)


def solve_in_texts(
    q: jax.Array, k: jax.Array, ridge: jax.Array, sums: Any, start: jax.Array | None, texts: jax.Array | None
) -> tuple[jax.Array, Any]:
    """Solve the least squares of each position, restarted at each text, with `[batch, length, *branches, width]`.

    Return the solutions, and the new value of `sums`, the sum of k k^T over earlier positions, if it is given.
    """
    q, k = jnp.moveaxis(q, 1, -2), jnp.moveaxis(k, 1, -2)
    if texts is not None:
        if start is not None:
            texts = texts_at(texts, start - 1 + jnp.arange(k.shape[-2] + 1))
        texts = texts.reshape(len(texts), *[1] * (k.ndim - 3), -1)
    positive = (jax.nn.softplus(ridge) + 0.25)[None, ..., None, :]
    z = jnp.moveaxis(least_squares(q, k, positive, texts=texts, before=sums), -2, 1)
    return z, None if sums is None else sum_of_products(k, texts, sums)


def on_branches(function: Any, operands: Any, arrays: dict[str, jax.Array]) -> jax.Array:
    """Apply a function of `[..., length, width]` and learned arrays to values `[batch, length, *branches, width]`."""
    return jnp.moveaxis(function(*(jnp.moveaxis(x, 1, -2) for x in operands), **arrays), -2, 1)


def initial_array(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike, start: str, branches: int) -> jax.Array:
    """Return ones, zeros, or normal values with variance 1 / fan-in; fan-in excludes the first `branches` axes."""
    if start != "normal":
        return jnp.full(shape, 1 if start == "ones" else 0, dtype)
    fan_in = functools.reduce(lambda product, size: product * size, shape[branches:-1], 1)
    return jax.random.normal(key, shape, dtype) / fan_in**0.5


def depthwise_init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Return 0.5 for the current position and 0.5 / kernel size for earlier ones; axis 0 is time, oldest first."""
    taps = jnp.full(shape[0], 0.5 / shape[0]).at[-1].set(0.5)
    return jnp.broadcast_to(taps.reshape(-1, *[1] * (len(shape) - 1)), shape).astype(dtype)
