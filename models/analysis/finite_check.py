"""Checks that a trained model is finite: its parameters, and its residual stream and losses on a text."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ...primitives.errors import UsageError
from ..checkpoint_files import flatten
from ..language_model import LanguageModel
from .residual_stream import residual_stream

__all__ = ["check_losses", "check_parameters", "check_stream"]

REMEDY = "give weights of a training that did not diverge, such as one with a lower learning rate"


def check_parameters(parameters: Any) -> None:
    """Check the parameters of a language model.

    Raises:
        UsageError: a value is infinite or not a number. The message names the first such array, and its layer.
    """
    for name, array in flatten(parameters).items():
        broken = ~np.isfinite(array)
        if np.any(broken):
            layer = f" in layer {np.argwhere(broken)[0, 0] + 1}" if name.startswith("blocks.") else ""
            raise UsageError(f"the array {name} of the weights is infinite or not a number{layer}; {REMEDY}")


def check_stream(stream: Float[np.ndarray, "layers+1 *tokens width"]) -> None:
    """Check the residual stream of a text: the embeddings before the first layer and after every layer.

    Raises:
        UsageError: a value is infinite or not a number. The message names the first such layer.
    """
    finite = np.isfinite(stream).reshape(len(stream), -1).all(axis=1)
    if not finite.all():
        layer = int(np.argmin(finite))
        place = f"output of layer {layer}" if layer else "input of layer 1"
        raise UsageError(f"the {place} is infinite or not a number on this text; {REMEDY}")


def check_losses(
    losses: Float[np.ndarray, "windows length"],
    model: LanguageModel,
    parameters: Any,
    text: Int[np.ndarray, "windows length+1"],
) -> None:
    """Check the losses of a model on a text.

    Raises:
        UsageError: a loss is infinite or not a number. The message names the first layer with such an output, or else
            the logits.
    """
    broken = np.flatnonzero(~np.isfinite(losses).all(axis=1))
    if len(broken):
        check_stream(np.asarray(residual_stream(model, jax.device_put(parameters), jnp.asarray(text[broken[:1], :-1]))))
        raise UsageError(f"the loss is infinite or not a number on this text, as the logits overflow; {REMEDY}")
