"""Flax's norms with the small epsilon of the programs."""

from __future__ import annotations

from flax import linen as nn
from flax.typing import Dtype

from ..functional.elementwise import NORM_EPSILON
from ..functional.sharding import Sharding
from .sharding import placed

__all__ = ["layer_norm", "rms_norm"]


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
