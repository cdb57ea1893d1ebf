"""Flax's norms with the small epsilon of the programs."""

from __future__ import annotations

from flax import nnx
from flax.typing import Dtype

from ..functional.elementwise import NORM_EPSILON
from ..functional.sharding import Sharding
from .sharding import placed

__all__ = ["layer_norm", "rms_norm"]


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
