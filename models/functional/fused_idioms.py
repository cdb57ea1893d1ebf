"""Idioms that a compiled block computes in one call, in fewer passes over the data than their primitives need.

An idiom is a group of primitives with a known function, such as a softmax. The primitives remain the definition of a
program: decoding, recorded activations, the fingerprint and the causality proof use them. A fused function equals its
primitives up to rounding (1e-5 in float32). It raises small divisors in the same way, and it overflows for the same
inputs. `model.fused = false` disables all fused functions. SiLU and GELU have none, because XLA already computes
elementwise primitives in one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...primitives.graphs.graph import Graph
from ...primitives.graphs.idioms import IdiomKind, find_idioms
from ...primitives.graphs.interpreter import FusedGroup
from ...primitives.ops.op_arithmetic import EPSILON
from ..visibility import ALL_EARLIER, Visibility

__all__ = ["FUSED", "fused_groups"]

Rows = Float[Array, "*axes last"]


def layer_norm(x: Rows) -> Rows:
    """Return (x - mean) / max(standard deviation, 1e-6)."""
    return rms_norm(x - jnp.mean(x, axis=-1, keepdims=True))


def rms_norm(x: Rows) -> Rows:
    """Return x / max(root mean square, 1e-6)."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.mean(jnp.square(x), axis=-1, keepdims=True), EPSILON**2))


def softmax(scores: Rows) -> Rows:
    """Return the softmax over the last axis."""
    return jax.nn.softmax(scores, axis=-1)


def causal_softmax(
    scores: Float[Array, "*axes rows keys"], visibility: Visibility = ALL_EARLIER
) -> Float[Array, "*axes rows keys"]:
    """Return the softmax of each row over the keys that it sees; other keys get exactly 0."""
    return jax.nn.softmax(jnp.where(visibility.keys(scores), scores, -jnp.inf), axis=-1)


FUSED: Mapping[IdiomKind, Callable[[Array], Array]] = {
    IdiomKind.LAYER_NORM: layer_norm,
    IdiomKind.RMS_NORM: rms_norm,
    IdiomKind.SOFTMAX: softmax,
    IdiomKind.CAUSAL_SOFTMAX: causal_softmax,
}
"""Fused functions, by the kind of idiom that they compute."""


def fused_groups(graph: Graph) -> dict[int, FusedGroup]:
    """Return the groups of a program that have a fused function, by the index of the node that is their result."""
    return {
        result: FusedGroup(idiom.source, frozenset(idiom.nodes[:-1]), FUSED[idiom.kind])
        for result, idiom in find_idioms(graph).items()
        if idiom.kind in FUSED
    }
