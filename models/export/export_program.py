"""Export of a program as Flax source text, verified or not, and to a file."""

from __future__ import annotations

import keyword
from pathlib import Path
from typing import NotRequired, TypedDict, Unpack

from ...primitives.errors import UsageError, WorkFailedError
from ...primitives.graphs.canonical import build_graph
from ...primitives.graphs.parameters import parameter_specs
from ...primitives.ops.least_squares import SOLVE_STEPS
from ...primitives.programs.program import DNA
from ...system.files import STANDARD_OUTPUT, write_output
from .block_origin import Provenance, docstring_lines
from .classes import ParameterPlacement, make_classes, placements
from .plan.grouping import plan_export
from .plan.sizes import SizeExpressions
from .render import RESERVED, plugin_definitions, render, size_sentence
from .runtime_source import API
from .verify import ExportedSource, verify_export

__all__ = ["ExportOptions", "export_source", "parameter_placements", "verified_export", "write_export"]


class ExportOptions(TypedDict):
    """Keyword arguments of a verified export; see `export_source`."""

    name: str
    unit: int
    length: int
    length_dependent: NotRequired[bool]
    api: NotRequired[API]
    provenance: NotRequired[Provenance | None]
    solve_steps: NotRequired[int]


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
    solve_steps: int = SOLVE_STEPS,
) -> ExportedSource:
    """Return the program as the text of a Python file whose last class is `name`, a Flax module.

    Args:
        dna: program.
        name: Python class name.
        unit: channels per unit of width in the search.
        length: sequence length of the search; required if the program depends on it.
        length_dependent: whether to allow ops that tie the block to one sequence length.
        api: Flax API.
        provenance: origin of the program.
        verified: whether the file's docstring says that the file was verified, as in `verified_export`.
        flax_norms: whether to use Flax's norms, which differ from the program's at tiny variances.
        solve_steps: largest number of conjugate-gradient steps of LEAST_SQUARES; it is written into the file.

    Raises:
        UsageError: the name is not a valid class name, or the length is missing.
        InvalidProgramError: the program breaks a rule of the language.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name in RESERVED:
        raise UsageError(f"--name {name!r} cannot name the exported class; use a Python identifier such as MyBlock")
    graph = build_graph(dna, length_dependent=length_dependent)
    if graph.length_dependent and length is None:
        raise UsageError("length is missing, but the program depends on the sequence length; give it")
    plan = plan_export(graph, unit)
    sizes = SizeExpressions.of(plan, "" if api == "nnx" else "self.")
    classes = make_classes(plan, name, RESERVED | set(sizes.counts.values()) | set(plugin_definitions(graph)), sizes)
    size = size_sentence(plan, unit, length)
    docstring = docstring_lines(name, provenance, size, graph.structure_hash, api, verified)
    source = render(docstring, plan, classes, sizes, api, flax_norms, solve_steps)
    placed = placements(plan, classes[-1], parameter_specs(graph, unit, length))
    return ExportedSource(source, placed, graph, unit, length, api, solve_steps)


def verified_export(dna: DNA, **options: Unpack[ExportOptions]) -> ExportedSource:
    """Return the result of `export_source` after verification.

    If the file with Flax's norms does not reproduce the program, it is exported with the program's own norms.

    Raises:
        UsageError: as in `export_source`.
        InvalidProgramError: as in `export_source`.
        WorkFailedError: the source does not reproduce the program.
    """

    def export(flax_norms: bool) -> ExportedSource:
        exported = export_source(dna, **options, verified=True, flax_norms=flax_norms)
        verify_export(exported)
        return exported

    try:
        return export(flax_norms=True)
    except WorkFailedError:
        return export(flax_norms=False)


def parameter_placements(
    dna: DNA, unit: int, length: int | None = None, *, length_dependent: bool = False
) -> tuple[ParameterPlacement, ...]:
    """Return the path and the layout of each parameter of the compiled program in the exported module.

    >>> from primer_search.primitives.programs.library import TRANSFORMER
    >>> [".".join(p.path) for p in parameter_placements(TRANSFORMER, 8) if "head_projection_2" in p.name]
    ['self_attention.query_projection.kernel']
    """
    options = {"unit": unit, "length": length, "length_dependent": length_dependent}
    return export_source(dna, name="Block", **options).placements


def write_export(path: Path, dna: DNA, *, overwrite: bool = False, **options: Unpack[ExportOptions]) -> ExportedSource:
    """Write the program's verified source to a file in an existing folder, or to standard output.

    Raises:
        UsageError: the file exists, cannot be written, or the name is not a valid class name.
        InvalidProgramError: the program breaks a rule of the language.
        WorkFailedError: the source does not reproduce the program; nothing is written.
    """
    path = Path(path)
    if path != STANDARD_OUTPUT and (path.is_dir() or (path.exists() and not overwrite)):
        raise UsageError(f"{path} exists; choose another file, or remove it first")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder; create it first, or choose another one for {path.name}")
    exported = verified_export(dna, **options)
    write_output(path, exported.source, "choose a folder you may write to")
    return exported
