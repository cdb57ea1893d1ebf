"""Sharding as Flax Linen writes it down: initializers that box what they make."""

from __future__ import annotations

from flax import linen as nn
from flax.typing import Initializer

from ..functional.sharding import Dimension, Sharding, mesh_axes

__all__ = ["placed"]


def placed(init: Initializer, sharding: Sharding | None, *dimensions: Dimension | None) -> Initializer:
    """The initializer of an array with these dimensions, placed on the mesh; `init` itself where nothing is sharded."""
    return init if sharding is None else nn.with_partitioning(init, mesh_axes(sharding, *dimensions))
