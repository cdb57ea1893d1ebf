"""The residual stream of a language model: embeddings before and after every layer, and the losses without a layer.

One compiled function works for all layers, because the number of the changed layer is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..language_model import LanguageModel, negative_log_likelihood
from .linearity import LinearMap

__all__ = ["ChangedLayerLosses", "LayerChange", "make_changed_layer_losses", "residual_stream"]


class LayerChange(IntEnum):
    """Change of one layer of a model."""

    NONE = 0
    REMOVED = 1
    LINEARIZED = 2


ChangedLayerLosses = Callable[[np.ndarray, int, LayerChange, LinearMap | None], np.ndarray]
"""Function of tokens `[batch, length + 1]`, a layer, its change and, if it is linearized, the map that replaces it.

It returns losses `[batch, length]`.
"""


def residual_stream(
    model: LanguageModel, parameters: Any, tokens: Int[Array, "batch length"]
) -> Float[Array, "layers+1 batch length width"]:
    """Return the embeddings before the first layer and after every layer, float32."""

    def layer(x: Array, own: Any) -> tuple[Array, Array]:
        y = model.block.apply(own, x)
        return y, y.astype(jnp.float32)

    x = model.embed(parameters, tokens)
    _, after = jax.lax.scan(layer, x, parameters["blocks"], model.config.layers)
    return jnp.concatenate([x.astype(jnp.float32)[None], after])


def make_changed_layer_losses(model: LanguageModel, parameters: Any) -> ChangedLayerLosses:
    """Return the compiled function that computes the token losses of a model in which one layer is changed."""
    width, layers = model.config.width, model.config.layers

    @jax.jit
    def losses(parameters: Any, tokens: Array, changed: Array, change: Array, matrix: Array, offset: Array) -> Array:
        branches = (
            lambda own, x: model.block.apply(own, x),
            lambda own, x: x,
            lambda own, x: (jnp.matmul(x.astype(jnp.float32), matrix) + offset).astype(x.dtype),
        )

        def layer(x: Array, each: tuple[Array, Any]) -> tuple[Array, None]:
            number, own = each
            return jax.lax.switch(jnp.where(number == changed, change, 0), branches, own, x), None

        x = model.embed(parameters, tokens[:, :-1])
        x, _ = jax.lax.scan(layer, x, (jnp.arange(layers), parameters["blocks"]), layers)
        return negative_log_likelihood(model.head(parameters, x), tokens[:, 1:])

    on_device = jax.device_put(parameters)

    def token_losses(
        tokens: np.ndarray, layer: int, change: LayerChange, linear: LinearMap | None = None
    ) -> np.ndarray:
        matrix = np.zeros((width, width)) if linear is None else linear.matrix
        offset = np.zeros(width) if linear is None else linear.offset
        arguments = (np.int32(layer), np.int32(change), matrix.astype(np.float32), offset.astype(np.float32))
        return np.asarray(losses(on_device, tokens, *arguments))

    return token_losses
