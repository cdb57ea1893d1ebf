"""Causal multi-head attention, on whole sequences or with a cache, and Primer's attention weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...primitives.causality.packed_texts import number_texts
from ..visibility import same_text
from .checks import check_cache_space, check_cached_batch, check_segment_ids
from .rotary import rotate

__all__ = [
    "PRIMER_FACTOR",
    "Attention",
    "Cache",
    "Heads",
    "Hidden",
    "Mask",
    "Positions",
    "SegmentIds",
    "append_to_cache",
    "attend",
    "causal_mask",
    "softmax_attention",
    "tanh_softmax_attention",
    "texts_mask",
    "visible_taps",
]

Hidden = Float[Array, "batch length width"]
Heads = Float[Array, "batch length heads channels"]
Cached = Float[Array, "batch longest heads channels"]

Mask = Bool[Array, "#batch #heads #queries #keys"]
"""True where a position may read another, for padding or several texts in one sequence.

Attention and convolutions follow this mask in addition to the causal mask. It must broadcast to
[batch, heads, queries, keys]; when decoding, the keys are all positions of the cache.
"""

SegmentIds = Int[Array, "batch ids"]
"""Ids [batch, length] that are equal for neighbouring positions of one text. Padding is also a text.

Each text gets the same outputs as alone in a sequence. When decoding, the ids begin at the first position of the
sequence in every call; positions after their end belong to the last text.
"""

Positions = Int[Array, "*batch length"]
"""Positions for the rotation of queries and keys, [length] or [batch, length] (RoPE, see `rotary.rotate`).

