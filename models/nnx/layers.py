"""Dense layers and norms of the blocks, and the constructor arguments that all their modules share."""

from __future__ import annotations

from typing import Any, Required, TypedDict, Unpack

import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype, Initializer

from ..functional.elementwise import NORM_EPSILON
from ..functional.flax_initializers import fan_in_normal
from ..functional.sharding import Dimension, Sharding, mesh_axes

__all__ = [
    "LayerOptions",
    "dense_arguments",
    "head_projection",
    "layer_norm",
    "mesh_metadata",
    "output_projection",
    "rms_norm",
    "without_kernel",
]


class LayerOptions(TypedDict, total=False):
    """Keyword arguments of every block, attention and feed forward.

    Attributes:
        dtype: dtype of the computation and the output; None: the dtype that Flax infers from input and parameters. In
            float16, gradients at rows of zeros are not finite (docs/blocks.md).
        param_dtype: dtype of the parameters.
        kernel_init: initializer of the dense layers; convolutions keep the initializer of `CausalDepthwiseConv`.
        sharding: mesh axes of parameters and cache; the mesh must be set with `jax.set_mesh`.
        rngs: random streams: `params`, and `dropout` for a block with dropout.
    """

    dtype: Dtype | None
    param_dtype: Dtype
    kernel_init: Initializer
    sharding: Sharding | None
    rngs: Required[nnx.Rngs]


def head_projection(width: int, heads: int, **options: Unpack[LayerOptions]) -> nnx.LinearGeneral:
    """Return the dense layer [batch, length, width] -> [batch, length, heads, width / heads]."""
    arguments = dense_arguments("embed", "heads", None, **options)
    return nnx.LinearGeneral(width, (heads, width // heads), use_bias=False, **arguments)


def output_projection(width: int, heads: int, **options: Unpack[LayerOptions]) -> nnx.LinearGeneral:
    """Return the dense layer [batch, length, heads, width / heads] -> [batch, length, width]."""
    arguments = dense_arguments("heads", None, "embed", **options)
    return nnx.LinearGeneral((heads, width // heads), width, axis=(-2, -1), use_bias=False, **arguments)


def layer_norm(width: int, **options: Unpack[LayerOptions]) -> nnx.LayerNorm:
    """Return a layer norm over the width (Ba et al. 2016); its variance is the mean of squared deviations."""
    axes = mesh_metadata(options.get("sharding"), "embed")
    return nnx.LayerNorm(width, bias_metadata=axes, **_norm_arguments(**options))


def rms_norm(width: int, **options: Unpack[LayerOptions]) -> nnx.RMSNorm:
    """Return a root mean square norm over the width (Zhang and Sennrich 2019)."""
    return nnx.RMSNorm(width, **_norm_arguments(**options))


def _norm_arguments(**options: Unpack[LayerOptions]) -> dict[str, Any]:
    axes = mesh_metadata(options.get("sharding"), "embed")
    return {"epsilon": NORM_EPSILON, "use_fast_variance": False, "scale_metadata": axes, **without_kernel(**options)}


def dense_arguments(
    *dimensions: Dimension | None,
    dtype: Dtype | None = None,
    param_dtype: Dtype = jnp.float32,
    kernel_init: Initializer = fan_in_normal,
    sharding: Sharding | None = None,
    rngs: nnx.Rngs,
) -> dict[str, Any]:
    """Return the arguments of a Flax layer with a kernel of these dimensions, with defaults for `LayerOptions`."""
    return {
        "dtype": dtype,
        "param_dtype": param_dtype,
        "kernel_init": kernel_init,
        "kernel_metadata": mesh_metadata(sharding, *dimensions),
        "rngs": rngs,
    }


def without_kernel(**options: Unpack[LayerOptions]) -> dict[str, Any]:
    """Return the options that layers without a dense kernel take."""
    return {name: value for name, value in options.items() if name in ("dtype", "param_dtype", "rngs")}


def mesh_metadata(sharding: Sharding | None, *dimensions: Dimension | None) -> dict[str, Any]:
    """Return the metadata that places a variable with these dimensions on the mesh; empty without sharding."""
    return {} if sharding is None else {"out_sharding": mesh_axes(sharding, *dimensions)}
