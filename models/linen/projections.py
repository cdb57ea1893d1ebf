"""The dense layers into heads and out of them."""

from __future__ import annotations

from flax import linen as nn
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
    name: str,
) -> nn.DenseGeneral:
    """[batch, length, width] -> [batch, length, heads, width / heads]."""
    return nn.DenseGeneral(
        (heads, width // heads),
        use_bias=False,
        dtype=dtype,
        param_dtype=param_dtype,
        kernel_init=placed(kernel_init, sharding, "embed", "heads", None),
        name=name,
    )


def output_projection(
    width: int,
    *,
    dtype: Dtype | None,
    param_dtype: Dtype,
    kernel_init: Initializer,
    sharding: Sharding | None,
    name: str,
) -> nn.DenseGeneral:
    """[batch, length, heads, width / heads] -> [batch, length, width]."""
    return nn.DenseGeneral(
        width,
        axis=(-2, -1),
        use_bias=False,
        dtype=dtype,
        param_dtype=param_dtype,
        kernel_init=placed(kernel_init, sharding, "heads", None, "embed"),
        name=name,
    )
