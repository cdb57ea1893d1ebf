"""Leaky blocks: hand-written functions that see the future in ways that no program can. The proof does not cover them.

They replace the block of the real language model, and the probes must catch them there: before training
(`probe_causality`), or on trained weights if training opens the leak (`probe_trained_model`).

The probes cannot catch a leak that changes losses by less than the rounding of float32, or a leak that acts only on a
token pattern that the probes do not contain. In programs of the language, the proof finds both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["LEAKY_BLOCKS", "LeakyBlock"]

Sequences = Float[Array, "batch length width"]


@dataclass(frozen=True, slots=True)
class LeakyBlock:
    """A block that sees the future, usually `x + gate * leak(x)`; `LanguageModel` accepts it.

    Attributes:
        name: short unique name.
        how: one sentence about the leak.
        function: function from `gate` and `x` to the output.
        refused_by: stage that must refuse it: `probe` before training or `recheck` on trained weights.
        reason: expected reason in one word, as in the outcome `rejected:<reason>`.
        shut: value of the gate before training; None if the probe draws it at random.
        trained: value of the gate after training.
    """

    name: str
    how: str
    function: Callable[[Any, Any], Any]
    refused_by: str = "probe"
    reason: str = "causality"
    shut: float | None = None
    trained: float = 1.0

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return the gate before training."""
        return {"gate": np.full(1, 1.0 if self.shut is None else self.shut, np.float32)}

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return the gate for a probe before training."""
        return {"gate": rng.uniform(0.5, 1.5, 1).astype(np.float32)} if self.shut is None else self.init(rng)

    def apply(self, parameters: Any, x: Sequences) -> Sequences:
        """Return the block's output."""
        return self.function(parameters["gate"].astype(x.dtype), x)

    def train(self, parameters: Any) -> Any:
        """Return the model's parameters with the gate open, as after training."""
        blocks = {**parameters["blocks"], "gate": np.full_like(parameters["blocks"]["gate"], self.trained)}
        return {**parameters, "blocks": blocks}


LEAKY_BLOCKS: dict[str, LeakyBlock] = {}
"""Leaky blocks by name, in the order of their definition."""


def _define(name: str, how: str, function: Callable[[Any, Any], Any], **facts: Any) -> None:
    LEAKY_BLOCKS[name] = LeakyBlock(name, how, function, **facts)


def _leak(name: str, how: str, leak: Callable[[Any], Any], **facts: Any) -> None:
    """Register `x + gate * leak(x)`."""
    _define(name, how, lambda gate, x: x + gate * leak(x), **facts)


def _ahead(x: Sequences, by: int) -> Sequences:
    """Return the values `by` positions later; zeros after the end."""
    return jnp.pad(x, ((0, 0), (0, by), (0, 0)))[:, by:]


def _behind(x: Sequences, by: int) -> Sequences:
    return jnp.pad(x, ((0, 0), (by, 0), (0, 0)))[:, :-by]


def _attention(x: Sequences, scores: Sequences) -> Sequences:
    return jnp.matmul(jax.nn.softmax(scores, axis=-1), x)


def _visible(x: Sequences) -> Array:
    return jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))


def _scores(x: Sequences) -> Array:
    return jnp.matmul(x, jnp.swapaxes(x, 1, 2)) / x.shape[-1] ** 0.5


# --- other positions --------------------------------------------------------------------------------------------

