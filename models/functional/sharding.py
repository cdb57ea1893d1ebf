"""Mesh axes over which the dimensions of a block are split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Dimension", "Sharding", "mesh_axes"]

Dimension = Literal["batch", "embed", "heads", "mlp"]


@dataclass(frozen=True, slots=True)
class Sharding:
    """Mesh axis that each kind of dimension is split over; None: not split.

    `Sharding(heads="model", mlp="model")` is tensor parallelism (Shoeybi et al. 2019, arXiv 1909.08053): one reduction
    after attention and one after the feed forward. `embed="data"` in addition shards the parameters over the data axis.
    The mesh's axes must be automatic: `jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(shape))`. With
    explicit axes, JAX needs the layout of every sum over a split dimension.

    Attributes:
        batch: sequences, in the cached keys and values.
        embed: the block's width.
        heads: attention heads.
        mlp: the feed forward's hidden width.
    """

    batch: str | None = None
    embed: str | None = None
    heads: str | None = None
    mlp: str | None = None

    def __post_init__(self):
        for name in ("heads", "mlp"):
            if self.embed is not None and getattr(self, name) == self.embed:
                raise ValueError(
                    f"sharding splits embed and {name} over the same mesh axis {self.embed!r}, "
                    "but one kernel has both; name two axes"
                )
        if self.batch is not None and self.batch == self.heads:
            raise ValueError(
                f"sharding splits batch and heads over the same mesh axis {self.batch!r}, but a cache has both; "
                "name two axes"
            )


def mesh_axes(sharding: Sharding, *dimensions: Dimension | None) -> tuple[str | None, ...]:
    """Return the mesh axis of each dimension of an array; None for a dimension that is not split.

    >>> mesh_axes(Sharding(heads="model"), "embed", "heads", None)
    (None, 'model', None)
    """
    return tuple(None if dimension is None else getattr(sharding, dimension) for dimension in dimensions)
