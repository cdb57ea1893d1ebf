"""The half of a block that looks at one position at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from ..functional.checks import check_positive
from ..functional.elementwise import squared_relu
from ..functional.initializers import FAN_IN_NORMAL
from ..functional.sharding import Sharding
from .layers import placed

__all__ = ["FeedForward", "SquaredReLU", "SwiGLU"]

Hidden = Float[Array, "batch length width"]


class FeedForward(nn.Module):
    """`out(activation(hidden(x)))`, two dense layers (Vaswani et al. 2017, section 3.3).

    >>> import jax
    >>> y, variables = FeedForward(64, nn.gelu).init_with_output(jax.random.key(0), jnp.ones((2, 5, 16)))
    >>> y.shape
    (2, 5, 16)

    Attributes:
        mlp_width: channels between the layers.
        activation: a function or module.
        use_out_bias: whether the second layer has a bias, as the first has.
        dtype: of the computation; None: as Flax infers it from the input and the parameters.
        param_dtype: what parameters are kept in.
        kernel_init: of the kernels.
        bias_init: of the biases.
        sharding: mesh axes of the parameters.
    """

    mlp_width: int
    activation: Callable[[Array], Array] = nn.relu
    use_out_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = FAN_IN_NORMAL
    bias_init: Initializer = nn.initializers.zeros
    sharding: Sharding | None = None

    def __post_init__(self):
        check_positive(mlp_width=self.mlp_width)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Hidden) -> Hidden:
        hidden = nn.Dense(
            self.mlp_width,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=placed(self.kernel_init, self.sharding, "embed", "mlp"),
            bias_init=placed(self.bias_init, self.sharding, "mlp"),
            name="hidden",
        )
        out = nn.Dense(
            x.shape[-1],
            use_bias=self.use_out_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=placed(self.kernel_init, self.sharding, "mlp", "embed"),
            bias_init=placed(self.bias_init, self.sharding, "embed"),
            name="out",
        )
        return out(self.activation(hidden(x)))


class SwiGLU(nn.Module):
    """`out(swish(gate(x)) * hidden(x))`, without biases (Shazeer 2020, arXiv 2002.05202).

    >>> import jax
    >>> y, variables = SwiGLU(48).init_with_output(jax.random.key(0), jnp.ones((2, 5, 16)))
    >>> y.shape
    (2, 5, 16)

    Attributes:
        mlp_width: channels between the layers.
        dtype: of the computation; None: as Flax infers it from the input and the parameters.
        param_dtype: what parameters are kept in.
        kernel_init: of the kernels.
        sharding: mesh axes of the parameters.
    """

    mlp_width: int
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    kernel_init: Initializer = FAN_IN_NORMAL
    sharding: Sharding | None = None

    def __post_init__(self):
        check_positive(mlp_width=self.mlp_width)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Hidden) -> Hidden:
        dense = partial(nn.Dense, use_bias=False, dtype=self.dtype, param_dtype=self.param_dtype)
        inwards = placed(self.kernel_init, self.sharding, "embed", "mlp")
        gate = dense(self.mlp_width, kernel_init=inwards, name="gate")
        hidden = dense(self.mlp_width, kernel_init=inwards, name="hidden")
        outwards = placed(self.kernel_init, self.sharding, "mlp", "embed")
        out = dense(x.shape[-1], kernel_init=outwards, name="out")
        return out(nn.silu(gate(x)) * hidden(x))


class SquaredReLU(nn.Module):
    """`max(x, 0)^2`, in place of ReLU or GELU in a feed forward; no parameters.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 4.

    >>> import jax.numpy as jnp
    >>> SquaredReLU().apply({}, jnp.array([-1.0, 2.0])).tolist()
    [0.0, 4.0]
    """

    def __call__(self, x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
        return squared_relu(x)
