"""Commands on one program: export, check and primitives. They only parse options and print."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..primitives.errors import MalformedProgramError, UsageError
from ..system.files import STANDARD_OUTPUT
from ..system.standard_streams import print_line
from ..system.user_folders import user_path
from .options import Candidate, Json, RunOrName, print_json, say
from .weights import trained_or_saved

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (export, check, primitives):
        app.command()(command)


def export(
    run: RunOrName,
    candidate: Candidate = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="File to write; -: standard output.", metavar="FILE", parser=user_path),
    ] = Path("block.py"),
    name: Annotated[str | None, typer.Option(help="Name of the class.", metavar="CLASS")] = None,
    api: Annotated[Literal["nnx", "linen"], typer.Option(help="Flax API of the class.")] = "nnx",
    weights: Annotated[
        bool, typer.Option("--weights", help="Also write trained weights: for block.py, to the folder block_weights/.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a block as Flax source, checked against its program.

    The file does not need this package.
    """
    from ..search.one_program.export_block import (
        check_output_is_free,
        export_candidate,
        export_library_program,
        export_weights,
    )

    to_stdout = output == STANDARD_OUTPUT
    trained = None
    if weights:
        if to_stdout:
            raise UsageError("--weights writes a folder next to the file, but -o - writes no file: give -o a file")
        if candidate is None:
            raise UsageError(
                f"--weights needs a trained candidate, but {run} is given alone: name a run and one of its candidates"
            )
        if not force:
            check_output_is_free(output)
        trained = trained_or_saved(run, candidate)
    if "jax" not in sys.modules:  # otherwise --weights has trained on the device that JAX opened
        from ..workers.devices.discovery import use_cpu_only

        use_cpu_only()
    if candidate is None:
        written = export_library_program(run, output, name, api, force)
    else:
        written = export_candidate(run, candidate, output, name, api, force)
    say(f"wrote {'the source' if to_stdout else output}: class {written}, checked against the program")
    if trained is not None:
        say(f"wrote {export_weights(trained, output, written, api, force)}: README.md there says how to load them")


def check(
    dna: Annotated[str, typer.Argument(help="A DNA file, - for stdin, or a library name.", metavar="DNA|NAME")],
    config: Annotated[
        str, typer.Option(help="Model sizes: a preset or a .toml file.", metavar="PRESET|FILE")
    ] = "laptop",
    json_: Json = False,
) -> None:
    """Print whether a program is valid, its hashes and its cost.

    Exit codes: 0 accepted, 1 refused, 2 not a DNA.
    """
    from ..configs import load
    from ..search.one_program.check_program import check as checked
    from ..search.one_program.check_program import format_check
    from ..search.results.program_reference import read_program

    settings = load(config)
    try:
        result = checked(read_program(dna, settings.model), settings)
    except MalformedProgramError as error:
        if json_:
            print_json({"accepted": False, "reason": "malformed", "message": str(error)})
        raise
    print_json(result.to_dict()) if json_ else print_line("\n".join(format_check(result)))
    raise typer.Exit(0 if result.accepted else 1)


def primitives(
    json_: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of docs/primitives.md.")] = False,
) -> None:
    """List the primitive operations."""
    from ..primitives.ops.op_formats import format_op_lines, format_op_markdown, op_rows

    print_json({"primitives": op_rows()}) if json_ else print_line(
        format_op_markdown() if markdown else "\n".join(format_op_lines())
    )
