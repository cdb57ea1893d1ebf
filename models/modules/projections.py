"""The dense layers into heads and out of them."""

from __future__ import annotations

from flax import nnx
from flax.typing import Dtype, Initializer

from ..functional.sharding import Sharding
from .sharding import placed

__all__ = ["head_projection", "output_projection"]


def head_projection(
    width: int,
    heads: int,
    *,
    dtype: Dtype | None,
    param_dtype: Dtype,
    kernel_init: Initializer,
    sharding: Sharding | None,
    rngs: nnx.Rngs,
) -> nnx.LinearGeneral:
    """[batch, length, width] -> [batch, length, heads, width / heads]."""
    return nnx.LinearGeneral(
        width,
        (heads, width // heads),
        use_bias=False,
        dtype=dtype,
        param_dtype=param_dtype,
        kernel_init=kernel_init,
        kernel_metadata=placed(sharding, "embed", "heads", None),
        rngs=rngs,
    )


def output_projection(
    width: int,
    heads: int,
    *,
    dtype: Dtype | None,
    param_dtype: Dtype,
    kernel_init: Initializer,
    sharding: Sharding | None,
    rngs: nnx.Rngs,
) -> nnx.LinearGeneral:
    """[batch, length, heads, width / heads] -> [batch, length, width]."""
    return nnx.LinearGeneral(
        (heads, width // heads),
        width,
        axis=(-2, -1),
        use_bias=False,
        dtype=dtype,
        param_dtype=param_dtype,
        kernel_init=kernel_init,
        kernel_metadata=placed(sharding, "heads", None, "embed"),
        rngs=rngs,
    )
