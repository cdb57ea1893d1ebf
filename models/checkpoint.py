"""Trained parameters in a folder: what lies there, written whole or not at all, and read with care.

    12/  model.json          the program, the model's shape, how it was trained, versions, a hash of every other file
         model.safetensors   embedding [vocabulary, width]; blocks.<name> [layers, ...]; final_norm.scale, .bias [width]
         checkpoint/         the same tree as an Orbax checkpoint
         tokenizer.json      in the format of the `tokenizers` library

Either format is enough to read a model back. Neither holds code: nothing here is ever unpickled.
"""

from __future__ import annotations

import importlib.metadata
import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..primitives.canonical import build_graph
from ..primitives.errors import MalformedProgramError, UsageError
from ..primitives.graph import Graph
from ..primitives.parameters import parameter_specs
from ..primitives.program import DNA
from ..primitives.program_json import dna_from_json, dna_to_json
from ..system.files import file_sha256, replace_folder
from .config import ModelConfig

__all__ = ["Tree", "Weights", "flatten", "load_weights", "save_weights", "write_weights_folder"]

FORMAT = 1
"""Raise it when a folder means something else than it did."""

DESCRIPTION, SAFETENSORS, CHECKPOINT, TOKENIZER = "model.json", "model.safetensors", "checkpoint", "tokenizer.json"

FileFormat = Literal["safetensors", "orbax"]
Tree = dict[str, Any]
"""Arrays in dicts in dicts."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A trained language model.

    Attributes:
        dna: the program of its blocks.
        model: its shape.
        parameters: as `LanguageModel.init` draws them; the arrays of `blocks` have a leading axis of layers.
        tokenizer: JSON text of the tokenizer its token ids are of.
        training: where it came from and how it was trained, as JSON values.
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


def save_weights(folder: Path, weights: Weights, overwrite: bool = False) -> None:
    """Write a trained model to a folder, in both formats, whole or not at all.

    Raises:
        UsageError: the folder exists, or cannot be written.
    """
    facts = {
        "layout": "program",
        "dna": json.loads(dna_to_json(weights.dna)),
        "model": asdict(weights.model),
        "training": dict(weights.training),
    }
    write_weights_folder(folder, weights.parameters, weights.tokenizer, facts, overwrite=overwrite)


def load_weights(folder: Path | str, form: FileFormat | None = None, dna: DNA | None = None) -> Weights:
    """Read what `save_weights` wrote.

    Args:
        folder: where it lies.
        form: the format to read; either, if not given, safetensors first.
        dna: the program it must be of.

    Raises:
        UsageError: something is missing or damaged, fits no model, or is of another program.
    """
    folder = Path(folder)
    facts = _read_description(folder)
    weights = _without_parameters(folder, facts)
    if dna is not None and dna_to_json(dna) != dna_to_json(weights.dna):
        raise UsageError(f"the weights in {folder} are of another program: remove the folder, and train again.")
    form = form or ("safetensors" if (folder / SAFETENSORS).exists() else "orbax")
    source = folder / (SAFETENSORS if form == "safetensors" else CHECKPOINT)
    if not source.exists():
        raise UsageError(f"{source} is missing: restore it, or train the candidate again.")
    _check_files(folder, facts["files"], source.name)
    found = flatten(_read_safetensors(source) if form == "safetensors" else _read_orbax(source))
    _check_shapes(source, {name: array.shape for name, array in found.items()}, weights)
    weights.parameters.update(_unflatten(found))
    return weights


def write_weights_folder(
    folder: Path,
    tree: Tree,
    tokenizer: str,
    facts: Mapping[str, Any],
    *,
    texts: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write arrays in both formats beside a tokenizer and a description, whole or not at all.

    Args:
        folder: to be made; its parent is made, too.
        tree: arrays in nested dicts; their flat names join the keys by dots.
        tokenizer: JSON text.
        facts: JSON values for the description.
        texts: further files, by name.
        overwrite: replace the folder if it exists.

    Raises:
        UsageError: the folder exists, or cannot be written.
    """
    if folder.exists() and not overwrite:
        raise UsageError(f"{folder} exists: replace it with --force, or move it away first.")
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        draft.mkdir(parents=True)
        _write_files(draft, tree, tokenizer, facts, texts or {})
        replace_folder(draft, folder)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror or error}; choose a folder you may write.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def flatten(tree: Tree, prefix: str = "") -> dict[str, np.ndarray]:
    """Arrays of a nested dict by their keys joined with dots.

    >>> sorted(flattened({"a": {"b": np.zeros(1), "c.d": np.ones(1)}, "e": np.ones(2)}))
    ['a.b', 'a.c.d', 'e']
    """
    flat: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(dict(value), f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = np.asarray(value)
    return flat


def _unflatten(flat: Mapping[str, np.ndarray]) -> Tree:
    """The inverse of `flatten` for a language model, whose blocks name their arrays with dots of their own."""
    tree: Tree = {}
    for name, array in flat.items():
        group, dot, key = name.partition(".")
        if dot:
            tree.setdefault(group, {})[key] = array
        else:
            tree[name] = array
    tree.setdefault("blocks", {})  # a program may have learned nothing
    return tree


# --- writing ------------------------------------------------------------------------------------------------------


def _write_files(draft: Path, tree: Tree, tokenizer: str, facts: Mapping[str, Any], texts: Mapping[str, str]) -> None:
    from orbax.checkpoint import v1 as orbax
    from safetensors.numpy import save

    # Orbax keeps no empty dict, which is what a program without parameters has.
    orbax.save(
        str(draft.absolute() / CHECKPOINT), {name: value for name, value in tree.items() if not _is_empty(value)}
    )
    contiguous = {name: np.ascontiguousarray(array) for name, array in flatten(tree).items()}
    (draft / SAFETENSORS).write_bytes(save(contiguous, metadata={"format": "flax"}))
    for name, text in {TOKENIZER: tokenizer, **texts}.items():
        (draft / name).write_text(text, encoding="utf-8")
    files = {
        path.relative_to(draft).as_posix(): file_sha256(path) for path in sorted(draft.rglob("*")) if path.is_file()
    }
    description = {"format": FORMAT, **facts, "versions": _versions(), "files": files}
    text = json.dumps(description, indent=2, allow_nan=False) + "\n"
    (draft / DESCRIPTION).write_text(text, encoding="utf-8")


def _is_empty(value: Any) -> bool:
    return isinstance(value, Mapping) and not value


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("primer-search", "jax", "flax", "orbax-checkpoint")}


