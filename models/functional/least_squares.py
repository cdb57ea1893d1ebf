"""LEAST_SQUARES for training: the systems of all positions at once, by conjugate gradients.

Each position has its own system, (sum of k k^T over the past + diag(ridge)) z = q. Divided by the root of the ridge on
both sides, its matrix is the identity plus a sum. The product of that matrix with z is linear attention: within a chunk
of positions by masked scores, for earlier chunks by the sum of k k^T before each. So memory grows with length times
width, as in MesaNet (2025, arXiv 2506.05233), and one step is a few matrix products.

Each position takes steps until its residual is as small as rounding, and no more. So its solution does not depend on
other positions or sequences. Keys of length 1 need at most 20 steps for up to 128 channels; long keys of 32 channels or
more stop at twice as many as they have channels.

The gradient is that of the solution, not of the steps (implicit differentiation): it needs one more solution of the
same systems. The functions below `apply_least_squares` are copied into exported files.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ...primitives.ops.least_squares import SOLVE_STEPS, ridge_of

__all__ = ["apply_least_squares", "conjugate_gradients", "least_squares", "sum_of_products"]


def apply_least_squares(
    xp: Any,
    operands: list[Any],
    parameters: dict[str, Any],
    constant: float,
    kernel: int,
    texts: Any = None,
    before: Any = None,
    *,
    steps: int,
) -> jax.Array:
    """Apply LEAST_SQUARES, with the arguments of `primitives.ops.least_squares` and the number of steps."""
    q, k = operands
    ridge = ridge_of(jnp, parameters["ridge"].astype(jnp.promote_types(q.dtype, jnp.float32)))[..., None, :]
    rank = max(q.ndim, k.ndim, ridge.ndim)
    q, k, ridge = (jnp.expand_dims(x, tuple(range(rank - x.ndim))) for x in (q, k, ridge))
    if texts is not None:
        texts = jnp.expand_dims(texts, tuple(range(rank - 1 - texts.ndim)))
    return least_squares(q, k, ridge, steps, texts, before)


def least_squares(
    q: jax.Array,
    k: jax.Array,
    ridge: jax.Array,
    steps: int = SOLVE_STEPS,
    texts: jax.Array | None = None,
    before: jax.Array | None = None,
) -> jax.Array:
    """Return z with (sum of k k^T over the same and earlier positions + diag(ridge)) z = q, at each position.

    Args:
        q: right-hand sides, [..., length, width].
        k: keys of the same shape.
        ridge: positive, [..., 1, width], all leading axes given.
        steps: most steps of conjugate gradients.
        texts: number of the text of each position, [..., length]; each text has its own sum. If `before` is given,
            after that of the position before the first one.
        before: sum of k k^T over earlier positions, [..., width, width].
    """
    dtype, (length, width) = jnp.promote_types(q.dtype, jnp.float32), q.shape[-2:]
    size = min(length, max(width, 32))
    count = -(-length // size)

    def in_chunks(x: jax.Array, axis: int, mode: str = "constant") -> jax.Array:
        end = [(0, 0)] * x.ndim
        end[axis] = (0, count * size - length)
        padded, axis = jnp.pad(x, end, mode=mode), x.ndim + axis
        return padded.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])

    root = jnp.sqrt(ridge.astype(dtype))
    right, keys = (in_chunks(x.astype(dtype) / root, -2) for x in (q, k))
    visible, follows = jnp.tril(jnp.ones((size, size), bool)), jnp.tril(jnp.ones((count, count), bool), -1)
    visible, follows = (jnp.expand_dims(x, tuple(range(q.ndim - 2))) for x in (visible[None], follows))
    own, continues = jnp.ones((), dtype), jnp.ones((), dtype)
    counted = keys
    if texts is not None:
        numbers = in_chunks(texts[..., -length:], -1, "edge")
        first, last = numbers[..., :1], numbers[..., -1:]
        visible = visible & (numbers[..., :, None] == numbers[..., None, :])
        follows = follows & (first == jnp.swapaxes(last, -1, -2))
        counted = jnp.where((numbers == last)[..., None], keys, 0)
        own = (numbers == first)[..., None].astype(dtype)
        continues = (first == texts[..., None, :1])[..., None].astype(dtype)
    sums = jnp.matmul(jnp.swapaxes(counted, -1, -2), keys, precision="highest")
    flat = sums.reshape(*sums.shape[:-2], width * width)
    earlier = jnp.matmul(follows.astype(dtype), flat, precision="highest").reshape(sums.shape)
    if before is not None:
        scaled = before.astype(dtype) / root / jnp.swapaxes(root, -1, -2)
        earlier = earlier + continues * scaled[..., None, :, :]

    def product(z: jax.Array) -> jax.Array:
        scores = jnp.matmul(z, jnp.swapaxes(keys, -1, -2), precision="highest")
        within = jnp.matmul(jnp.where(visible, scores, 0), keys, precision="highest")
        return z + within + own * jnp.matmul(z, earlier, precision="highest")

    def solve(_: Any, right: jax.Array) -> jax.Array:
        return conjugate_gradients(product, right, steps)

    z = jax.lax.custom_linear_solve(product, right, solve, symmetric=True)
    z = z.reshape(*z.shape[:-3], count * size, width)[..., :length, :]
    return (z / root).astype(q.dtype)


def conjugate_gradients(product: Any, right: jax.Array, steps: int) -> jax.Array:
    """Return the solution z of `product(z) = right` for each vector of the last axis (Hestenes and Stiefel 1952).

    A vector takes steps until its residual is 8 units of rounding of `right` long, and at most twice as many as it has
    channels: exact arithmetic needs as many as there are channels.
    """
    largest = jnp.max(jnp.abs(right), axis=-1, keepdims=True)
    scale = jnp.where(largest == 0, 1, largest)  # so that no square overflows or vanishes

    def dot(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sum(x * y, axis=-1, keepdims=True)

    start = right / scale
    enough = jnp.square(8 * jnp.finfo(right.dtype).eps) * dot(start, start)

    def continues(state: tuple[jax.Array, ...]) -> jax.Array:
        return (state[0] < jnp.minimum(steps, 2 * right.shape[-1])) & jnp.any(state[-1] > enough)

    def step(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        count, z, residual, direction, size = state
        moved = product(direction)
        along = jnp.where(size > enough, size / jnp.maximum(dot(direction, moved), 1e-30), 0)
        residual = residual - along * moved
        left = dot(residual, residual)
        following = residual + left / jnp.maximum(size, 1e-30) * direction
        return count + 1, z + along * direction, residual, following, left

    first = (jnp.zeros((), jnp.int32), jnp.zeros_like(start), start, start, dot(start, start))
    return scale * jax.lax.while_loop(continues, step, first)[1]


def sum_of_products(k: jax.Array, texts: jax.Array | None, before: jax.Array) -> jax.Array:
    """Return the sum of k k^T over the text of the last position, [..., width, width], which continues `before`.

    Arguments are those of `least_squares`; `texts` begins with the text of the position before the first one.
    """
    k = k.astype(before.dtype)
    counted = k
    if texts is not None:
        last = texts[..., -1:]
        counted = jnp.where((texts[..., 1:] == last)[..., None], k, 0)
        before = jnp.where((texts[..., :1] == last)[..., None], before, 0)
    return before + jnp.matmul(jnp.swapaxes(counted, -1, -2), k, precision="highest")
