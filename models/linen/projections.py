"""The dense layers into heads and out of them.

They are `nn.Einsum`: `nn.DenseGeneral` hands its initializer a flat shape, which the mesh axes of the whole kernel do
not fit.
"""

from __future__ import annotations

from flax import linen as nn
from flax.typing import Dtype, Initializer

from ..functional.initializers import as_matrix
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
) -> nn.Einsum:
    """[batch, length, width] -> [batch, length, heads, width / heads]."""
    return nn.Einsum(
        (width, heads, width // heads),
        "blw,whc->blhc",
        use_bias=False,
        dtype=dtype,
        param_dtype=param_dtype,
        kernel_init=placed(as_matrix(kernel_init, inputs=1), sharding, "embed", "heads", None),
        name=name,
    )


def output_projection(
    width: int,
    heads: int,
    *,
    dtype: Dtype | None,
    param_dtype: Dtype,
    kernel_init: Initializer,
    sharding: Sharding | None,
    name: str,
) -> nn.Einsum:
    """[batch, length, heads, width / heads] -> [batch, length, width]."""
    return nn.Einsum(
        (heads, width // heads, width),
        "blhc,hcw->blw",
        use_bias=False,
        dtype=dtype,
        param_dtype=param_dtype,
        kernel_init=placed(as_matrix(kernel_init, inputs=2), sharding, "heads", None, "embed"),
        name=name,
    )
