"""The half of a block that looks at one position at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from ..functional.checks import check_positive
from ..functional.elementwise import squared_relu
from ..functional.initializers import FAN_IN_NORMAL
from ..functional.sharding import Sharding
from .layers import placed

__all__ = ["FeedForward", "SquaredReLU", "SwiGLU"]

Hidden = Float[Array, "batch length width"]


class FeedForward(nnx.Module):
    """`out(activation(hidden(x)))`, two dense layers (Vaswani et al. 2017, section 3.3).

    >>> feed_forward = FeedForward(16, 64, nnx.gelu, rngs=nnx.Rngs(0))
    >>> feed_forward(jnp.ones((2, 5, 16))).shape
    (2, 5, 16)
    """

    def __init__(
        self,
        width: int,
        mlp_width: int,
        activation: Callable[[Array], Array] = jax.nn.relu,
        *,
        use_out_bias: bool = True,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        kernel_init: Initializer = FAN_IN_NORMAL,
        bias_init: Initializer = nnx.initializers.zeros,
        sharding: Sharding | None = None,
        rngs: nnx.Rngs,
    ):
        """Draw the parameters.

        Args:
            width: channels of input and output.
            mlp_width: channels between the layers.
            activation: a function or module.
            use_out_bias: whether the second layer has a bias, as the first has.
            dtype: of the computation; None: as Flax infers it from the input and the parameters.
            param_dtype: what parameters are kept in.
            kernel_init: of the kernels.
            bias_init: of the biases.
            sharding: mesh axes of the parameters; needs the mesh in context (`jax.set_mesh`).
            rngs: the stream `params` is drawn from.
        """
        check_positive(width=width, mlp_width=mlp_width)
        linear = partial(
            nnx.Linear, dtype=dtype, param_dtype=param_dtype, kernel_init=kernel_init, bias_init=bias_init, rngs=rngs
        )
        self.hidden = linear(
            width,
            mlp_width,
            kernel_metadata=placed(sharding, "embed", "mlp"),
            bias_metadata=placed(sharding, "mlp"),
        )
        self.activation = activation
        self.out = linear(
            mlp_width,
            width,
            use_bias=use_out_bias,
            kernel_metadata=placed(sharding, "mlp", "embed"),
            bias_metadata=placed(sharding, "embed"),
        )

    def __call__(self, x: Hidden) -> Hidden:
        return self.out(self.activation(self.hidden(x)))


class SwiGLU(nnx.Module):
    """`out(swish(gate(x)) * hidden(x))`, without biases (Shazeer 2020, arXiv 2002.05202).

    >>> SwiGLU(16, 48, rngs=nnx.Rngs(0))(jnp.ones((2, 5, 16))).shape
    (2, 5, 16)
    """

    def __init__(
        self,
        width: int,
        mlp_width: int,
        *,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        kernel_init: Initializer = FAN_IN_NORMAL,
        sharding: Sharding | None = None,
        rngs: nnx.Rngs,
    ):
        """Draw the parameters; the arguments are those of `FeedForward`."""
        check_positive(width=width, mlp_width=mlp_width)
        linear = partial(
            nnx.Linear, use_bias=False, dtype=dtype, param_dtype=param_dtype, kernel_init=kernel_init, rngs=rngs
        )
        self.gate = linear(width, mlp_width, kernel_metadata=placed(sharding, "embed", "mlp"))
        self.hidden = linear(width, mlp_width, kernel_metadata=placed(sharding, "embed", "mlp"))
        self.out = linear(mlp_width, width, kernel_metadata=placed(sharding, "mlp", "embed"))

    def __call__(self, x: Hidden) -> Hidden:
        return self.out(jax.nn.silu(self.gate(x)) * self.hidden(x))


class SquaredReLU(nnx.Module):
    """`max(x, 0)^2`, in place of ReLU or GELU in a feed forward; no parameters.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 4.

    >>> import jax.numpy as jnp
    >>> SquaredReLU()(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 4.0]
    """

    def __call__(self, x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
        return squared_relu(x)
