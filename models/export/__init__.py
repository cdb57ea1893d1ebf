"""A discovered block as Flax NNX source that needs nothing of this package: one file, JAX and Flax.

    write_export(path, dna, ...)    plan -> names -> expressions -> text -> run beside the program -> file

The text is written from the canonical graph, so dead code is gone. `plan` decides what becomes a layer,
`names` what things are called, `expressions` how they are computed, `render` how the file looks.
"""

from __future__ import annotations

import keyword
import os
import tempfile
from pathlib import Path

from ...primitives.canonical import build_graph
from ...primitives.errors import UsageError
from ...primitives.program import DNA
from .provenance import Provenance
from .render import RESERVED, render
from .verify import parameter_placements, verify_export

__all__ = ["Provenance", "export_source", "parameter_placements", "verify_export", "write_export"]


def export_source(
    dna: DNA,
    *,
    name: str,
    provenance: Provenance | None = None,
    unit: int,
    length: int | None = None,
    length_dependent: bool = False,
    checked: bool = False,
) -> str:
    """The program as the text of one Python file whose last class is `name`, a Flax NNX module.

    Args:
        dna: the program.
        name: a Python class name.
        provenance: where the program came from.
        unit: channels in a unit of relative width where it was found.
        length: sequence length where it was found; needed where the program is tied to one.
        length_dependent: allow ops that tie the block to one sequence length.
        checked: whether the text may say that it was verified, as `write_export` does before it writes.

    Raises:
        UsageError: the name cannot be a class, or the length is missing.
        InvalidProgramError: the language refuses the program.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name in RESERVED:
        raise UsageError(f"--name {name!r} cannot name the exported class; use a Python identifier such as MyBlock")
    graph = build_graph(dna, length_dependent=length_dependent)
    if graph.length_dependent and length is None:
        raise UsageError("this program is tied to one sequence length; say which with `length`")
    return render(graph, name, provenance, unit, length, checked)


def write_export(
    path: Path,
    dna: DNA,
    *,
    name: str,
    unit: int,
    length: int,
    length_dependent: bool = False,
    provenance: Provenance | None = None,
    overwrite: bool = False,
) -> None:
    """Write the program's source to a file, after it has been run beside the program.

    Args:
        path: the file; its folder must exist.
        dna: the program.
        name: a Python class name.
        unit: channels in a unit of relative width where it was found.
        length: sequence length where it was found.
        length_dependent: allow ops that tie the block to one sequence length.
        provenance: where the program came from.
        overwrite: replace an existing file.

    Raises:
        UsageError: the file exists, its folder does not, or the name cannot be a class.
        InvalidProgramError: the language refuses the program.
        WorkFailedError: the source does not reproduce the program; nothing is written.
    """
    path = Path(path)
    if path.is_dir() or (path.exists() and not overwrite):
        raise UsageError(f"{path} exists; choose another file or remove it first")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no folder; create it first, or choose another place for {path.name}")
    source = export_source(
        dna,
        name=name,
        provenance=provenance,
        unit=unit,
        length=length,
        length_dependent=length_dependent,
        checked=True,
    )
    verify_export(source, dna, unit, length, length_dependent=length_dependent)
    _write(path, source)


def _write(path: Path, text: str) -> None:
    """Write a whole file or nothing."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", text=True)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; choose a folder you may write to") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
