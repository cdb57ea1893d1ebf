"""A discovered block as Flax source that needs nothing of this package: one file, JAX and Flax, NNX or Linen.

    write_export(path, dna, ...)    plan -> classes -> text -> run beside the program -> file

The text is written from the canonical graph, so dead code is gone. `idioms` and `plan` decide what is computed in one
call, `outline` and `classes` what stands in a class of its own, `names` what things are called, `expressions` how they
are computed, `constructors` and `heads` how layers are made in one API or the other, `render` how the file looks.
`verify` runs the text beside the program; where it does not reproduce that, nothing is written.
"""

from __future__ import annotations

import keyword
import os
import tempfile
from pathlib import Path

from ...primitives.canonical import build_graph
from ...primitives.errors import UsageError, WorkFailedError
from ...primitives.program import DNA
from .classes import ParameterPlacement
from .constructors import API
from .provenance import Provenance
from .render import RESERVED, ExportedSource, render
from .verify import verify_export

__all__ = [
    "API",
    "ExportedSource",
    "ParameterPlacement",
    "Provenance",
    "export_source",
    "parameter_placements",
    "verified_export",
    "verify_export",
    "write_export",
]


def export_source(
    dna: DNA,
    *,
    name: str,
    unit: int,
    length: int | None = None,
    length_dependent: bool = False,
    api: API = "nnx",
    provenance: Provenance | None = None,
    checked: bool = False,
    flax_norms: bool = True,
) -> ExportedSource:
    """The program as the text of one Python file whose last class is `name`, a Flax module.

    Args:
        dna: the program.
        name: a Python class name.
        unit: channels in a unit of relative width where it was found.
        length: sequence length where it was found; needed where the program is tied to one.
        length_dependent: allow ops that tie the block to one sequence length.
        api: of Flax, `nnx` or `linen`.
        provenance: where the program came from.
        checked: whether the text may say that it was verified, as `verified_export` does.
        flax_norms: whether norms are Flax's, whose guards differ from the program's where a variance is tiny.

    Raises:
        UsageError: the name cannot be a class, or the length is missing.
        InvalidProgramError: the language refuses the program.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name in RESERVED:
        raise UsageError(f"--name {name!r} cannot name the exported class; use a Python identifier such as MyBlock")
    graph = build_graph(dna, length_dependent=length_dependent)
    if graph.length_dependent and length is None:
        raise UsageError("this program is tied to one sequence length; say which with `length`")
    return render(graph, name, provenance, unit, length, api=api, checked=checked, flax_norms=flax_norms)


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
    """`export_source`, run beside the program; norms are guarded as the program's where Flax's do not reproduce it.

    Raises:
        UsageError, InvalidProgramError: as `export_source` does.
        WorkFailedError: the source does not reproduce the program.
    """

    def attempt(flax_norms: bool) -> ExportedSource:
        rendered = export_source(
            dna,
            name=name,
            unit=unit,
            length=length,
            length_dependent=length_dependent,
            api=api,
            provenance=provenance,
            checked=True,
            flax_norms=flax_norms,
        )
        verify_export(rendered, dna, unit, length, length_dependent=length_dependent, api=api)
        return rendered

    try:
        return attempt(flax_norms=True)
    except WorkFailedError:
        return attempt(flax_norms=False)


def parameter_placements(
    dna: DNA, unit: int, length: int | None = None, *, length_dependent: bool = False
) -> tuple[ParameterPlacement, ...]:
    """For each parameter of the compiled program, its path in the exported module and how its shape changes.

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
    """Write the program's source to a file, after it has been run beside the program.

    Args:
        path: the file; its folder must exist.
        dna: the program.
        name: a Python class name.
        unit: channels in a unit of relative width where it was found.
        length: sequence length where it was found.
        length_dependent: allow ops that tie the block to one sequence length.
        api: of Flax, `nnx` or `linen`.
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
    rendered = verified_export(
        dna,
        name=name,
        unit=unit,
        length=length,
        length_dependent=length_dependent,
        api=api,
        provenance=provenance,
    )
    _write(path, rendered.source)
    return rendered


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
