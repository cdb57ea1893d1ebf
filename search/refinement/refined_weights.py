"""Folder of a refined model: weights that every command can read, the result, and on request factored weights.

    refinement.json        what was tried, kept and measured
    factored.safetensors   all arrays of the model, with reduced kernels as factors

In the factored file, `layers.3.NAME` is the array NAME of the block in layer 3, from 0. A reduced kernel is replaced by
`layers.3.NAME.u` [count, inputs, rank] and `layers.3.NAME.v` [count, rank, columns]. Their product is the stack of the
kernel's matrices (`models.analysis.projections`). For a kernel [inputs, outputs], the only matrix is the kernel itself.
For a kernel [branches, inputs, outputs] whose branches share an input, it is one matrix [inputs, branches * outputs]. A
kernel whose factors would be larger than itself is not factored. `embedding`, `final_norm.scale` and `final_norm.bias`
are the same as in model.safetensors.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...models.checkpoint import Weights, save_weights
from ...models.checkpoint_files import flatten
from ...primitives.errors import UsageError
from ...system.files import replacement, write_atomically
from .rank_search import RefinedModel
from .refinement_result import RefinementResult

__all__ = ["FACTORED", "RESULT", "write_refined"]

FACTORED, RESULT = "factored.safetensors", "refinement.json"

MEASURED = {
    "loss_nats",
    "bits_per_byte",
    "text_nats",
    "first_loss_nats",
    "first_text_nats",
    "moved_logits",
    "quarantine",
}
"""Measurements made while the original weights were trained. The record of refined weights has them under `from`."""


def write_refined(
    folder: Path, original: Weights, refined: RefinedModel, *, factored: bool = False, overwrite: bool = False
) -> None:
    """Write a refined model to a folder.

    Args:
        folder: folder to write.
        original: model that was refined.
        refined: the refinement.
        factored: whether to also write factored weights.
        overwrite: whether to replace an existing folder.

    Raises:
        UsageError: the folder exists, or cannot be written.
    """
    kept = {name: value for name, value in original.training.items() if name not in MEASURED}
    record = {**kept, "from": {"training": dict(original.training)}, "refined": _record(refined.result)}
    weights = replace(original, parameters=refined.parameters, training=record)
    save_weights(folder, weights, overwrite)
    try:
        write_atomically(folder / RESULT, json.dumps(refined.result.to_dict(), indent=1, allow_nan=False) + "\n")
        if factored:
            _write_factored(folder / FACTORED, weights, refined)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror or error}; choose another folder with -o") from error


def _record(result: RefinementResult) -> dict[str, Any]:
    """Return the part of the result that is stored in the record of the weights; refinement.json has all of it."""
    facts = result.to_dict()
    names = ("name", "criterion", "data", "dataset_hash", "kept", "groups", "verdict", "saved_parameters")
    return {name: facts[name] for name in names}


def _write_factored(path: Path, weights: Weights, refined: RefinedModel) -> None:
    from safetensors.numpy import save

    rest = {name: array for name, array in weights.parameters.items() if name != "blocks"}
    arrays = flatten(rest)
    for name, stack in weights.parameters["blocks"].items():
        for layer, array in enumerate(np.asarray(stack)):
            key, factors = f"layers.{layer}.{name}", refined.factors.get((layer, name))
            if factors is None or factors.parameters >= array.size:
                arrays[key] = array
            else:
                arrays |= {f"{key}.u": factors.u.astype(np.float32), f"{key}.v": factors.v.astype(np.float32)}
    contiguous = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    with replacement(path) as temporary:
        temporary.write_bytes(save(contiguous, metadata={"format": "primer-search factored 1"}))
