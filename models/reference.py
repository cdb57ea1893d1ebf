"""Transformer, Transformer++ and Primer-EZ blocks written by hand, as one would without a search.

They are what the compiled library programs are held against: the same parameters must give the same outputs and
gradients (`from_program` says which array of a program is which array here), and a step must take the same time.
Each has the functions of a block (`init`, `draw`, `apply`), so that a language model stacks it like any program.

References: Vaswani et al. 2017 (pre-norm, as in Primer, section 2); Zhang and Sennrich 2019 and Shazeer 2020 for
Transformer++; So et al. 2021, section 4, for Primer-EZ. Norms divide by at least 1e-6, as the programs do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..primitives.errors import UsageError

__all__ = [
    "REFERENCES",
    "ReferenceBlock",
    "from_program",
    "primer_ez",
    "reference_block",
    "transformer",
    "transformer_pp",
]

HEADS = 8
Parameters = Mapping[str, Array]
Hidden = Float[Array, "batch length width"]


def transformer(p: Parameters, x: Hidden) -> Hidden:
    """Pre-norm decoder block with ReLU."""
    normed = _layer_norm(x, p["attention_norm.scale"], p["attention_norm.bias"])
    q, k, v = (normed @ p[f"{name}.kernel"] for name in ("query", "key", "value"))
    x = x + _attention(q, k, v) @ p["attention_output.kernel"]
    normed = _layer_norm(x, p["mlp_norm.scale"], p["mlp_norm.bias"])
    hidden = jax.nn.relu(normed @ p["mlp_in.kernel"] + p["mlp_in.bias"])
    return x + (hidden @ p["mlp_out.kernel"] + p["mlp_out.bias"])


def transformer_pp(p: Parameters, x: Hidden) -> Hidden:
    """Transformer++: RMS norm and SwiGLU, without biases."""
    normed = _rms_norm(x, p["attention_norm.scale"])
    q, k, v = (normed @ p[f"{name}.kernel"] for name in ("query", "key", "value"))
    x = x + _attention(q, k, v) @ p["attention_output.kernel"]
    normed = _rms_norm(x, p["mlp_norm.scale"])
    hidden = jax.nn.silu(normed @ p["mlp_gate.kernel"]) * (normed @ p["mlp_in.kernel"])
    return x + hidden @ p["mlp_out.kernel"]


def primer_ez(p: Parameters, x: Hidden) -> Hidden:
    """The Transformer with squared ReLU, and a causal depthwise convolution after each of Q, K and V."""
    normed = _layer_norm(x, p["attention_norm.scale"], p["attention_norm.bias"])
    q, k, v = (_depthwise(normed @ p[f"{name}.kernel"], p[f"{name}.taps"]) for name in ("query", "key", "value"))
    x = x + _attention(q, k, v) @ p["attention_output.kernel"]
    normed = _layer_norm(x, p["mlp_norm.scale"], p["mlp_norm.bias"])
    hidden = jnp.square(jax.nn.relu(normed @ p["mlp_in.kernel"] + p["mlp_in.bias"]))
    return x + (hidden @ p["mlp_out.kernel"] + p["mlp_out.bias"])


@dataclass(frozen=True, slots=True)
class ReferenceBlock:
    """One of the blocks at one width.

    Attributes:
        name: of the library program that it equals.
        width: channels of its input and output.
    """

    name: str
    width: int

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Initial parameters, float32."""
        return {name: _initial(name, shape, rng).astype(np.float32) for name, shape in self.shapes().items()}

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Random parameters, none at 0 or 1."""
        parameters = self.init(rng)
        return {name: leaf + 0.1 * rng.standard_normal(leaf.shape, np.float32) for name, leaf in parameters.items()}

    def apply(self, parameters: Parameters, x: Hidden) -> Hidden:
        """The block's output; parameters are cast to the dtype of `x`."""
        return REFERENCES[self.name].apply({key: leaf.astype(x.dtype) for key, leaf in parameters.items()}, x)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter."""
        reference, width = REFERENCES[self.name], self.width
        hidden = reference.hidden * width
        sizes = {"mlp_in": (width, hidden), "mlp_gate": (width, hidden), "mlp_out": (hidden, width)}
        shapes = {}
        for name in reference.names:
            layer, key = name.split(".")
            kernel = sizes.get(layer, (width, width))
            shapes[name] = {"kernel": kernel, "taps": (3, width), "bias": kernel[1:], "scale": (width,)}[key]
        return shapes


def reference_block(name: str, width: int) -> ReferenceBlock:
    """The hand-written block that equals a library program.

    Raises:
        UsageError: there is none, or the width does not divide by the number of heads.
    """
    if name not in REFERENCES:
        raise UsageError(f"no block is written by hand for {name!r}; there are {', '.join(REFERENCES)}")
    if width < HEADS or width % HEADS:
        raise UsageError(f"the width of the block {name} is {width}, but must be a positive multiple of {HEADS}")
    return ReferenceBlock(name, width)


def from_program(name: str, parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The parameters (or gradients) of a compiled library program as those of the block written by hand.

    A program holds one array for each head, [heads, ..., head width]; a hand-written block lays the heads side by
    side, [..., width].

    Args:
        name: of the library program.
        parameters: by the program's names; all of them are used.
    """
    names = REFERENCES[name].names
    assert set(names.values()) == set(parameters)
    converted = {}
    for key, program_name in names.items():
        array = np.asarray(parameters[program_name])
        if key.split(".")[0] in ("query", "key", "value"):
            array = np.moveaxis(array, 0, -2).reshape(*array.shape[1:-1], -1)
        converted[key] = array
    return converted


