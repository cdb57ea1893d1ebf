"""Assembler for programs written by hand: one text per subprogram, one instruction per line.

    name = OP operand [operand] [width=UNITS] [constant=NAME] [branches=N]

Upper-case ops are primitives; lower-case ops call the subprogram of that name. Operands are `h0`, `h1` and earlier
names. The last line is the output. A width or constant refers to the bank entry that holds it, so lines with the same
width or the same constant share the entry, and a mutation of the entry changes all of them. An omitted second operand
is `h0`, omitted branches are 1, and other omitted fields are 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..ops.op_table import OPS
from .program import DNA, Instruction, Subprogram

__all__ = ["assemble", "replace_subprogram"]


def assemble(
    subprograms: Mapping[str, str],
    constants: Mapping[str, float],
    dimensions: tuple[int, ...],
    length_dependent: bool = False,
) -> DNA:
    """Return the DNA that the texts describe.

    Args:
        subprograms: text of each subprogram by name, MAIN first, callers before callees.
        constants: bank of constants, each with the name that the lines use.
        dimensions: bank of relative dimensions, in units.
        length_dependent: value of `DNA.length_dependent`.

    Raises:
        ValueError: a line names a subprogram, operand, constant, width or field that does not exist.

    Example:
        >>> from primer_search.primitives.programs.assembler import assemble
        >>> dna = assemble({"main": "wide = CONV_1X1 h0 width=32", }, {"zero": 0.0}, (8, 32))
        >>> dna.subprograms[0].instructions[0].dimension
        1
    """
    order, bank = list(subprograms), list(constants)
    bodies = ((name, text.strip().splitlines()) for name, text in subprograms.items())
    assembled = tuple(Subprogram(name, _instructions(lines, order, bank, dimensions)) for name, lines in bodies)
    return DNA(tuple(constants.values()), dimensions, assembled, length_dependent)


def replace_subprogram(subprograms: Mapping[str, str], old: str, new: str, text: str) -> dict[str, str]:
    """Return the texts with subprogram `old` replaced by `new`, also in the lines of its callers."""
    return {
        new if name == old else name: text if name == old else re.sub(rf"\b{old}\b", new, body)
        for name, body in subprograms.items()
    }


def _instructions(
    lines: Sequence[str], subprograms: list[str], constants: list[str], dimensions: tuple[int, ...]
) -> tuple[Instruction, ...]:
    values, instructions = ["h0", "h1"], []
    for line in lines:
        name, _, op, *words = line.split()
        operands = [values.index(word) for word in words if "=" not in word]
        fields = dict(word.split("=") for word in words if "=" in word)
        if unknown := fields.keys() - {"width", "constant", "branches"}:
            raise ValueError(f"{line!r}: unknown field {', '.join(sorted(unknown))}")
        instructions.append(
            Instruction(
                op=op if op in OPS else f"call:{subprograms.index(op)}",
                in1=operands[0],
                in2=operands[1] if len(operands) > 1 else 0,
                constant=constants.index(fields["constant"]) if "constant" in fields else 0,
                dimension=dimensions.index(int(fields["width"])) if "width" in fields else 0,
                branches=int(fields.get("branches", 1)),
            )
        )
        values.append(name)
    return tuple(instructions)
