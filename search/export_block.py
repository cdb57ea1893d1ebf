"""From a run, or from the library, to a file of Flax source that says where it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..primitives.errors import UsageError
from ..primitives.library import LIBRARY, get, native_unit
from ..primitives.program_json import dna_to_json
from .results.leaderboard import leaderboard
from .results.leaderboard_rows import Leaderboard
from .results.lineage import beginning, lineage
from .results.program_reference import candidate_id_of, library_description
from .runs.store import Store

if TYPE_CHECKING:  # loads JAX
    from ..models.checkpoint import Weights
    from ..models.export import API, Provenance

__all__ = [
    "candidate_provenance",
    "check_output_is_free",
    "default_class_name",
    "export_candidate",
    "export_library_program",
    "export_weights",
    "weights_folder",
]

LIBRARY_LENGTH = 64
"""Sequence length of the paper's search, for programs that are tied to one."""

_SPELLED = {"EZ": "EZ", "PP": "PP", "GELU": "GELU", "RELU": "ReLU", "MDHA": "MDHA"}


def export_candidate(
    run: str, candidate: str, path: Path, name: str | None = None, api: API = "nnx", overwrite: bool = False
) -> str:
    """Write a candidate's block; returns the name of its class.

    Args:
        run: what the user calls the run.
        candidate: its number, `best` or `seed`.
        path: the file to write.
        name: of the class; `Block` and the candidate's number, if not given.
        api: of Flax.
        overwrite: replace an existing file.

    Raises:
        UsageError: there is no such run or candidate, or the file cannot be written.
        WorkFailedError: the source does not reproduce the program; nothing is written.
    """
    from ..models.export import write_export

    with Store.open(run, read_only=True) as store, store.snapshot():
        number = candidate_id_of(candidate, leaderboard(store))
        dna, model = store.candidate(number).dna, store.manifest["config"]["model"]
        provenance = candidate_provenance(store, number)
    name = name or f"Block{number}"
    write_export(
        path,
        dna,
        name=name,
        unit=model["unit"],
        length=model["length"],
        length_dependent=model["length_dependent"] or dna.length_dependent,
        api=api,
        provenance=provenance,
        overwrite=overwrite,
    )
    return name


def export_library_program(
    program: str, path: Path, name: str | None = None, api: API = "nnx", overwrite: bool = False
) -> str:
    """Write a library program's block at the paper's size; returns the name of its class. See `export_candidate`."""
    from ..models.export import Provenance, write_export

    library_description(program)  # complains of a name the library does not hold
    dna, unit = get(program), native_unit(program)
    name = name or default_class_name(program)
    provenance = Provenance("the library", program, setting=LIBRARY[program].reference)
    write_export(
        path,
        dna,
        name=name,
        unit=unit,
        length=LIBRARY_LENGTH,
        length_dependent=dna.length_dependent,
        api=api,
        provenance=provenance,
        overwrite=overwrite,
    )
    return name


def export_weights(weights: Weights, path: Path, name: str, api: str = "nnx", overwrite: bool = False) -> Path:
    """Write trained weights beside an exported file, in the layout of its module; they need nothing of this package.

    Args:
        weights: of the exported candidate.
        path: the exported file.
        name: of its class.
        api: `nnx` or `linen`, of the file; both have the same layout, and the card shows how to load it.
        overwrite: replace an existing folder.

    Returns:
        The folder: of `block.py` it is `block_weights`.

    Raises:
        UsageError: the folder exists, or cannot be written.
    """
    from dataclasses import asdict

    from ..models.checkpoint import write_weights_folder
    from ..models.checkpoint_loading import module_parameters

    folder = weights_folder(path)
    facts = {
        "layout": "module",
        "module": path.name,
        "class": name,
        "api": api,
        "dna": json.loads(dna_to_json(weights.dna)),
        "model": asdict(weights.model),
        "training": dict(weights.training),
    }
    card = _card(weights, path, name, api)
    tree = module_parameters(weights)
    write_weights_folder(folder, tree, weights.tokenizer, facts, texts={"README.md": card}, overwrite=overwrite)
    return folder


def weights_folder(path: Path) -> Path:
    """Where the weights of an exported file go.

    >>> weights_folder(Path("blocks/mine.py")).as_posix()
    'blocks/mine_weights'
    """
    return path.with_name(f"{path.stem}_weights")