# --- reading ------------------------------------------------------------------------------------------------------


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UsageError(
            f"there are no weights in {folder}: it holds no {DESCRIPTION}; `primer-search train` makes some."
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, "it is no JSON text") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT or not isinstance(facts.get("files"), dict):
        raise _damaged(path, f"it is no description of weights in format {FORMAT}")
    if facts.get("layout") != "program":
        raise UsageError(
            f"{folder} is laid out for an exported module, as its README.md says; name the folder of the trained "
            "candidate, such as RUN/weights/12."
        )
    return facts


def _without_parameters(folder: Path, facts: Mapping[str, Any]) -> Weights:
    """What the description and the tokenizer say."""
    from pydantic import TypeAdapter, ValidationError

    _check_files(folder, facts["files"], TOKENIZER)
    try:
        dna = dna_from_json(json.dumps(facts["dna"]))
        model = TypeAdapter(ModelConfig).validate_json(json.dumps(facts["model"]))
        training = dict(facts["training"])
        tokenizer = (folder / TOKENIZER).read_text(encoding="utf-8")
    except MalformedProgramError as error:
        raise _damaged(folder / DESCRIPTION, f"its program is none ({error})") from error
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise _damaged(folder / DESCRIPTION, f"model.{field}: {error.errors()[0]['msg']}") from error
    except (LookupError, TypeError, ValueError) as error:
        raise _damaged(folder / DESCRIPTION, "it lacks what describes a model") from error
    return Weights(dna, model, {}, tokenizer, training)


def _check_files(folder: Path, hashes: Mapping[str, Any], name: str) -> None:
    """Compare a file, or what lies under a folder, with the hashes taken when it was written."""
    expected = {path: value for path, value in hashes.items() if path == name or path.startswith(f"{name}/")}
    if not expected:
        raise _damaged(folder / DESCRIPTION, f"it knows nothing of {name}")
    for path, value in expected.items():
        try:
            found = file_sha256(folder / path)
        except OSError as error:
            raise UsageError(f"{folder / path} is missing or unreadable: restore it, or train again.") from error
        if found != value:
            raise _damaged(folder / path, "it is not what was written")


def _read_safetensors(path: Path) -> Tree:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise _damaged(path, str(error)) from error


def _read_orbax(path: Path) -> Tree:
    from orbax.checkpoint import v1 as orbax

    try:
        return orbax.load(str(path.absolute()))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise _damaged(path, f"Orbax: {str(error)[:200]}") from error


def _check_shapes(source: Path, found: Mapping[str, tuple[int, ...]], weights: Weights) -> None:
    model, graph = weights.model, weights.graph
    specs = parameter_specs(graph, model.unit, model.length)
    wanted: dict[str, tuple[int, ...]] = {
        "embedding": (model.vocabulary, model.width),
        "final_norm.scale": (model.width,),
        "final_norm.bias": (model.width,),
        **{f"blocks.{spec.name}": (model.layers, *spec.shape) for spec in specs},
    }
    if odd := sorted(set(wanted) ^ set(found)):
        what = "lacks" if odd[0] in wanted else "has a stray"
        raise UsageError(f"{source} does not fit the program in {DESCRIPTION} beside it: it {what} {odd[0]}.")
    for name, shape in wanted.items():
        if found[name] != shape:
            has = f"{name} is {list(found[name])} instead of {list(shape)}"
            raise UsageError(f"{source} does not fit the model in {DESCRIPTION} beside it: {has}.")


def _damaged(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} is damaged ({' '.join(why.split())}): restore it, or train the candidate again.")