# --- parts of a block -------------------------------------------------------------------------------------------


def _attention(q: Hidden, k: Hidden, v: Hidden) -> Hidden:
    """Causal softmax attention in `HEADS` heads."""
    batch, length, width = q.shape
    q, k, v = (a.reshape(batch, length, HEADS, width // HEADS) for a in (q, k, v))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q / math.sqrt(width // HEADS), k)
    causal = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(causal, scores, jnp.finfo(scores.dtype).min), axis=-1)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(batch, length, width)


def _layer_norm(x: Hidden, scale: Array, bias: Array) -> Hidden:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return _unit_power(centred) * scale + bias


def _rms_norm(x: Hidden, scale: Array) -> Hidden:
    return _unit_power(x) * scale


def _unit_power(x: Hidden) -> Hidden:
    power = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(power, 1e-12))


def _depthwise(x: Hidden, taps: Float[Array, "3 width"]) -> Hidden:
    padded = jnp.pad(x, ((0, 0), (2, 0), (0, 0)))
    return padded[:, :-2] * taps[0] + padded[:, 1:-1] * taps[1] + x * taps[2]


def _initial(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    key = name.split(".")[1]
    if key == "taps":
        return np.broadcast_to(np.array([[0.5 / 3], [0.5 / 3], [0.5]]), shape)
    if key == "kernel":
        return rng.standard_normal(shape) / math.sqrt(shape[0])
    return np.ones(shape) if key == "scale" else np.zeros(shape)


# --- names ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reference:
    """A block: its function, its feed forward's width in widths of the model, its names and the program's."""

    apply: Callable[[Parameters, Hidden], Hidden]
    hidden: int
    names: Mapping[str, str]


_PROJECTIONS = {
    "key.kernel": "self_attention.head_projection.conv_1x1.kernel",
    "query.kernel": "self_attention.head_projection_2.conv_1x1.kernel",
    "value.kernel": "self_attention.head_projection_3.conv_1x1.kernel",
    "attention_output.kernel": "conv_1x1.kernel",
}
_TRANSFORMER = _PROJECTIONS | {
    "attention_norm.scale": "layer_norm.scale_shift.scale.scale",
    "attention_norm.bias": "layer_norm.scale_shift.shift.bias",
    "mlp_norm.scale": "layer_norm_2.scale_shift.scale.scale",
    "mlp_norm.bias": "layer_norm_2.scale_shift.shift.bias",
    "mlp_in.kernel": "feed_forward.conv_1x1.kernel",
    "mlp_in.bias": "feed_forward.shift.bias",
    "mlp_out.kernel": "feed_forward.conv_1x1_2.kernel",
    "mlp_out.bias": "feed_forward.shift_2.bias",
}
_TRANSFORMER_PP = _PROJECTIONS | {
    "attention_norm.scale": "rms_norm.scale.scale",
    "mlp_norm.scale": "rms_norm_2.scale.scale",
    "mlp_gate.kernel": "feed_forward.conv_1x1.kernel",
    "mlp_in.kernel": "feed_forward.conv_1x1_2.kernel",
    "mlp_out.kernel": "feed_forward.conv_1x1_3.kernel",
}
_TAPS = {
    "key.taps": "self_attention.head_projection.dconv_3x1.kernel",
    "query.taps": "self_attention.head_projection_2.dconv_3x1.kernel",
    "value.taps": "self_attention.head_projection_3.dconv_3x1.kernel",
}

REFERENCES: dict[str, _Reference] = {
    "TRANSFORMER": _Reference(transformer, 4, _TRANSFORMER),
    "TRANSFORMER_PP": _Reference(transformer_pp, 3, _TRANSFORMER_PP),
    "PRIMER_EZ": _Reference(primer_ez, 4, _TRANSFORMER | _TAPS),
}
"""The blocks by the names of the library programs they equal."""
