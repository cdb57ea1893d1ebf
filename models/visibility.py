"""Rules for what a position may read: packed texts, prefixes and masks, for whole sequences and in decoding."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..primitives.causality.packed_texts import takes_mask, takes_texts
from ..primitives.causality.prefix_mask import takes_prefix

__all__ = ["ALL_EARLIER", "Mask", "Prefix", "Texts", "Visibility", "same_text"]

Texts = Int[Array, "batch length"]
"""Number of the text of each position (`primitives.causality.packed_texts`)."""

Prefix = Bool[Array, "batch length"]
"""Whether a position belongs to the prefix of its text (`primitives.causality.prefix_mask`)."""

Mask = Bool[Array, "batch rows keys"]
"""Whether a row may read a key, if the key is not at a later position."""


@dataclass(frozen=True, slots=True)
class Visibility:
    """Which positions a position may read.

    Attributes:
        texts: number of the text of each position, beginning at the first position; positions after the end belong to
            the last text. None: one text per sequence.
        prefix: whether a position belongs to a prefix, beginning at the first position; positions after the end do not.
            None: no prefix.
        mask: whether a row (a position that is computed) may read a key. Keys begin at the first position; keys after
            the end of the mask are treated as its last key. A row that may read nothing reads itself. None: no mask.
    """

    texts: Texts | None = None
    prefix: Prefix | None = None
    mask: Mask | None = None

    def keys(self, scores: Float[Array, "*axes rows keys"], first: int | Array = 0) -> Bool[Array, "#*axes rows keys"]:
        """Return which keys each row sees: keys that are not later, or in the same prefix, if texts and mask allow it.

        The rows start at position `first`, the keys at 0.
        """
        rows, keys = scores.shape[-2:]
        own, others = first + jnp.arange(rows), jnp.arange(keys)
        visible = (others[None] <= own[:, None])[None]
        if self.prefix is not None:
            visible = visible | (_prefix_at(self.prefix, own)[:, :, None] & _prefix_at(self.prefix, others)[:, None, :])
        if self.texts is not None:
            visible = visible & same_text(self.texts, own, others)
        if self.mask is not None:
            visible = visible & _mask_at(self.mask, others)
            visible = visible | ((others[None] == own[:, None])[None] & ~jnp.any(visible, axis=-1, keepdims=True))
        if scores.ndim == 2:
            return visible[0]
        return visible.reshape((1,) * (scores.ndim - 3) + visible.shape)

    def arguments(self, op: str, first: int | Array, rows: int) -> dict[str, Array]:
        """Return the arguments that these rules add to the `apply` of an op.

        The op has `rows` rows that begin at position `first`. The rows of the mask are the last of them.
        """
        given, positions = {}, first + jnp.arange(rows)
        if self.texts is not None and takes_texts(op):
            given["texts"] = _texts_at(self.texts, positions)
        if self.prefix is not None and takes_prefix(op):
            given["prefix"] = _prefix_at(self.prefix, positions)
        if self.mask is not None and takes_mask(op):
            before = [(0, 0), (rows - self.mask.shape[1], 0), (0, 0)]
            given["readable"] = jnp.pad(_mask_at(self.mask, positions), before, constant_values=True)
        return given


ALL_EARLIER = Visibility()
"""One text a sequence, without a prefix or a mask."""


def same_text(texts: Texts, rows: Int[Array, " rows"], keys: Int[Array, " keys"]) -> Bool[Array, "batch rows keys"]:
    """Return True where the positions of a row and of a key are in the same text."""
    return _texts_at(texts, rows)[:, :, None] == _texts_at(texts, keys)[:, None, :]


def _texts_at(texts: Texts, positions: Int[Array, " count"]) -> Int[Array, "batch count"]:
    return texts[:, jnp.clip(positions, 0, texts.shape[1] - 1)]


def _prefix_at(prefix: Prefix, positions: Int[Array, " count"]) -> Bool[Array, "batch count"]:
    length = prefix.shape[1]
    return prefix[:, jnp.clip(positions, 0, length - 1)] & (positions < length)[None]


def _mask_at(mask: Mask, positions: Int[Array, " count"]) -> Bool[Array, "batch rows count"]:
    return mask[:, :, jnp.clip(positions, 0, mask.shape[2] - 1)]
