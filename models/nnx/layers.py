"""The dense layers into heads and out of them."""

from __future__ import annotations

from typing import Any

from flax import nnx
from flax.typing import Dtype, Initializer

from ..functional.elementwise import NORM_EPSILON
from ..functional.sharding import Dimension, Sharding, mesh_axes

__all__ = ["head_projection", "layer_norm", "output_projection", "placed", "rms_norm"]


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


def layer_norm(
    width: int, *, dtype: Dtype | None, param_dtype: Dtype, sharding: Sharding | None, rngs: nnx.Rngs
) -> nnx.LayerNorm:
    """Layer norm over the width (Ba et al. 2016), its variance the mean of squared deviations."""
    return nnx.LayerNorm(
        width,
        epsilon=NORM_EPSILON,
        use_fast_variance=False,
        dtype=dtype,
        param_dtype=param_dtype,
        scale_metadata=placed(sharding, "embed"),
        bias_metadata=placed(sharding, "embed"),
        rngs=rngs,
    )


def rms_norm(
    width: int, *, dtype: Dtype | None, param_dtype: Dtype, sharding: Sharding | None, rngs: nnx.Rngs
) -> nnx.RMSNorm:
    """Root mean square norm over the width (Zhang and Sennrich 2019)."""
    return nnx.RMSNorm(
        width,
        epsilon=NORM_EPSILON,
        use_fast_variance=False,
        dtype=dtype,
        param_dtype=param_dtype,
        scale_metadata=placed(sharding, "embed"),
        rngs=rngs,
    )


def placed(sharding: Sharding | None, *dimensions: Dimension | None) -> dict[str, Any]:
    """The metadata that places an array with these dimensions on the mesh; empty where nothing is sharded."""
    return {} if sharding is None else {"out_sharding": mesh_axes(sharding, *dimensions)}