When decoding, they are the positions of the new tokens only.
"""

Cache = Callable[[Heads, Heads], tuple[Heads, Heads, int | Int[Array, ""]]]
"""Function that appends keys and values to the cached ones; returns all, and the index of the first new position."""

PRIMER_FACTOR = -1.12
"""Factor that Primer multiplies keys and values by (appendix A.2)."""


class Attention(Protocol):
    """Function of queries, keys and values that returns weighted sums of the values where the mask is True."""

    def __call__(self, query: Heads, key: Heads, value: Heads, *, mask: Mask) -> Heads: ...


def attend(
    query: Heads,
    key: Heads,
    value: Heads,
    *,
    mask: Mask | None = None,
    positions: Positions | None = None,
    cache: Cache | None = None,
    attention: Attention | None = None,
) -> Heads:
    """Return for each position a weighted sum of the values at this position and earlier ones.

    Queries, keys and values belong to the new positions.

    Args:
        mask: additional mask (`causal_mask`).
        positions: positions that rotate queries and keys (`rotate`); None: no rotation.
        cache: cache of the earlier positions; None: no cache.
        attention: function that computes the weighted sums; None: `softmax_attention`.
    """
    if positions is not None:
        query, key = rotate(query, positions), rotate(key, positions)
    start = 0
    if cache is not None:
        key, value, start = cache(key, value)
    return (attention or softmax_attention)(query, key, value, mask=causal_mask(query, key, start, mask))


def causal_mask(query: Heads, key: Heads, start: int | Int[Array, ""] = 0, mask: Mask | None = None) -> Mask:
    """Return the mask that allows a query its own position and earlier ones, if `mask` also allows them.

    A query without any visible key sees itself. Otherwise its softmax would be undefined, or, for some functions
    `attention`, the mean over all positions. Convolutions of the next layer would carry this from padding into the
    text.

    Args:
        query: queries, the first at position `start`.
        key: keys, the first at position 0.
        start: number of positions decoded before.
        mask: True where attention is allowed, broadcastable to [batch, heads, queries, keys].

    Raises:
        ValueError: the mask is not boolean, or its shape does not fit.
    """
    own = start + jnp.arange(query.shape[1])[:, None]
    positions = jnp.arange(key.shape[1])[None]
    causal = (positions <= own)[None, None]
    if mask is None:
        return causal
    full = (query.shape[0], query.shape[2], query.shape[1], key.shape[1])
    visible = causal & _checked_mask(mask, full)
    return visible | ((positions == own)[None, None] & ~jnp.any(visible, axis=-1, keepdims=True))


def texts_mask(segment_ids: SegmentIds, x: Array, keys: int, start: int | Int[Array, ""], mask: Mask | None) -> Mask:
    """Return a mask that keeps texts apart within what `mask` allows, [batch, heads or 1, length, keys].

    Args:
        segment_ids: equal for neighbouring positions of one text; they begin at the first key, and keys after their end
            belong to the last text.
        x: inputs [batch, length, width], the first at position `start`.
        keys: number of keys: the number of inputs, or the length of the cache.
        start: number of positions decoded before.
        mask: additional mask.

    Raises:
        ValueError: the ids do not fit.
    """
    batch, length = x.shape[:2]
    texts = number_texts(jnp, check_segment_ids(segment_ids, batch, length if isinstance(start, int) else None))
    own, others = start + jnp.arange(length), jnp.arange(keys)
    apart = same_text(texts, own, others)[:, None]
    return apart if mask is None else apart & _with_four_axes(mask)


def visible_taps(
    mask: Mask, x: Heads, kernel_size: int, start: int | Int[Array, ""] = 0
) -> Bool[Array, "#batch length #heads kernel"]:
    """Return which of the last `kernel_size` positions a convolution may read at each position.

    A position always reads itself.

    Args:
        mask: mask of the attention.
        x: inputs of the convolution, the first at position `start`.
        kernel_size: positions that the convolution sums, the current one included.
        start: number of positions decoded before.

    Raises:
        ValueError: the mask is not boolean, or its shape does not fit.
    """
    heads = x.shape[2] if x.ndim > 3 else 1
    mask = _checked_mask(mask, (x.shape[0], heads, x.shape[1], mask.shape[-1]))
    own = start + jnp.arange(x.shape[1])[:, None]
    keys = jnp.clip(own + jnp.arange(1 - kernel_size, 1)[None], 0)  # before the start there are zeros only
    mask = jnp.broadcast_to(mask, (*mask.shape[:2], x.shape[1], mask.shape[3]))
    taps = jnp.take_along_axis(mask, jnp.minimum(keys, mask.shape[3] - 1)[None, None], axis=3)
    return jnp.moveaxis(taps.at[..., -1].set(True), 1, 2)


def append_to_cache(
    cached_key: Cached, cached_value: Cached, index: Int[Array, ""], key: Heads, value: Heads
) -> tuple[Cached, Cached, Int[Array, ""]]:
    """Write new keys and values after the cached ones; return both caches, and the index after the new positions.

    The number of filled positions, `index`, is a traced value, so a position past the end of the cache cannot raise an
    error. It makes all values and outputs NaN, so that they are not silently wrong.

    Raises:
        ValueError: the batch size differs from the cache's, or there are more new positions than the whole cache has
            room for.
    """
    (batch, longest), (new_batch, new) = cached_key.shape[:2], key.shape[:2]
    check_cached_batch(batch, new_batch)
    check_cache_space(new, longest)
    value = jnp.where(index + new <= longest, value, jnp.nan)
    return (
        jax.lax.dynamic_update_slice_in_dim(cached_key, key.astype(cached_key.dtype), index, axis=1),
        jax.lax.dynamic_update_slice_in_dim(cached_value, value.astype(cached_value.dtype), index, axis=1),
        index + new,
    )


def softmax_attention(query: Heads, key: Heads, value: Heads, *, mask: Mask) -> Heads:
    """Return scaled dot-product attention (Vaswani et al. 2017, section 3.2.1) with the softmax in float32.

    It is written out because `jax.nn.dot_product_attention` makes a small block's training step a tenth slower on a CPU
    (benchmarks/exported_step.py). The mask must allow at least one key for every query.
    """
    query = query * query.shape[-1] ** -0.5
    scores = jnp.einsum("bqhc,bkhc->bhqk", query, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores, where=mask)
    return jnp.einsum("bhqk,bkhc->bqhc", weights.astype(value.dtype), value)


def tanh_softmax_attention(
    query: Heads, key: Heads, value: Heads, *, scale: Float[Array, "heads longest"], mask: Mask
) -> Heads:
    """Return Primer's attention: a softmax of unscaled scores, then tanh, then a learned scale for each key position.

    There may be more scales than keys. The mask must allow at least one key for every query.
    """
    scores = jnp.einsum("bqhc,bkhc->bhqk", query, key, preferred_element_type=jnp.float32)
    weights = jnp.tanh(jax.nn.softmax(scores, where=mask)) * scale[None, :, None, : key.shape[1]]
    return jnp.einsum("bhqk,bkhc->bqhc", weights.astype(value.dtype), value)


def _with_four_axes(mask: Mask) -> Mask:
    """Return the mask, after checking that it has all four axes. A mask [batch, length] would be ambiguous."""
    if mask.ndim != 4:
        raise ValueError(f"mask has shape {list(mask.shape)}, but must have the axes [batch, heads, queries, keys]")
    return mask


def _checked_mask(mask: Mask, full: tuple[int, int, int, int]) -> Mask:
    """Return the mask, after checking that it is boolean and fits."""
    if mask.dtype != bool:
        raise ValueError(f"mask is {mask.dtype}, but must be boolean, True where attention is allowed")
    if any(size not in (1, whole) for size, whole in zip(_with_four_axes(mask).shape, full, strict=True)):
        raise ValueError(
            f"mask has shape {list(mask.shape)}, but must broadcast to [batch, heads, queries, keys] = {list(full)}"
        )
    return mask
