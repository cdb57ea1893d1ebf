"""A change known to do nothing, to be measured like the others: what "effect" it seems to have is the noise of a study.

The variance of a layer norm is the mean of (x - mean)², and as well the mean of x (x - mean), since the mean of
(x - mean) is zero. In exact arithmetic both are one function with one gradient; trained, they differ by rounding alone.
Primer's winner contains this rewrite, and its paper measured an effect of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .canonical import build_graph
from .errors import InvalidProgramError
from .program import DNA, Instruction
from .program_diff import function_identity

__all__ = ["null_rewrite"]


def null_rewrite(dna: DNA, *, length_dependent: bool = False) -> DNA | None:
    """The program with one variance rewritten, the mean of (x - mean)² to that of x (x - mean) or back.

    Args:
        dna: a valid program.
        length_dependent: as in `build_graph`.

    Returns:
        A program of another structure and the same function; None where this one computes no such variance.
    """
    structure = build_graph(dna, length_dependent=length_dependent).structure_hash
    function = function_identity(dna, length_dependent=length_dependent)
    for twin in _rewritten(dna):
        try:
            graph = build_graph(twin, length_dependent=length_dependent)
            if (
                graph.structure_hash != structure
                and function_identity(twin, length_dependent=length_dependent) == function
            ):
                return twin
        except InvalidProgramError:
            continue
    return None


def _rewritten(dna: DNA) -> Iterator[DNA]:
    """Candidates for the rewrite, by the form of the instructions alone."""
    for number, subprogram in enumerate(dna.subprograms):
        for place, instruction in enumerate(subprogram.instructions):
            twin = _twin(subprogram.instructions, instruction)
            if twin is not None:
                body = (*subprogram.instructions[:place], twin, *subprogram.instructions[place + 1 :])
                yield dna.with_instructions(number, body)


def _twin(instructions: tuple[Instruction, ...], product: Instruction) -> Instruction | None:
    if product.branches != 1 or product.op not in ("MULTIPLY", "SQUARE"):
        return None
    factors = {product.in1} if product.op == "SQUARE" else {product.in1, product.in2}
    for centred in factors:
        x = _centres(instructions, centred)
        if x is not None and factors == {centred}:
            return replace(product, op="MULTIPLY", in1=x, in2=centred)
        if x is not None and factors == {x, centred}:
            return replace(product, op="MULTIPLY", in1=centred, in2=centred)
    return None


def _centres(instructions: tuple[Instruction, ...], value: int) -> int | None:
    """The x of which a value is x - mean(x), if it is one."""
    if value < 2:
        return None
    difference = instructions[value - 2]
    if difference.op != "DIFFERENCE" or difference.branches != 1 or difference.in2 < 2:
        return None
    mean = instructions[difference.in2 - 2]
    return difference.in1 if (mean.op, mean.in1, mean.branches) == ("RED_MEAN", difference.in1, 1) else None
