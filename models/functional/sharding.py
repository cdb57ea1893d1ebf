"""Which axis of a device mesh each kind of dimension is split over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Dimension", "Sharding", "mesh_axes"]

Dimension = Literal["batch", "embed", "heads", "mlp"]


@dataclass(frozen=True, slots=True)
class Sharding:
    """Mesh axes by kind of dimension; None leaves a dimension whole.

    `Sharding(heads="model", mlp="model")` is tensor parallelism (Shoeybi et al. 2019, arXiv 1909.08053): one reduction
    after attention and one after the feed forward. `embed="data"` beside it shards the parameters over the data axis
    as well. The mesh's axes are automatic: `jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(shape))`;
    with explicit ones JAX wants to be told how every sum over a split dimension is laid out.

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
    """The mesh axis of each dimension of an array; None where a dimension is never split.

    >>> mesh_axes(Sharding(heads="model"), "embed", "heads", None)
    (None, 'model', None)
    """
    return tuple(None if dimension is None else getattr(sharding, dimension) for dimension in dimensions)
