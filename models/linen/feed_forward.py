"""Feed forwards, the part of a block that transforms each position separately."""

from __future__ import annotations

from collections.abc import Callable

from flax import linen as nn
from flax.typing import Initializer
from jaxtyping import Array, Float

from ..functional.attention import Hidden
from ..functional.elementwise import squared_relu
from .layers import LayerModule, dense_fields, with_mesh_axes

__all__ = ["FeedForward", "SquaredReLU", "SwiGLU"]


class FeedForward(LayerModule):
    """`out(activation(hidden(x)))`, two dense layers (Vaswani et al. 2017, section 3.3).

    >>> import jax, jax.numpy as jnp
    >>> y, variables = FeedForward(64, nn.gelu).init_with_output(jax.random.key(0), jnp.ones((2, 5, 16)))
    >>> y.shape
    (2, 5, 16)

    Attributes:
        mlp_width: channels of the hidden layer.
        activation: function or module.
        use_out_bias: whether the second layer has a bias; the first always has one.
        bias_init: initializer of the biases.
    """

    mlp_width: int
    activation: Callable[[Array], Array] = nn.relu
    use_out_bias: bool = True
    bias_init: Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Hidden) -> Hidden:
        inward, outward = dense_fields(self, "embed", "mlp"), dense_fields(self, "mlp", "embed")
        hidden_bias = with_mesh_axes(self.bias_init, self.sharding, "mlp")
        hidden = nn.Dense(self.mlp_width, bias_init=hidden_bias, **inward, name="hidden")
        out_bias = with_mesh_axes(self.bias_init, self.sharding, "embed")
        out = nn.Dense(x.shape[-1], use_bias=self.use_out_bias, bias_init=out_bias, **outward, name="out")
        return out(self.activation(hidden(x)))


class SwiGLU(LayerModule):
    """`out(swish(gate(x)) * hidden(x))`, without biases (Shazeer 2020, arXiv 2002.05202).

    >>> import jax, jax.numpy as jnp
    >>> y, variables = SwiGLU(48).init_with_output(jax.random.key(0), jnp.ones((2, 5, 16)))
    >>> y.shape
    (2, 5, 16)

    Attributes:
        mlp_width: channels of the hidden layer.
    """

    mlp_width: int

    @nn.compact
    def __call__(self, x: Hidden) -> Hidden:
        inward, outward = dense_fields(self, "embed", "mlp"), dense_fields(self, "mlp", "embed")
        gate = nn.Dense(self.mlp_width, use_bias=False, **inward, name="gate")
        hidden = nn.Dense(self.mlp_width, use_bias=False, **inward, name="hidden")
        out = nn.Dense(x.shape[-1], use_bias=False, **outward, name="out")
        return out(nn.silu(gate(x)) * hidden(x))


class SquaredReLU(nn.Module):
    """Activation `max(x, 0)^2` without parameters, which replaces ReLU or GELU in a feed forward.

    Reference: So et al. 2021, "Primer: Searching for Efficient Transformers for Language Modeling", section 4.

    >>> import jax.numpy as jnp
    >>> SquaredReLU().apply({}, jnp.array([-1.0, 2.0])).tolist()
    [0.0, 4.0]
    """

    def __call__(self, x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
        return squared_relu(x)
