"""Checks of the blocks' sizes and inputs; each raises a `ValueError` that says what to change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

__all__ = [
    "check_array",
    "check_cache_shape",
    "check_cache_space",
    "check_cached_batch",
    "check_dropout_rate",
    "check_heads",
    "check_input",
    "check_keeps_texts_apart",
    "check_length",
    "check_mask",
    "check_not_stacked",
    "check_positive",
    "check_prefix",
    "check_segment_ids",
]


def check_positive(**sizes: int) -> None:
    """Check that sizes, passed by the names of their arguments, are whole numbers of at least 1."""
    for name, size in sizes.items():
        if not hasattr(size, "__index__"):
            raise ValueError(f"{name} is {size!r}, but must be a whole number")
        if size < 1:
            raise ValueError(f"{name} is {size}, but must be at least 1")


def check_dropout_rate(dropout_rate: float) -> None:
    """Check that a dropout rate is in [0, 1)."""
    if not 0 <= dropout_rate < 1:
        raise ValueError(f"dropout_rate is {dropout_rate}, but must be at least 0 and below 1")


def check_heads(width: int, heads: int) -> None:
    """Check that the width is a multiple of the number of heads."""
    check_positive(width=width, heads=heads)
    if width % heads:
        near = [count for count in range(1, width + 1) if width % count == 0]
        best = min(near, key=lambda count: abs(count - heads))
        raise ValueError(
            f"width is {width}, but must be a multiple of heads={heads}; "
            f"choose a multiple of {heads}, or for example heads={best}"
        )


def check_array(x: object) -> None:
    """Check that an input is an array."""
    if not hasattr(x, "ndim"):
        raise ValueError(f"x is a {type(x).__name__}, but must be an array; use jnp.asarray(x)")


def check_input(x: Array, width: int | None = None) -> None:
    """Check that an input is [batch, length, width]; None: any width."""
    check_array(x)
    if x.ndim != 3 or (width is not None and x.shape[2] != width):
        expected = f"[batch, length, {'width' if width is None else width}]"
        remedy = "reshape it" if x.ndim != 3 else f"build the block with width={x.shape[2]}, or project x"
        raise ValueError(f"x has shape {list(x.shape)}, but the block takes {expected}; {remedy}")


def check_length(length: int, longest: int) -> None:
    """Check that a sequence is not longer than the length that the block was built for."""
    if length > longest:
        raise ValueError(
            f"the sequence has {length} positions, but the block was built with length={longest}; "
            f"build it with length={length}, or cut the sequence"
        )


def check_cache_shape(input_shape: Sequence[int], width: int) -> tuple[int, int]:
    """Return the batch size and length of a cache, after checking that its shape is (batch, longest, width)."""
    if len(input_shape) != 3 or input_shape[2] != width:
        raise ValueError(
            f"init_cache takes the shape (batch, longest, {width}) of the longest input, not {tuple(input_shape)}"
        )
    batch, longest, _ = input_shape
    check_positive(batch=batch, longest=longest)
    return batch, longest


def check_segment_ids(segment_ids: Array, batch: int, length: int | None) -> Array:
    """Return segment ids as an array, after checking that they are integers [batch, length]; None: any length."""
    segment_ids = jnp.asarray(segment_ids)
    shape = segment_ids.shape
    fits = len(shape) == 2 and shape[0] == batch and (shape[1] > 0 if length is None else shape[1] == length)
    if not fits or not jnp.issubdtype(segment_ids.dtype, jnp.integer):
        positions = "positions from the first on" if length is None else length
        raise ValueError(
            f"segment_ids are {segment_ids.dtype} {list(shape)}, but must be integers [{batch}, {positions}]: "
            "one for each position, equal within a text"
        )
    return segment_ids


def check_prefix(prefix: Array, batch: int, length: int | None) -> Array:
    """Return a prefix as an array, after checking that it is booleans [batch, length]; None: any length."""
    prefix = jnp.asarray(prefix)
    shape = prefix.shape
    fits = len(shape) == 2 and shape[0] == batch and (shape[1] > 0 if length is None else shape[1] == length)
    if not fits or prefix.dtype != jnp.bool_:
        positions = "positions from the first on" if length is None else length
        raise ValueError(
            f"prefix is {prefix.dtype} {list(shape)}, but must be booleans [{batch}, {positions}]: "
            "one for each position, true in the prefix of a text"
        )
    return prefix


def check_mask(mask: Array, batch: int, queries: int, keys: int | None) -> Array:
    """Return a mask as [batch, queries, keys], after checking that it broadcasts to that; None: any number of keys."""
    mask = jnp.asarray(mask)
    shape = mask.shape if mask.ndim == 4 else (0, 0, 0, 0)
    fits = shape[0] in (1, batch) and shape[1] == 1 and shape[2] in (1, queries)
    if not fits or not (shape[3] if keys is None else shape[3] in (1, keys)) or mask.dtype != jnp.bool_:
        full = f"[{batch}, 1, {queries}, {'positions from the first on' if keys is None else keys}]"
        raise ValueError(
            f"mask is {mask.dtype} {list(mask.shape)}, but must be booleans that broadcast to {full}, with four axes"
        )
    return jnp.broadcast_to(mask[:, 0], (batch, queries, shape[3] if keys is None else keys))


def check_keeps_texts_apart(possible: bool) -> None:
    """Check that an attention can keep packed texts apart, which parameters for each position prevent."""
    if not possible:
        raise ValueError(
            "segment_ids are refused: Primer's attention learns a scale for each position of the sequence, so that a "
            "packed text has other outputs than alone; use PrimerEZBlock, or give a mask"
        )


def check_not_stacked(parameter: Any, axes: int) -> None:
    """Check that a parameter has `axes` axes, and not one more from a stack that `nnx.vmap` made."""
    if parameter.ndim != axes:
        raise ValueError(
            "this is a stack of blocks, and each block needs a separate cache; "
            "use nnx.vmap(lambda block: block.init_cache((batch, longest, width)))(blocks)"
        )


def check_cached_batch(cached: int, batch: int) -> None:
    """Check that the input and the cache have the same batch size."""
    if batch != cached:
        raise ValueError(f"the cache holds {cached} sequences, but x has {batch}; make a cache for {batch} sequences")


def check_cache_space(new: int, longest: int) -> None:
    """Check that there are not more new positions than the whole cache has room for."""
    if new > longest:
        raise ValueError(f"x has {new} positions, but the cache has room for {longest}; make a longer cache")
