"""Dense layers and norms of the blocks, and the fields that all their modules share.

Projections are `nn.Einsum`, because `nn.DenseGeneral` calls its initializer with a flattened shape, which does not fit
the mesh axes of the kernel.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jaxtyping import Array

from ..functional.checks import check_input, check_positive
from ..functional.elementwise import NORM_EPSILON
from ..functional.flax_initializers import fan_in_normal, matrix_init
from ..functional.sharding import Dimension, Sharding, mesh_axes

__all__ = [
    "LayerModule",
    "check_width",
    "dense_fields",
    "head_projection",
    "layer_norm",
    "output_projection",
    "rms_norm",
    "with_mesh_axes",
]

SIZES = ("heads", "kernel_size", "length", "mlp_width")
"""Fields that are sizes, at least 1."""


class LayerModule(nn.Module, kw_only=True):
    """Base class of blocks, attentions and feed forwards, with their common fields, which are given by keyword.

    Attributes:
        dtype: dtype of the computation and the output; None: the dtype that Flax infers from input and parameters.
        param_dtype: dtype of the parameters.
        kernel_init: initializer of the dense layers; convolutions keep the initializer of `CausalDepthwiseConv`.
        sharding: mesh axes of parameters and cache.
    """

    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = fan_in_normal
    sharding: Sharding | None = None

    def __post_init__(self):
        fields = vars(self)
        check_positive(**{name: fields[name] for name in SIZES if fields.get(name) is not None})
        super().__post_init__()

    def shared_fields(self) -> dict:
        """Return the common fields, as arguments of another module."""
        return {name: getattr(self, name) for name in ("dtype", "param_dtype", "kernel_init", "sharding")}


def head_projection(module: LayerModule, width: int, heads: int, name: str) -> nn.Einsum:
    """Return the dense layer [batch, length, width] -> [batch, length, heads, width / heads]."""
    kernel_init = matrix_init(module.kernel_init, inputs=1)
    fields = dense_fields(module, "embed", "heads", None, kernel_init=kernel_init)
    return nn.Einsum((width, heads, width // heads), "blw,whc->blhc", use_bias=False, **fields, name=name)


def output_projection(module: LayerModule, width: int, heads: int, name: str) -> nn.Einsum:
    """Return the dense layer [batch, length, heads, width / heads] -> [batch, length, width]."""
    kernel_init = matrix_init(module.kernel_init, inputs=2)
    fields = dense_fields(module, "heads", None, "embed", kernel_init=kernel_init)
    return nn.Einsum((heads, width // heads, width), "blhc,hcw->blw", use_bias=False, **fields, name=name)


def dense_fields(
    module: LayerModule, *dimensions: Dimension | None, kernel_init: Initializer | None = None
) -> dict[str, Any]:
    """Return the fields of a Flax layer with a kernel of these dimensions."""
    kernel_init = with_mesh_axes(kernel_init or module.kernel_init, module.sharding, *dimensions)
    return {"dtype": module.dtype, "param_dtype": module.param_dtype, "kernel_init": kernel_init}


def layer_norm(module: LayerModule, name: str) -> nn.LayerNorm:
    """Return a layer norm over the width (Ba et al. 2016); its variance is the mean of squared deviations."""
    bias_init = with_mesh_axes(nn.initializers.zeros, module.sharding, "embed")
    return nn.LayerNorm(bias_init=bias_init, **_norm_fields(module), name=name)


def rms_norm(module: LayerModule, name: str) -> nn.RMSNorm:
    """Return a root mean square norm over the width (Zhang and Sennrich 2019)."""
    return nn.RMSNorm(**_norm_fields(module), name=name)


def _norm_fields(module: LayerModule) -> dict[str, Any]:
    return {
        "epsilon": NORM_EPSILON,
        "use_fast_variance": False,
        "dtype": module.dtype,
        "param_dtype": module.param_dtype,
        "scale_init": with_mesh_axes(nn.initializers.ones, module.sharding, "embed"),
    }


def with_mesh_axes(init: Initializer, sharding: Sharding | None, *dimensions: Dimension | None) -> Initializer:
    """Return the initializer of an array with these dimensions on the mesh; `init` itself without sharding."""
    return init if sharding is None else nn.with_partitioning(init, mesh_axes(sharding, *dimensions))


def check_width(module: nn.Module, x: Array, layer: str, parameter: str) -> None:
    """Check that `x` is [batch, length, width]. If the parameter exists, its first axis must have the same width."""
    existing = nn.meta.unbox(module.variables.get("params", {})).get(layer, {}).get(parameter)
    check_input(x, None if existing is None else existing.shape[0])
