"""Trained language models in folders: saving, and loading with checks (`checkpoint_files` describes the files).

The arrays are `embedding` [vocabulary, width], `blocks.<name>` [layers, ...], and `final_norm.scale` and
`final_norm.bias` [width]. The description contains the program, the shape of the model, and its training settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..primitives.errors import MalformedProgramError, UsageError
from ..primitives.graphs.canonical import build_graph
from ..primitives.graphs.graph import Graph
from ..primitives.graphs.parameters import parameter_specs
from ..primitives.programs.program import DNA
from ..primitives.programs.program_json import dna_from_json, dna_to_json
from .checkpoint_files import (
    DESCRIPTION,
    FileFormat,
    Tree,
    damaged_file,
    read_arrays,
    read_description,
    read_tokenizer,
    write_weights_folder,
)
from .config import ModelConfig

__all__ = ["Weights", "grow_vocabulary", "load_weights", "read_model", "save_weights"]

PROGRAM_LAYOUT = "program"
"""Layout with the names and shapes of the compiled program. The other layout follows the exported module."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Trained language model.

    Attributes:
        dna: program of the blocks.
        model: shape of the model.
        parameters: arrays of `LanguageModel.init`; arrays in `blocks` have a leading axis of layers.
        tokenizer: JSON text of the tokenizer.
        training: origin and training settings, as JSON values.
    """

    dna: DNA
    model: ModelConfig
    parameters: Tree
    tokenizer: str
    training: Mapping[str, Any]

    @property
    def graph(self) -> Graph:
        """The canonical program."""
        return build_graph(self.dna, length_dependent=self.model.length_dependent)


def grow_vocabulary(weights: Weights, vocabulary: int, seed: int) -> Weights:
    """Return a model that embeds `vocabulary` token ids, such as special tokens of an objective (`workers.objectives`).

    New ids get random rows, as in `LanguageModel.init`; the other rows stay. A model that already embeds that many ids
    is returned unchanged.
    """
    embedding = weights.parameters["embedding"]
    missing = vocabulary - len(embedding)
    if missing <= 0:
        return weights
    rows = np.random.default_rng(seed).standard_normal((missing, weights.model.width)) / np.sqrt(weights.model.width)
    grown = np.concatenate([embedding, rows.astype(embedding.dtype)])
    return replace(
        weights,
        model=replace(weights.model, vocabulary=vocabulary),
        parameters={**weights.parameters, "embedding": grown},
    )


def save_weights(
    folder: Path, weights: Weights, overwrite: bool = False, texts: Mapping[str, str] | None = None
) -> None:
    """Write a trained model in both formats, and other `texts` by file name, to a folder.

    Either the whole folder is written or nothing.

    Raises:
        UsageError: the folder exists, or cannot be written.
    """
    description = {
        "layout": PROGRAM_LAYOUT,
        "dna": json.loads(dna_to_json(weights.dna)),
        "model": asdict(weights.model),
        "training": dict(weights.training),
    }
    write_weights_folder(folder, weights.parameters, weights.tokenizer, description, texts=texts, overwrite=overwrite)


def load_weights(folder: Path | str, file_format: FileFormat | None = None, dna: DNA | None = None) -> Weights:
    """Read a folder that `save_weights` wrote.

    Args:
        folder: folder to read.
        file_format: format to read; None: safetensors if it exists, else Orbax.
        dna: program that the weights must belong to; None: any program.

    Raises:
        UsageError: a file is missing or damaged, or the weights belong to another program or do not fit the model.
    """
    folder = Path(folder)
    description = _read_description(folder)
    dna_found, model, training = _parse_description(folder / DESCRIPTION, description)
    if dna is not None and dna_to_json(dna) != dna_to_json(dna_found):
        raise UsageError(f"{folder} has weights of another program; remove the folder, and train again")
    weights = Weights(dna_found, model, {}, read_tokenizer(folder, description), training)
    source, arrays = read_arrays(folder, description, file_format)
    _check_shapes(source, {name: array.shape for name, array in arrays.items()}, weights)
    weights.parameters.update(_unflatten(arrays))
    return weights


def read_model(folder: Path) -> tuple[DNA, ModelConfig, dict[str, Any]]:
    """Return the program of a folder of weights, the shape of its model, and its training settings.

    Raises:
        UsageError: the folder has no weights, or their description is damaged.
    """
    return _parse_description(folder / DESCRIPTION, _read_description(folder))


def _read_description(folder: Path) -> dict[str, Any]:
    description = read_description(folder)
    if description.get("layout") != PROGRAM_LAYOUT:
        raise UsageError(
            f"{folder} is laid out for an exported module, as its README.md says; give the folder of the trained "
            "candidate, such as RUN/weights/12"
        )
    return description


def _parse_description(path: Path, description: Mapping[str, Any]) -> tuple[DNA, ModelConfig, dict[str, Any]]:
    """Return the program, the shape of the model, and its training settings."""
    from pydantic import TypeAdapter, ValidationError

    try:
        dna = dna_from_json(json.dumps(description["dna"]))
        model = TypeAdapter(ModelConfig).validate_json(json.dumps(description["model"]))
        return dna, model, dict(description["training"])
    except MalformedProgramError as error:
        raise damaged_file(path, f"dna: {error}") from error
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise damaged_file(path, f"model.{field}: {error.errors()[0]['msg']}") from error
    except (LookupError, TypeError, ValueError) as error:
        raise damaged_file(path, "not a description of a trained model") from error


def _check_shapes(source: Path, found: Mapping[str, tuple[int, ...]], weights: Weights) -> None:
    model, graph = weights.model, weights.graph
    specs = parameter_specs(graph, model.unit, model.length)
    expected: dict[str, tuple[int, ...]] = {
        "embedding": (model.vocabulary, model.width),
        "final_norm.scale": (model.width,),
        "final_norm.bias": (model.width,),
        **{f"blocks.{spec.name}": (model.layers, *spec.shape) for spec in specs},
    }
    if different := sorted(set(expected) ^ set(found)):
        problem = "lacks" if different[0] in expected else "has an unknown"
        raise UsageError(f"{source} does not fit the program in {DESCRIPTION}: it {problem} {different[0]}")
    for name, shape in expected.items():
        if found[name] != shape:
            raise UsageError(
                f"{source} does not fit the model in {DESCRIPTION}: {name} is {list(found[name])}, "
                f"but must be {list(shape)}"
            )


def _unflatten(flat: Mapping[str, np.ndarray]) -> Tree:
    """Invert `flatten` for a language model, in which names of arrays in `blocks` contain dots."""
    tree: Tree = {}
    for name, array in flat.items():
        group, dot, key = name.partition(".")
        if dot:
            tree.setdefault(group, {})[key] = array
        else:
            tree[name] = array
    tree.setdefault("blocks", {})  # a program may have no parameters
    return tree
