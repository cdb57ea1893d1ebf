"""Feed forwards, the part of a block that transforms each position separately."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import jax
from flax import nnx
from flax.typing import Initializer
from jaxtyping import Array, Float

from ..functional.attention import Hidden
from ..functional.checks import check_positive
from ..functional.elementwise import squared_relu
from .layers import LayerOptions, dense_arguments, mesh_metadata

__all__ = ["FeedForward", "SquaredReLU", "SwiGLU"]


class FeedForward(nnx.Module):
    """`out(activation(hidden(x)))`, two dense layers (Vaswani et al. 2017, section 3.3).

    >>> import jax.numpy as jnp
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
        bias_init: Initializer = nnx.initializers.zeros,
        **options: Unpack[LayerOptions],
    ):
        """Initialize the parameters.

        Args:
            width: channels of input and output.
            mlp_width: channels of the hidden layer.
            activation: function or module.
            use_out_bias: whether the second layer has a bias; the first always has one.
            bias_init: initializer of the biases.
            **options: `LayerOptions`.
        """
        check_positive(width=width, mlp_width=mlp_width)
        sharding = options.get("sharding")
        self.hidden = nnx.Linear(
            width,
            mlp_width,
            bias_init=bias_init,
            bias_metadata=mesh_metadata(sharding, "mlp"),
            **dense_arguments("embed", "mlp", **options),
        )
        self.activation = activation
        self.out = nnx.Linear(
            mlp_width,
            width,
            use_bias=use_out_bias,
            bias_init=bias_init,
            bias_metadata=mesh_metadata(sharding, "embed"),
            **dense_arguments("mlp", "embed", **options),
        )

    def __call__(self, x: Hidden) -> Hidden:
        return self.out(self.activation(self.hidden(x)))


class SwiGLU(nnx.Module):
    """`out(swish(gate(x)) * hidden(x))`, without biases (Shazeer 2020, arXiv 2002.05202).

    >>> import jax.numpy as jnp
    >>> SwiGLU(16, 48, rngs=nnx.Rngs(0))(jnp.ones((2, 5, 16))).shape
    (2, 5, 16)
    """

    def __init__(self, width: int, mlp_width: int, **options: Unpack[LayerOptions]):
        """Initialize the parameters; the arguments are those of `FeedForward`."""
        check_positive(width=width, mlp_width=mlp_width)
        inward, outward = dense_arguments("embed", "mlp", **options), dense_arguments("mlp", "embed", **options)
        self.gate = nnx.Linear(width, mlp_width, use_bias=False, **inward)
        self.hidden = nnx.Linear(width, mlp_width, use_bias=False, **inward)
        self.out = nnx.Linear(mlp_width, width, use_bias=False, **outward)

    def __call__(self, x: Hidden) -> Hidden:
        return self.out(jax.nn.silu(self.gate(x)) * self.hidden(x))


class SquaredReLU(nnx.Module):
    """Activation `max(x, 0)^2` without parameters, which replaces ReLU or GELU in a feed forward.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 4.

    >>> import jax.numpy as jnp
    >>> SquaredReLU()(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 4.0]
    """

    def __call__(self, x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
        return squared_relu(x)
