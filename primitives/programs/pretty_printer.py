"""A program as readable text, with constants and widths resolved.

    1 self_attention(h0)   in branches: widths / 8
        x2 = head_projection(h0)
        x5 = C_MUL(x3, constant=0.125)
        x6 = T_MAT_MUL(x5, x2)
      · x7 = MAX(x6, constant=-0.57)   dead

`x{k}` is the value with operand index k in the JSON; `h0` and `h1` are 0 and 1. Fields that an op ignores and arguments
that a callee never reads are hidden. A dot marks dead instructions: the output does not depend on them.
"""

from __future__ import annotations

from ..ops.op_table import OPS
from .liveness import LiveValues, live_values, operands_read
from .program import DNA, Instruction
from .validation import format_name

__all__ = ["format_instruction", "format_instructions", "format_program", "subprogram_label"]


def format_program(dna: DNA) -> str:
    r"""Return the program as text, one block of lines per subprogram.

    Example:
        >>> from primer_search.primitives.programs.assembler import assemble
        >>> print(format_program(assemble({"main": "a = SQUARE h0\nb = ADD a h1"}, {"zero": 0.0}, (8,))))
        constants 0.0 · dimensions 8u
        <BLANKLINE>
        0 main(h0, h1)
            x2 = SQUARE(h0)
            x3 = ADD(x2, h1)
    """
    live = live_values(dna)
    blocks = [_banks(dna)]
    for index, divisors in enumerate(_divisors(dna, live)):
        blocks.append("\n".join([_header(dna, index, live[index], divisors), *format_instructions(dna, index, live)]))
    return "\n\n".join(blocks)


def format_instructions(dna: DNA, index: int, live: list[LiveValues]) -> list[str]:
    """Return one line per instruction of a subprogram, given the `live_values` of the program."""
    return [
        f"    {_line(dna, instruction, position, live)}"
        if position + 2 in live[index]
        else f"  · {_line(dna, instruction, position, live)}   dead"
        for position, instruction in enumerate(dna.subprograms[index].instructions)
    ]


def format_instruction(dna: DNA, subprogram: int, position: int) -> str:
    """Return one instruction, such as `x3 = CONV_1X1(x2, width=8u) x 2 branches`, with all arguments of a call."""
    return _line(dna, dna.subprograms[subprogram].instructions[position], position, None)


def subprogram_label(dna: DNA, index: int) -> str:
    """Return the name of a subprogram, short and on one line."""
    return format_name(dna.subprograms[index].name)


def _banks(dna: DNA) -> str:
    constants = " ".join(map(repr, dna.constants))
    dimensions = " ".join(f"{dimension}u" for dimension in dna.dimensions)
    flag = " · length dependent" if dna.length_dependent else ""
    return f"constants {constants} · dimensions {dimensions}{flag}"


def _header(dna: DNA, index: int, live: LiveValues, divisors: frozenset[int]) -> str:
    inputs = ", ".join(f"h{i}" for i in (0, 1) if i in live)
    head = f"{index} {subprogram_label(dna, index)}({inputs})"
    if not divisors:
        return f"{head}   never called"
    if divisors == {1}:
        return head
    return f"{head}   in branches: widths / {' or '.join(map(str, sorted(divisors)))}"


def _line(dna: DNA, instruction: Instruction, position: int, live: list[LiveValues] | None) -> str:
    callee = instruction.callee
    name = instruction.op if callee is None else subprogram_label(dna, callee)
    all_arguments = callee is not None and live is None
    operands = (instruction.in1, instruction.in2) if all_arguments else operands_read(instruction, live or [])
    words = [f"h{operand}" if operand < 2 else f"x{operand}" for operand in operands]
    if callee is None:
        op = OPS[instruction.op]
        if op.uses_constant:
            words.append(f"constant={dna.constants[instruction.constant]!r}")
        if op.uses_dimension:
            words.append(f"width={dna.dimensions[instruction.dimension]}u")
    branches = f" x {instruction.branches} branches" if instruction.branches > 1 else ""
    return f"x{position + 2} = {name}({', '.join(words)}){branches}"


def _divisors(dna: DNA, live: list[LiveValues]) -> list[frozenset[int]]:
    """Return the divisors of each subprogram's widths over all its live calls; empty if no live call reaches it."""
    divisors: list[frozenset[int]] = [frozenset({1}), *[frozenset()] * (len(dna.subprograms) - 1)]
    for index, subprogram in enumerate(dna.subprograms):
        for position, instruction in enumerate(subprogram.instructions):
            callee = instruction.callee
            if callee is not None and position + 2 in live[index]:
                divisors[callee] |= {divisor * instruction.branches for divisor in divisors[index]}
    return divisors
