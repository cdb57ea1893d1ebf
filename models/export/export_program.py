"""From a program to exported source, with or without verification, and to a file."""

from __future__ import annotations

import keyword
from pathlib import Path

from ...primitives.canonical import build_graph
from ...primitives.errors import UsageError, WorkFailedError
from ...primitives.program import DNA
from ...system.files import write_output
from .classes import ParameterPlacement
from .provenance import Provenance
from .render import RESERVED, ExportedSource, render
from .runtime_source import API
from .verify import verify_export

__all__ = ["export_source", "parameter_placements", "verified_export", "write_export"]


def export_source(
    dna: DNA,
    *,
    name: str,
    unit: int,
    length: int | None = None,
    length_dependent: bool = False,
    api: API = "nnx",
    provenance: Provenance | None = None,
    verified: bool = False,
    flax_norms: bool = True,
) -> ExportedSource:
    """Return the program as the text of a Python file whose last class is `name`, a Flax module.

    Args:
        dna: the program.
        name: a Python class name.
        unit: channels per unit of relative width at the size of the search.
        length: sequence length of the search; required if the program depends on it.
        length_dependent: allow ops that tie the block to one sequence length.
        api: Flax API, `nnx` or `linen`.
        provenance: origin of the program.
        verified: whether the text says that it was verified, as in `verified_export`.
        flax_norms: whether norms are Flax's, whose guards differ from the program's at tiny variances.

    Raises:
        UsageError: the name is not a valid class name, or the length is missing.
        InvalidProgramError: the program breaks a rule of the language.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name in RESERVED:
        raise UsageError(f"--name {name!r} cannot name the exported class; use a Python identifier such as MyBlock")
    graph = build_graph(dna, length_dependent=length_dependent)
    if graph.length_dependent and length is None:
        raise UsageError("this program depends on the sequence length: give `length`")
    return render(graph, name, provenance, unit, length, api=api, verified=verified, flax_norms=flax_norms)


def verified_export(
    dna: DNA,
    *,
    name: str,
    unit: int,
    length: int,
    length_dependent: bool = False,
    api: API = "nnx",
    provenance: Provenance | None = None,
) -> ExportedSource:
    """Return `export_source` after verification; norms are guarded as in the program if Flax's do not reproduce it.

    Raises:
        UsageError: as in `export_source`.
        InvalidProgramError: as in `export_source`.
        WorkFailedError: the source does not reproduce the program.
    """
    for flax_norms in (True, False):
        exported = export_source(
            dna,
            name=name,
            unit=unit,
            length=length,
            length_dependent=length_dependent,
            api=api,
            provenance=provenance,
            verified=True,
            flax_norms=flax_norms,
        )
        try:
            verify_export(exported, dna, unit, length, length_dependent=length_dependent, api=api)
        except WorkFailedError:
            if not flax_norms:
                raise
        else:
            break
    return exported


def parameter_placements(
    dna: DNA, unit: int, length: int | None = None, *, length_dependent: bool = False
) -> tuple[ParameterPlacement, ...]:
    """Return the path and the layout that each parameter of the compiled program has in the exported module.

    Example:
        >>> from primer_search.primitives.library import TRANSFORMER
        >>> [".".join(p.path) for p in parameter_placements(TRANSFORMER, 8) if "head_projection_2" in p.name]
        ['self_attention.query_projection.kernel']
    """
    graph = build_graph(dna, length_dependent=length_dependent)
    return render(graph, "Block", None, unit, length).placements


def write_export(
    path: Path,
    dna: DNA,
    *,
    name: str,
    unit: int,
    length: int,
    length_dependent: bool = False,
    api: API = "nnx",
    provenance: Provenance | None = None,
    overwrite: bool = False,
) -> ExportedSource:
    """Write the program's verified source to a file.

    Args:
        path: the file; its folder must exist.
        dna: the program.
        name: a Python class name.
        unit: channels per unit of relative width at the size of the search.
        length: sequence length of the search.
        length_dependent: allow ops that tie the block to one sequence length.
        api: Flax API, `nnx` or `linen`.
        provenance: origin of the program.
        overwrite: replace an existing file.

    Raises:
        UsageError: the file exists, cannot be written, or the name is not a valid class name.
        InvalidProgramError: the program breaks a rule of the language.
        WorkFailedError: the source does not reproduce the program; nothing is written.
    """
    path = Path(path)
    if path.is_dir() or (path.exists() and not overwrite):
        raise UsageError(f"{path} exists: choose another file or remove it first")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder: create it first, or choose another one for {path.name}")
    exported = verified_export(
        dna,
        name=name,
        unit=unit,
        length=length,
        length_dependent=length_dependent,
        api=api,
        provenance=provenance,
    )
    write_output(path, exported.source, "choose a folder you may write to")
    return exported
