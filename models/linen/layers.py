"""The dense layers into heads and out of them.

They are `nn.Einsum`: `nn.DenseGeneral` hands its initializer a flat shape, which the mesh axes of the whole kernel do
not fit.
"""

from __future__ import annotations

from flax import linen as nn
from flax.typing import Dtype, Initializer
from jaxtyping import Array

from ..functional.checks import check_input
from ..functional.elementwise import NORM_EPSILON
from ..functional.initializers import matrix_init
from ..functional.sharding import Dimension, Sharding, mesh_axes

__all__ = ["check_width", "head_projection", "layer_norm", "output_projection", "placed", "rms_norm"]


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
        kernel_init=placed(matrix_init(kernel_init, inputs=1), sharding, "embed", "heads", None),
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
        kernel_init=placed(matrix_init(kernel_init, inputs=2), sharding, "heads", None, "embed"),
        name=name,
    )


def layer_norm(*, dtype: Dtype | None, param_dtype: Dtype, sharding: Sharding | None, name: str) -> nn.LayerNorm:
    """Layer norm over the width (Ba et al. 2016), its variance the mean of squared deviations."""
    return nn.LayerNorm(
        epsilon=NORM_EPSILON,
        use_fast_variance=False,
        dtype=dtype,
        param_dtype=param_dtype,
        scale_init=placed(nn.initializers.ones, sharding, "embed"),
        bias_init=placed(nn.initializers.zeros, sharding, "embed"),
        name=name,
    )


def rms_norm(*, dtype: Dtype | None, param_dtype: Dtype, sharding: Sharding | None, name: str) -> nn.RMSNorm:
    """Root mean square norm over the width (Zhang and Sennrich 2019)."""
    return nn.RMSNorm(
        epsilon=NORM_EPSILON,
        use_fast_variance=False,
        dtype=dtype,
        param_dtype=param_dtype,
        scale_init=placed(nn.initializers.ones, sharding, "embed"),
        name=name,
    )


def placed(init: Initializer, sharding: Sharding | None, *dimensions: Dimension | None) -> Initializer:
    """The initializer of an array with these dimensions, placed on the mesh; `init` itself where nothing is sharded."""
    return init if sharding is None else nn.with_partitioning(init, mesh_axes(sharding, *dimensions))


def check_width(module: nn.Module, x: Array, layer: str, parameter: str) -> None:
    """Refuse an `x` that is not [batch, length, width], the width being that of a parameter's first axis, if made."""
    made = nn.meta.unbox(module.variables.get("params", {})).get(layer, {}).get(parameter)
    check_input(x, None if made is None else made.shape[0])
