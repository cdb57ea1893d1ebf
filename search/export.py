"""From a run, or from the library, to a file of Flax source that says where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..primitives.library import LIBRARY, get, native_unit
from .description import candidate_id_of, library_description
from .leaderboard import leaderboard, lineage
from .store import Store

if TYPE_CHECKING:  # loads JAX
    from ..models.export import Provenance

__all__ = ["block_name", "export_candidate", "export_library_program", "provenance_of"]

LIBRARY_LENGTH = 64
"""Sequence length of the paper's search, for programs that are tied to one."""

_SPELLED = {"EZ": "EZ", "PP": "PP", "GELU": "GELU", "RELU": "ReLU", "MDHA": "MDHA"}


def export_candidate(run: str, candidate: str, path: Path, name: str | None = None, overwrite: bool = False) -> str:
    """Write a candidate's block; returns the name of its class.

    Args:
        run: what the user calls the run.
        candidate: its number, `best` or `seed`.
        path: the file to write.
        name: of the class; `Block` and the candidate's number, if not given.
        overwrite: replace an existing file.

    Raises:
        UsageError: there is no such run or candidate, or the file cannot be written.
        WorkFailedError: the source does not reproduce the program; nothing is written.
    """
    from ..models.export import write_export

    with Store.open(run, read_only=True) as store, store.snapshot():
        number = candidate_id_of(candidate, leaderboard(store))
        dna, model = store.candidate(number).dna, store.manifest["config"]["model"]
        provenance = provenance_of(store, number)
    name = name or f"Block{number}"
    write_export(
        path,
        dna,
        name=name,
        unit=model["unit"],
        length=model["length"],
        length_dependent=model["length_dependent"] or dna.length_dependent,
        provenance=provenance,
        overwrite=overwrite,
    )
    return name


def export_library_program(program: str, path: Path, name: str | None = None, overwrite: bool = False) -> str:
    """Write a library program's block at the paper's size; returns the name of its class. See `export_candidate`."""
    from ..models.export import Provenance, write_export

    library_description(program)  # complains of a name the library does not hold
    dna, unit = get(program), native_unit(program)
    name = name or block_name(program)
    provenance = Provenance("the library", program, setting=LIBRARY[program].reference)
    write_export(
        path,
        dna,
        name=name,
        unit=unit,
        length=LIBRARY_LENGTH,
        length_dependent=dna.length_dependent,
        provenance=provenance,
        overwrite=overwrite,
    )
    return name


def provenance_of(store: Store, candidate_id: int) -> Provenance:
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
    return Provenance(
        run=f"run {store.run.path.name}",
        candidate=f"candidate {candidate_id}",
        ancestry=tuple(sentence for step in lineage(store, candidate_id) for sentence in step.mutations),
        loss_nats=None if row is None else row.loss_nats,
        seed_loss_nats=board.seed.loss_nats,
        seed_spread_nats=board.seed.spread_nats,
        trainings=1 if row is None else row.trials,
        setting=f"{config['data']['source']}, {budget} of training, {manifest.get('machine', 'unknown machine')}",
    )


def block_name(program: str) -> str:
    """The class name of a library program's block.

    >>> block_name("PRIMER_EZ")
    'PrimerEZBlock'
    """
    return "".join(_SPELLED.get(word, word.capitalize()) for word in program.split("_")) + "Block"
