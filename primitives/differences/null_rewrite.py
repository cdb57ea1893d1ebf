"""A rewrite that does not change a program's function: the control of an ablation.

The variance in a layer norm is the mean of (x - mean)², and also the mean of x (x - mean), because the mean of
(x - mean) is zero. In exact arithmetic both have the same values and gradients, so trainings of both differ by rounding
only. Therefore the "effect" that a study measures for this rewrite is the noise of the study. The program Primer
contains the rewrite, and its paper reports an effect of the rewrite.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..errors import InvalidProgramError
from ..graphs.canonical import build_graph
from ..graphs.fingerprint import function_identity
from ..programs.program import DNA, Instruction

__all__ = ["null_rewrite"]


def null_rewrite(dna: DNA, *, length_dependent: bool = False) -> DNA | None:
    """Return the program with one variance rewritten: mean((x - mean)²) as mean(x (x - mean)), or the reverse.

    Args:
        dna: valid program.
        length_dependent: passed to `build_graph`.

    Returns:
        A program with another structure and the same function, or None if the program computes no such variance.
    """
    graph = build_graph(dna, length_dependent=length_dependent)
    function = function_identity(graph)
    for rewritten in _rewritten_programs(dna):
        try:
            rewritten_graph = build_graph(rewritten, length_dependent=length_dependent)
        except InvalidProgramError:
            continue
        if rewritten_graph.structure_hash != graph.structure_hash and function_identity(rewritten_graph) == function:
            return rewritten
    return None


def _rewritten_programs(dna: DNA) -> Iterator[DNA]:
    """Yield programs with one product rewritten; the form of the instructions decides, so the function may differ."""
    for index, subprogram in enumerate(dna.subprograms):
        for position, instruction in enumerate(subprogram.instructions):
            rewritten = _rewritten_product(subprogram.instructions, instruction)
            if rewritten is not None:
                body = (*subprogram.instructions[:position], rewritten, *subprogram.instructions[position + 1 :])
                yield dna.with_instructions(index, body)


def _rewritten_product(instructions: tuple[Instruction, ...], product: Instruction) -> Instruction | None:
    """Return (x - mean)² as x (x - mean), or the reverse; None for any other instruction."""
    if product.branches != 1 or product.op not in ("MULTIPLY", "SQUARE"):
        return None
    factors = {product.in1} if product.op == "SQUARE" else {product.in1, product.in2}
    for centred in factors:
        x = _uncentred(instructions, centred)
        if x is not None and factors == {centred}:
            return replace(product, op="MULTIPLY", in1=x, in2=centred)
        if x is not None and factors == {x, centred}:
            return replace(product, op="MULTIPLY", in1=centred, in2=centred)
    return None


def _uncentred(instructions: tuple[Instruction, ...], value: int) -> int | None:
    """Return x if a value is x - mean(x), else None."""
    if value < 2:
        return None
    difference = instructions[value - 2]
    if difference.op != "DIFFERENCE" or difference.branches != 1 or difference.in2 < 2:
        return None
    mean = instructions[difference.in2 - 2]
    return difference.in1 if (mean.op, mean.in1, mean.branches) == ("RED_MEAN", difference.in1, 1) else None
