"""Loading of trained parameters into modules: a `DNABlock`, or an exported NNX or Linen block.

    from primer_search.models import linen_params, load_weights_into

    load_weights_into(block, "runs/first/weights/12", layer=0)            # DNABlock, or exported with --api nnx
    params = linen_params("runs/first/weights/12", layer=0)               # exported with --api linen
    block.apply({"params": params}, x)

The exporter decides the names and shapes of an exported module's parameters (`parameter_placements`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ...primitives.errors import UsageError
from ..block import compile_block
from ..checkpoint import Weights, load_weights
from ..checkpoint_files import Tree, flatten
from ..nnx.dna_block import DNABlock
from .export_program import parameter_placements

__all__ = ["linen_params", "load_weights_into", "module_parameters"]

TOLERANCE, COARSE_TOLERANCE = 1e-3, 0.1
"""Largest difference of outputs, relative to the largest entry, with parameters in float32 and in other dtypes."""

LONGEST_PROBE = 8
"""Positions of the input on which an exported block is compared with its program."""


def load_weights_into(block: nnx.Module, weights: Weights | Path | str, *, layer: int = 0) -> None:
    """Set a block's parameters to the parameters of one trained layer, cast to the block's dtypes.

    The output of an exported block is then compared with the output of the trained program, because another program may
    have parameters with the same names and shapes.

    Args:
        block: `DNABlock` of the trained program, or instance of the NNX module exported from it.
        weights: folder that `primer-search train` made, or the result of `load_weights`.
        layer: index of the model's layer, from 0.

    Raises:
        UsageError: the folder is damaged, the layer does not exist, or the block has another program or size, or is a
            Linen module. The block's parameters are then unchanged.
    """
    if not isinstance(block, nnx.Module):
        raise UsageError("block is not an instance of an NNX module; for a Linen module, use linen_params")
    weights = _loaded(weights)
    if not isinstance(block, DNABlock):
        arrays = flatten(_exported_layer(weights, layer))
    elif block.functions.graph == weights.graph:
        arrays = flatten({"parameters": _layer(weights, layer)})
    else:
        raise UsageError(
            "the weights belong to another program than the block; build the block from the `dna` in their model.json"
        )
    parameters = {
        ".".join(map(str, path)): (path, leaf) for path, leaf in nnx.to_flat_state(nnx.state(block, nnx.Param))
    }
    _check(arrays, {name: leaf.shape for name, (_, leaf) in parameters.items()})
    before = [(path, leaf.replace(jnp.asarray(leaf[...]))) for path, leaf in parameters.values()]
    given = [(path, leaf.replace(jnp.asarray(arrays[name], leaf.dtype))) for name, (path, leaf) in parameters.items()]
    nnx.update(block, nnx.from_flat_state(given))
    if not isinstance(block, DNABlock) and not _equals_program(block, weights, layer):
        nnx.update(block, nnx.from_flat_state(before))
        raise UsageError(
            "the weights belong to another program than the block: the block's outputs with them are not the program's"
        )


def linen_params(weights: Weights | Path | str, *, layer: int = 0) -> Tree:
    """Return the `params` of a block exported with `--api linen`; the arguments are those of `load_weights_into`.

    Raises:
        UsageError: the folder is damaged, or the layer does not exist.
    """
    return _exported_layer(_loaded(weights), layer)


def module_parameters(weights: Weights) -> Tree:
    """Return the parameters of the whole model in the exported module's layout.

    Returns:
        `embedding`, `final_norm`, and `layers` with a dict of the module's parameters for each layer "0", "1", ...
    """
    layers = {str(layer): _exported_layer(weights, layer) for layer in range(weights.model.layers)}
    outside = {name: value for name, value in weights.parameters.items() if name != "blocks"}
    return {**outside, "layers": layers}


def _loaded(weights: Weights | Path | str) -> Weights:
    return weights if isinstance(weights, Weights) else load_weights(weights)


def _layer(weights: Weights, layer: int) -> dict[str, np.ndarray]:
    layers = weights.model.layers
    if not 0 <= layer < layers:
        raise UsageError(f"layer is {layer}, but the trained model has layers 0 to {layers - 1}")
    return {name: array[layer] for name, array in weights.parameters["blocks"].items()}


def _exported_layer(weights: Weights, layer: int) -> Tree:
    """Return one layer's arrays in the exported module's tree."""
    arrays, model = _layer(weights, layer), weights.model
    tree: Tree = {}
    for placement in parameter_placements(
        weights.dna, model.unit, model.length, length_dependent=model.length_dependent
    ):
        *parents, name = placement.path
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = placement.to_module_layout(arrays[placement.name])
    return tree


def _equals_program(block: nnx.Module, weights: Weights, layer: int) -> bool:
    """Return whether a block and the trained program have the same output for a random input."""
    program = compile_block(weights.graph, weights.model.unit, weights.model.length)
    length = program.length or min(weights.model.length, LONGEST_PROBE)
    x = np.random.default_rng(0).standard_normal((1, length, program.width)).astype(np.float32)
    expected = np.asarray(jax.jit(program.apply)(_layer(weights, layer), x))
    found = np.asarray(block(x), np.float32)  # type: ignore[operator]
    exact = all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(block, nnx.Param)))
    tolerance = TOLERANCE if exact else COARSE_TOLERANCE
    return found.shape == expected.shape and bool(np.abs(found - expected).max() <= tolerance * np.abs(expected).max())


def _check(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    if different := sorted(set(arrays) ^ set(shapes)):
        lacking = "the block has no" if different[0] in arrays else "the weights have no"
        raise UsageError(f"the weights belong to another program than the block: {lacking} {different[0]}")
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            raise UsageError(
                f"the block and the weights have different sizes: {name} is {list(shapes[name])} in the block and "
                f"{list(array.shape)} in the weights; their model.json has the width"
            )
