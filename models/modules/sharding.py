"""Sharding as Flax NNX writes it down: metadata of a variable."""

from __future__ import annotations

from typing import Any

from ..functional.sharding import Dimension, Sharding, mesh_axes

__all__ = ["placed"]


def placed(sharding: Sharding | None, *dimensions: Dimension | None) -> dict[str, Any]:
    """The metadata that places an array with these dimensions on the mesh; empty where nothing is sharded."""
    return {} if sharding is None else {"out_sharding": mesh_axes(sharding, *dimensions)}
