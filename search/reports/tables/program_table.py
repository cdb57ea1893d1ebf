"""A program as a table: each line with the shape of its value and its share of the work."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ....models.cost import ProgramLine
from ..console import Layout, print_table, print_text

if TYPE_CHECKING:  # rich is loaded when something is printed
    from rich.console import Console

__all__ = ["print_program"]

_PROGRAM = "program"
_LAYOUT = Layout(left=(_PROGRAM,), wrap={_PROGRAM: 40}, drop=("params", "FLOPs", "shape"))


def print_program(listing: str, lines: Sequence[ProgramLine], console: Console) -> None:
    """Print a program; each line has its shape, parameters, forward FLOPs per token and share of the model's FLOPs.

    Args:
        listing: the program as text, with its constants and the heads of its subprograms.
        lines: costs of its instructions; empty if they are not known.
        console: console to print on.
    """
    banks, *blocks = listing.split("\n\n")
    print_text(banks, console)
    console.print()
    if not lines:
        print_text("\n\n".join(blocks), console)
        return
    rows, styles = [], []
    for index, block in enumerate(blocks):
        head, *texts = block.split("\n")
        own = [line for line in lines if line.subprogram == index]
        if rows:
            rows.append(_row(""))
            styles.append("")
        rows.append(_row(head.partition("   in branches")[0]))  # the shapes show the branches
        rows += [_row(_short(text), line) for text, line in zip(texts, own, strict=True)]
        styles += ["bold", *("" if line.calls else "dim" for line in own)]
    print_table(rows, console, _LAYOUT, styles)


def _row(text: str, line: ProgramLine | None = None) -> dict[str, str]:
    runs = line is not None and line.calls
    return {
        _PROGRAM: text,
        "shape": " ".join(line.shapes) if line is not None else "",
        "params": f"{line.parameters:,}" if line is not None and line.parameters else "",
        "FLOPs": f"{line.flops_per_token:,.0f}" if line is not None and runs else "",
        "share": f"{line.share:.1%}" if line is not None and runs else "",
    }


def _short(text: str) -> str:
    """Shorten the constant of a line to six digits; the bank above the table has all digits.

    >>> _short("x2 = C_MUL(h0, constant=0.17677669529663687)")
    'x2 = C_MUL(h0, constant=0.176777)'
    """
    return re.sub(r"constant=([-+.\de]+)", lambda found: f"constant={float(found[1]):.6g}", text)