def check_output_is_free(path: Path) -> None:
    """Complain, before anything is trained, of an exported file or weights that are there already.

    Raises:
        UsageError: one of them is.
    """
    for place in (path, weights_folder(path)):
        if place.exists():
            raise UsageError(f"{place} exists; choose another file, or replace it with --force")


def _card(weights: Weights, path: Path, name: str, api: str) -> str:
    """README.md of a folder of weights: what they are, and the lines that load them."""
    model, facts, folder = weights.model, weights.training, weights_folder(path).name
    tied = f", length={model.length}" if weights.graph.length_dependent else ""
    if api == "nnx":
        flax, made = "nnx, traverse_util", f"{name}({model.width}{tied}, rngs=nnx.Rngs(0))"
        use = 'nnx.update(block, tree["layers"]["0"])\n    y = block(x)'
    else:
        flax, made = "traverse_util", f"{name}({model.width}{tied})"
        use = 'y = block.apply({"params": tree["layers"]["0"]}, x)'
    return f"""# Weights of {name}

Candidate {facts["candidate"]} of run {facts["run"]}, trained on {facts["data"]}: {model.layers} layers of width
{model.width}, {facts["loss_nats"]:.4f} nats a token and {facts["bits_per_byte"]:.4f} bits a byte of validation text.

    from flax import {flax}
    from safetensors.flax import load_file
    from {path.stem} import {name}

    block = {made}
    tree = traverse_util.unflatten_dict(load_file("{folder}/model.safetensors"), sep=".")
    {use}

`layers.0` to `layers.{model.layers - 1}` are the blocks. Before them a token is its row of `embedding`, times the
square root of the width, plus sinusoids of its position; after them come `final_norm`, a layer norm, and `embedding` as
the head.

`checkpoint/` holds the same tree for Orbax (`orbax.checkpoint.v1.load`, by its absolute path), `tokenizer.json` the
tokenizer for the `tokenizers` library, and `model.json` the program, the shape of the model and how it was trained.
"""


def candidate_provenance(store: Store, candidate_id: int) -> Provenance:
    """The run, the ancestry and the result of a candidate."""
    from ..models.export import Provenance

    candidate = store.candidate(candidate_id)
    board, manifest = leaderboard(store), store.manifest
    evaluated = candidate.id if candidate.same_as is None else candidate.same_as
    row = next((row for row in board.rows if row.id == evaluated), None)
    config = manifest["config"]
    trial = config["trial"]
    budget = f"{trial['budget_steps']} steps"
    if trial["unit"] != "steps":
        budget = f"{trial['budget_seconds']:g} {trial['unit'].replace('_', ' ')}"
    ancestry = lineage(store, candidate_id)
    return Provenance(
        run=f"run {store.run.path.name}",
        candidate=f"candidate {candidate_id}",
        ancestry=tuple(sentence for step in ancestry for sentence in step.mutations),
        beginning=beginning(ancestry, board.founders),
        loss_nats=None if row is None else row.loss_nats,
        baseline_loss_nats=board.seed.loss_nats,
        baseline_spread_nats=board.seed.spread_nats,
        trainings=1 if row is None else row.trials,
        confirmation=_confirmation(board, evaluated),
        setting=f"{config['data']['source']}, {budget} of training, {manifest.get('machine', 'unknown machine')}",
    )


def _confirmation(board: Leaderboard, candidate_id: int) -> str:
    """What fresh trainings of a candidate said, one sentence."""
    found = next((one for one in board.confirmed if one.candidate_id == candidate_id), None)
    if found is None:
        return ""
    sentence = f"{found.trainings} fresh trainings, scored on the test text: {found.verdict}"
    difference = found.difference
    if difference is None or difference.low is None or difference.high is None:
        return f"{sentence}."
    interval = f"95% {difference.low:+.4f} to {difference.high:+.4f}"
    return f"{sentence}, {difference.mean:+.4f} bits per byte ({interval})."


def default_class_name(program: str) -> str:
    """The class name of a library program's block.

    >>> default_class_name("PRIMER_EZ")
    'PrimerEZBlock'
    """
    return "".join(_SPELLED.get(word, word.capitalize()) for word in program.split("_")) + "Block"
