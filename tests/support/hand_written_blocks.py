"""Hand-written blocks and the equal library programs: conversion of parameters, inputs, and tolerances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from primer_search.models.block import BlockFunctions, compile_block
from primer_search.primitives.graphs.canonical import build_graph
from primer_search.primitives.programs import library

UNIT, LENGTH, HEADS = 2, 6, 8
WIDTH = 8 * UNIT
TOLERANCE = 1e-5
"""Largest difference in float32, relative to the array's largest entry."""

CLASSES = {
    "TRANSFORMER": "TransformerBlock",
    "TRANSFORMER_PP": "TransformerPPBlock",
    "PRIMER_EZ": "PrimerEZBlock",
    "PRIMER": "PrimerBlock",
}
"""The classes by the programs they equal."""

TIED = {"PRIMER": {"length": LENGTH}}
"""What a block takes besides its size."""

_HEADS = "self_attention.head_projection"
_PATHS = {
    f"{_HEADS}.conv_1x1.kernel": "attention.key.kernel",
    "conv_1x1.kernel": "attention.out.kernel",
    "layer_norm.scale_shift.scale.scale": "attention_norm.scale",
    "layer_norm.scale_shift.shift.bias": "attention_norm.bias",
    "layer_norm_2.scale_shift.scale.scale": "feed_forward_norm.scale",
    "layer_norm_2.scale_shift.shift.bias": "feed_forward_norm.bias",
    "rms_norm.scale.scale": "attention_norm.scale",
    "rms_norm_2.scale.scale": "feed_forward_norm.scale",
    "feed_forward.conv_1x1.kernel": "feed_forward.hidden.kernel",
    "feed_forward.shift.bias": "feed_forward.hidden.bias",
    "feed_forward.conv_1x1_2.kernel": "feed_forward.out.kernel",
    "feed_forward.shift_2.bias": "feed_forward.out.bias",
}
_PATHS_OF_THREE_PROJECTIONS = _PATHS | {
    f"{_HEADS}_2.conv_1x1.kernel": "attention.query.kernel",
    f"{_HEADS}_3.conv_1x1.kernel": "attention.value.kernel",
    f"{_HEADS}.dconv_3x1.kernel": "attention.key_conv.kernel",
    f"{_HEADS}_2.dconv_3x1.kernel": "attention.query_conv.kernel",
    f"{_HEADS}_3.dconv_3x1.kernel": "attention.value_conv.kernel",
}
_PATHS_BY_PROGRAM = {
    "TRANSFORMER": _PATHS_OF_THREE_PROJECTIONS,
    "TRANSFORMER_PP": _PATHS_OF_THREE_PROJECTIONS
    | {
        "feed_forward.conv_1x1.kernel": "feed_forward.gate.kernel",
        "feed_forward.conv_1x1_2.kernel": "feed_forward.hidden.kernel",
        "feed_forward.conv_1x1_3.kernel": "feed_forward.out.kernel",
    },
    "PRIMER_EZ": _PATHS_OF_THREE_PROJECTIONS,
    "PRIMER": _PATHS
    | {
        f"{_HEADS}.dconv_3x1.kernel": "attention.key_conv.kernel",
        "self_attention.conv_1x1.kernel": "attention.query.kernel",
        "self_attention.softmax.scale.scale": "attention.position_scale",
        f"{_HEADS}_2.conv_1x1.kernel": "attention.value.kernel",
        f"{_HEADS}_2.dconv_3x1.kernel": "attention.value_conv.kernel",
    },
}


def compiled(name: str, unit: int = UNIT) -> BlockFunctions:
    """A library program at the size of the tests."""
    return compile_block(build_graph(library.get(name, unit), length_dependent=name in TIED), unit, LENGTH)


def random_input(rng: np.random.Generator, length: int = LENGTH) -> jax.Array:
    """An input of the blocks, [2, length, WIDTH]."""
    return jnp.asarray(rng.standard_normal((2, length, WIDTH)), jnp.float32)


def from_program(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters (or gradients) of a compiled program as the nested dict of the hand-written block."""
    tree: dict[str, Any] = {}
    for program_name, value in parameters.items():
        *parents, leaf = _PATHS_BY_PROGRAM[name][program_name].split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = _laid_out(name, parents, np.asarray(value))
    return tree


def assert_close(one: Any, other: Any, what: str) -> None:
    """Two arrays are equal except for float32's rounding."""
    one, other = np.asarray(one), np.asarray(other)
    assert one.shape == other.shape, f"{what}: {one.shape} is not {other.shape}"
    error = np.abs(one - other).max() / np.abs(other).max()
    assert error <= TOLERANCE, f"{what} differs by {error:.2g} of its scale"


def assert_trees_close(one: Any, other: Any) -> None:
    """Two trees have the same arrays under the same names."""
    ours, theirs = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (one, other))
    assert ours.keys() == theirs.keys()
    for path in ours:
        assert_close(ours[path], theirs[path], jax.tree_util.keystr(path))


def _laid_out(name: str, parents: list[str], value: np.ndarray) -> np.ndarray:
    """A program holds one array for each head, [heads, ..., channels]; a module [..., heads, channels]."""
    if parents == ["attention", "out"]:
        return value.reshape(HEADS, -1, value.shape[-1])
    if value.ndim < 3 or (name, parents[-1]) == ("PRIMER", "query"):  # a kernel of its own for each head
        return value
    return np.moveaxis(value, 0, 1)
