"""LEAST_SQUARES for training: conjugate gradients solve the systems of all positions at once.

Each position has its own system, (sum of k k^T over the past + diag(ridge)) z = q. Division by the square root of the
ridge on both sides turns its matrix into the identity plus a sum of products. The product of this matrix with z is
linear attention. Masked scores compute it within a chunk of positions, and the sum of k k^T over all earlier chunks
adds the rest. So memory grows with length times width, as in MesaNet (2025, arXiv 2506.05233), and one step takes a few
matrix products.

Each position stops when its residual is as small as rounding errors. So its solution does not depend on other positions
or sequences. Keys with norm 1 need at most 20 steps for up to 128 channels. Keys with a large norm and 32 channels or
more reach the limit of steps, twice the number of channels.

The gradient is the gradient of the solution, not of the steps (implicit differentiation). It solves the same systems
once more. The functions below `apply_least_squares` are copied into exported files.
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
    """Apply LEAST_SQUARES, with the arguments of `primitives.ops.least_squares` and the largest number of steps."""
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
        ridge: positive numbers, [..., 1, width], with as many axes as q.
        steps: largest number of conjugate-gradient steps.
        texts: number of each position's text, [..., length]; each text has its own sum. If `before` is given, the
            text of the previous position comes first: [..., 1 + length].
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

    A vector stops when the norm of its residual is at most 8 machine epsilons of the norm of `right`, or after `steps`
    steps, or after twice as many steps as it has channels. Exact arithmetic would need one step for each channel.
    """
    largest = jnp.max(jnp.abs(right), axis=-1, keepdims=True)
    scale = jnp.where(largest == 0, 1, largest)  # so that no square overflows or underflows

    def dot(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sum(x * y, axis=-1, keepdims=True)

    start = right / scale
    tolerance = jnp.square(8 * jnp.finfo(right.dtype).eps) * dot(start, start)

    def continues(state: tuple[jax.Array, ...]) -> jax.Array:
        return (state[0] < jnp.minimum(steps, 2 * right.shape[-1])) & jnp.any(state[-1] > tolerance)

    def step(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        count, z, residual, direction, square = state
        image = product(direction)
        alpha = jnp.where(square > tolerance, square / jnp.maximum(dot(direction, image), 1e-30), 0)
        residual = residual - alpha * image
        new_square = dot(residual, residual)
        new_direction = residual + new_square / jnp.maximum(square, 1e-30) * direction
        return count + 1, z + alpha * direction, residual, new_direction, new_square

    first = (jnp.zeros((), jnp.int32), jnp.zeros_like(start), start, start, dot(start, start))
    return scale * jax.lax.while_loop(continues, step, first)[1]


def sum_of_products(k: jax.Array, texts: jax.Array | None, before: jax.Array) -> jax.Array:
    """Return `before` plus the sum of k k^T over the positions of k, [..., width, width].

    Both sums are restricted to the text of the last position. The arguments are those of `least_squares`; `texts`
    begins with the text of the previous position.
    """
    k = k.astype(before.dtype)
    counted = k
    if texts is not None:
        last = texts[..., -1:]
        counted = jnp.where((texts[..., 1:] == last)[..., None], k, 0)
        before = jnp.where((texts[..., :1] == last)[..., None], before, 0)
    return before + jnp.matmul(jnp.swapaxes(counted, -1, -2), k, precision="highest")