_leak("reads the next token", "adds the token to predict", lambda x: _ahead(x, 1))
_leak("reads two ahead", "adds the token after the next", lambda x: _ahead(x, 2))
_leak("reads far ahead", "adds the token nine positions later", lambda x: _ahead(x, 9))
_leak("centred convolution", "averages the positions on both sides", lambda x: (_behind(x, 1) + _ahead(x, 1)) / 2)
_leak("unmasked attention", "softmax over all positions", lambda x: _attention(x, _scores(x)))
_leak(
    "mask of -1",
    "attention whose mask lowers later scores by 1 only",
    lambda x: _attention(x, _scores(x) - jnp.where(_visible(x), 0, 1)),
)
_leak("mean of the sequence", "adds the mean over all positions", lambda x: jnp.mean(x, axis=1, keepdims=True))
_leak("maximum of the sequence", "adds the maximum over all positions", lambda x: jnp.max(x, axis=1, keepdims=True))
_leak("knows the last token", "adds the value of the last position to all positions", lambda x: x[:, -1:])
_leak(
    "sums from the end", "a running sum in the wrong direction", lambda x: jnp.cumsum(x[:, ::-1], axis=1)[:, ::-1] / 16
)
_leak("reads backwards", "adds the sequence in reverse", lambda x: x[:, ::-1])
_leak(
    "Fourier mixing", "the transform along the length mixes all positions", lambda x: jnp.fft.fft(x, axis=1).real / 16
)
_leak("sorts the sequence", "sorts each channel along the length", lambda x: jnp.sort(x, axis=1))
_define(
    "normalises over positions",
    "divides by the root mean square of the whole sequence",
    lambda gate, x: gate * x / jnp.sqrt(jnp.mean(jnp.square(x), axis=1, keepdims=True) + 1e-6),
)
_leak(
    "even function of the future",
    "adds the squares of the next token, which do not depend on its sign",
    lambda x: jnp.square(_ahead(x, 1)),
)
_leak("leak of 1e-4", "adds a ten-thousandth of the next token", lambda x: 1e-4 * _ahead(x, 1))
_leak(
    "half of the next token",
    "adds half of the channels of the next token; two tokens might agree in these",
    lambda x: _ahead(x, 1) * (jnp.arange(x.shape[2]) < x.shape[2] // 2),
)
_leak(
    "only one position reads ahead",
    "only the second-to-last position reads the next token; a probe of few positions might miss it",
    lambda x: _ahead(x, 1) * (jnp.arange(x.shape[1]) == x.shape[1] - 2)[:, None],
)
_leak(
    "only the first position reads ahead",
    "only the first position reads a later one",
    lambda x: _ahead(x, 9) * (jnp.arange(x.shape[1]) == 0)[:, None],
)

# --- other examples of the batch --------------------------------------------------------------------------------

_leak("mean of the batch", "adds the mean over the examples", lambda x: jnp.mean(x, axis=0, keepdims=True))
_leak("maximum of the batch", "adds the maximum over the examples", lambda x: jnp.max(x, axis=0, keepdims=True))
_define(
    "normalises over the batch",
    "divides by the root mean square over examples",
    lambda gate, x: gate * x / jnp.sqrt(jnp.mean(jnp.square(x), axis=0, keepdims=True) + 1e-6),
)
_leak("reads its neighbour", "adds the next example of the batch", lambda x: jnp.roll(x, 1, axis=0))
_leak(
    "its neighbour's first token",
    "adds the first token of the next example, which is not in the future of any token",
    lambda x: jnp.roll(x[:, :1], 1, axis=0),
    refused_by="recheck",
    reason="batch",
)

# --- opened by training -----------------------------------------------------------------------------------------

_leak(
    "gate that starts shut",
    "a gate on the next token is zero until training opens it, so no probe before training finds it",
    lambda x: _ahead(x, 1),
    refused_by="recheck",
    shut=0.0,
)
_define(
    "mask that scores outgrow",
    "attention whose mask is -30, which hides later positions only until the scores grow",
    lambda gate, x: x + _attention(x, jnp.where(_visible(x), gate * _scores(x), -30)),
    refused_by="recheck",
    shut=1.0,
    trained=-30.0,
)
_leak(
    "batch behind a gate",
    "a gate on the first token of the next example is zero until training opens it",
    lambda x: jnp.roll(x[:, :1], 1, axis=0),
    refused_by="recheck",
    reason="batch",
    shut=0.0,
)
