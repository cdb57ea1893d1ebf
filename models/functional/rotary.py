"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864), in the half-split layout."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

__all__ = ["rotate"]

BASE = 10_000.0
"""Base of the frequencies, as in the paper: the longest wavelength is 2 pi times this."""


def rotate(
    x: Float[Array, "batch length heads channels"], positions: Int[Array, "*batch length"]
) -> Float[Array, "batch length heads channels"]:
    """Rotate channel pairs by angles proportional to the position, so that scores depend on relative positions only.

    Channel i is paired with channel i + channels / 2 (half-split, as in GPT-NeoX and Llama), not with its neighbour as
    in the paper; the two differ by a permutation of the channels.

    Args:
        x: queries or keys.
        positions: position of each token, [length] for all sequences or [batch, length].

    Raises:
        ValueError: the number of channels is odd, or the positions do not fit `x`.
    """
    batch, length, _, channels = x.shape
    if channels % 2:
        raise ValueError(
            f"heads have {channels} channels, but rotary positions need an even number; choose another number of heads"
        )
    positions = jnp.asarray(positions)
    if positions.shape not in ((length,), (1, length), (batch, length)):
        raise ValueError(
            f"positions have shape {list(positions.shape)}, but must have shape [{length}] or [{batch}, {length}]: "
            "one position for each token of x"
        )
    frequencies = BASE ** -jnp.linspace(0, 1, channels // 2, endpoint=False)
    angles = positions.reshape(-1, length, 1, 1) * frequencies.reshape(1, 1, 1, -1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)
