"""Export of a block from a run or from the library: a file of Flax source with its origin, and trained weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ...models.parameter_range import dna_at_unit
from ...primitives.errors import UsageError
from ...primitives.programs.library import LIBRARY, native_unit
from ...primitives.programs.program_json import dna_to_json
from ..config import RunConfig
from ..results.leaderboard import leaderboard
from ..results.leaderboard_rows import Leaderboard
from ..results.lineage import lineage_start, trace_lineage
from ..results.program_reference import find_candidate_id, library_dna
from ..runs.store import Store

if TYPE_CHECKING:  # loads JAX
    from ...models.checkpoint import Weights
    from ...models.export import API, Provenance

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
"""Sequence length of the paper's search, for programs that depend on it."""

SPELLINGS = {"EZ": "EZ", "PP": "PP", "GELU": "GELU", "RELU": "ReLU", "MDHA": "MDHA"}
"""Words of program names that are not capitalized like other words in class names."""


def export_candidate(
    run: str, candidate: str, path: Path, name: str | None = None, api: API = "nnx", overwrite: bool = False
) -> str:
    """Write a candidate's block, and return the name of its class.

    Args:
        run: name or path of the run.
        candidate: number of the candidate, `best` or `baseline`.
        path: file to write.
        name: name of the class; by default `Block` and the candidate's number.
        api: Flax API.
        overwrite: replace an existing file.

    Raises:
        UsageError: the run or the candidate does not exist, or the file cannot be written.
        WorkFailedError: the source does not reproduce the program; nothing is written.
    """
    from ...models.export import write_export

    with Store.open(run, read_only=True) as store, store.snapshot():
        number = find_candidate_id(store, candidate)
        model = RunConfig.from_dict(store.manifest["config"]).model
        resized = store.candidate(number).unit
        dna = dna_at_unit(store.candidate(number).dna, model, resized)
        provenance = candidate_provenance(store, number)
    name = name or f"Block{number}"
    write_export(
        path,
        dna,
        name=name,
        unit=resized or model.unit,
        length=model.length,
        length_dependent=model.length_dependent or dna.length_dependent,
        api=api,
        provenance=provenance,
        solve_steps=model.solve_steps,
        overwrite=overwrite,
    )
    return name


def export_library_program(
    program: str, path: Path, name: str | None = None, api: API = "nnx", overwrite: bool = False
) -> str:
    """Write a library program's block at the paper's size, and return the name of its class. See `export_candidate`."""
    from ...models.export import Provenance, write_export

    dna, unit = library_dna(program), native_unit(program)
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
    """Write trained weights next to an exported file, in the layout of its module, and return their folder.

    Loading them does not need this package; a README.md in the folder shows how.

    Args:
        weights: weights of the exported candidate.
        path: exported file.
        name: name of its class.
        api: Flax API of the file, `nnx` or `linen`; the layout is the same in both.
        overwrite: replace an existing folder.

    Raises:
        UsageError: the folder exists, or cannot be written.
    """
    from dataclasses import asdict

    from ...models.checkpoint_files import write_weights_folder
    from ...models.export.load_into_modules import module_parameters

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
    texts = {"README.md": _readme(weights, path, name, api)}
    write_weights_folder(folder, module_parameters(weights), weights.tokenizer, facts, texts=texts, overwrite=overwrite)
    return folder


def weights_folder(path: Path) -> Path:
    """Return the folder for the weights of an exported file.

    >>> weights_folder(Path("blocks/mine.py")).as_posix()
    'blocks/mine_weights'
    """
    return path.with_name(f"{path.stem}_weights")


def check_output_is_free(path: Path) -> None:
    """Check that neither the exported file nor its weights exist, before anything is trained.

    Raises:
        UsageError: one of them exists.
    """
    for place in (path, weights_folder(path)):
        if place.exists():
            raise UsageError(f"{place} exists: choose another file, or replace it with --force")


def _readme(weights: Weights, path: Path, name: str, api: str) -> str:
    """Return the README.md of a folder of weights, with the code that loads them."""
    model, facts, folder = weights.model, weights.training, weights_folder(path).name
    bits = "" if facts["bits_per_byte"] is None else f", {facts['bits_per_byte']:.4f} bits per byte"
    length = f", length={model.length}" if weights.graph.length_dependent else ""
    if api == "nnx":
        flax, made = "nnx, traverse_util", f"{name}({model.width}{length}, rngs=nnx.Rngs(0))"
        use = 'nnx.update(block, tree["layers"]["0"])\n    y = block(x)'
    else:
        flax, made = "traverse_util", f"{name}({model.width}{length})"
        use = 'y = block.apply({"params": tree["layers"]["0"]}, x)'
    return f"""# Weights of {name}

Candidate {facts["candidate"]} of run {facts["run"]}, trained on {facts["data"]}: {model.layers} layers of width
{model.width}. Validation loss: {facts["loss_nats"]:.4f} nats per token{bits}.

    from flax import {flax}
    from safetensors.flax import load_file
    from {path.stem} import {name}

    block = {made}
    tree = traverse_util.unflatten_dict(load_file("{folder}/model.safetensors"), sep=".")
    {use}

`layers.0` to `layers.{model.layers - 1}` are the blocks. Their input is the token's row of `embedding`, times the
square root of the width, plus sinusoidal position embeddings. After them come `final_norm`, a layer norm, and the head,
which is `embedding` again.

`checkpoint/` holds the same arrays for Orbax (`orbax.checkpoint.v1.load` with the absolute path). `tokenizer.json` is
for the `tokenizers` library. `model.json` holds the program, the sizes of the model and the settings of the training.
"""


def candidate_provenance(store: Store, candidate_id: int) -> Provenance:
    """Return the run, the ancestry and the result of a candidate."""
    from ...models.export import Provenance

    candidate = store.candidate(candidate_id)
    board, manifest = leaderboard(store), store.manifest
    evaluated = candidate.evaluated_id
    row = next((row for row in board.rows if row.id == evaluated), None)
    config = manifest["config"]
    trial = config["trial"]
    budget = f"{trial['budget_steps']} steps"
    if trial["unit"] != "steps":
        budget = f"{trial['budget_seconds']:g} {trial['unit'].replace('_', ' ')}"
    lineage = trace_lineage(store.ancestry(), candidate_id)
    return Provenance(
        run=f"run {store.run.path.name}",
        candidate=f"candidate {candidate_id}",
        ancestry=tuple(sentence for step in lineage for sentence in step.mutations),
        beginning=lineage_start(lineage, board.initial_programs),
        loss_nats=None if row is None else row.loss_nats,
        baseline_loss_nats=board.baseline.loss_nats,
        baseline_spread_nats=board.baseline.spread_nats,
        trainings=1 if row is None else row.trials,
        confirmation=_confirmation(board, evaluated),
        setting=f"{config['data']['source']}, {budget} of training, {manifest.get('machine', 'unknown machine')}",
    )


def _confirmation(board: Leaderboard, candidate_id: int) -> str:
    """Return one sentence with the result of a candidate's retraining; empty if it was not retrained."""
    found = next((one for one in board.confirmed if one.candidate_id == candidate_id), None)
    if found is None:
        return ""
    sentence = f"{found.trainings} fresh trainings, scored on the test text: {found.verdict}"
    known = [
        f"{one.mean:+.4f} bits per byte{view and ' ' + view} (95% {one.low:+.4f} to {one.high:+.4f})"
        for view, one in found.views.items()
        if one is not None and one.low is not None and one.high is not None
    ]
    return f"{', '.join([sentence, *known])}."


def default_class_name(program: str) -> str:
    """Return the class name of a library program's block.

    >>> default_class_name("PRIMER_EZ")
    'PrimerEZBlock'
    """
    return "".join(SPELLINGS.get(word, word.capitalize()) for word in program.split("_")) + "Block"
