"""Mutations of live code: each edits a place that the output depends on.

Most of the paper's mutations change nothing, break the program or repeat each other, because they change any
instruction, and no instruction reads an inserted one (docs/discovery.md has the shares). The mutations of this file
draw their place among the *live edges*, which are the operands that the output depends on. So every edit has an effect
at once:

    Insert      an op on an edge
    Wrap        an op parallel to an edge, joined with it by ADD or MULTIPLY: a branch or a gate, in one edit
    Delete      an instruction
    Replace op  another op at the same place
    Rewire      another value at an edge
    Swap        two instructions
    Resize      another width or number of branches
    Constant    another constant, by a factor 2^N(0, 1) (Lion, arXiv 2302.06675, appendix)

To draw an op, its family is drawn first. All families have equal weight, and the weights of the edits are fixed. A
preference for convolutions, for example, would build Primer's result into the search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Literal

import numpy as np

from ...plugins.plugin import PluginMutation
from ...primitives.ops.op_table import OPS
from ...primitives.programs.liveness import operand_slots
from ...primitives.programs.pretty_printer import format_instruction, subprogram_label
from ...primitives.programs.program import BRANCHES, DNA, MAX_INLINED_INSTRUCTIONS, RELATIVE_DIMENSIONS, Instruction
from ...primitives.programs.validation import inlined_instruction_counts
from ..evolution.program_edits import delete_instruction, insert_instruction, replace_instruction, replace_item
from ..evolution.random_draws import choose, draw_below, draw_weighted
from ..evolution.vocabulary import PAPER, Vocabulary
from .live_code import Edge, LiveCode

__all__ = ["LIVE_MUTATIONS", "mutate_live", "mutate_live_code"]

JOINS = ("ADD", "MULTIPLY")
"""Ops that join the result of a wrap with the value of the edge."""

_ATTEMPTS = 1000


def mutate_live(dna: DNA, rng: np.random.Generator, vocabulary: Vocabulary = PAPER) -> tuple[DNA, str]:
    """Apply one mutation of live code (see `mutate_live_code`)."""
    return mutate_live_code(LiveCode(dna), rng, vocabulary)


def mutate_live_code(code: LiveCode, rng: np.random.Generator, vocabulary: Vocabulary = PAPER) -> tuple[DNA, str]:
    """Apply one mutation of live code, with its type drawn by the weights of `LIVE_MUTATIONS`.

    Args:
        code: program to mutate.
        rng: random generator of the child; the same state gives the same child.
        vocabulary: ops to draw from, and mutations of plugins, each of weight 1.

    Returns:
        The child, which is well-formed and differs from its parent, and a description of the edit.

    Raises:
        RuntimeError: no mutation applies. This does not happen for a valid program.
    """
    edits, cumulative = _weighted_edits(vocabulary)
    for _ in range(_ATTEMPTS):
        result = edits[draw_weighted(cumulative, rng)](code, rng)
        if result is None or result[0] == code.dna:
            continue
        if max(inlined_instruction_counts(result[0])) <= MAX_INLINED_INSTRUCTIONS:
            return result
    raise RuntimeError(f"none of {_ATTEMPTS} mutations applies to this program")


# --- the edits --------------------------------------------------------------------------------------------------


def _insert(code: LiveCode, rng: np.random.Generator, vocabulary: Vocabulary = PAPER) -> tuple[DNA, str]:
    """Insert an op on a live edge. If the op has a second operand, that is any value in scope."""
    dna = code.dna
    edge = choose(code.edges, rng)
    instruction = _draw_instruction(dna, edge, edge.value, _draw_op(dna, edge.subprogram, rng, vocabulary), rng)
    child = _insert_at(dna, edge, instruction)
    line = format_instruction(child, edge.subprogram, edge.position)
    return child, f"Insert in {subprogram_label(dna, edge.subprogram)}: {line}"


def _wrap(code: LiveCode, rng: np.random.Generator, vocabulary: Vocabulary = PAPER) -> tuple[DNA, str]:
    """Insert an op parallel to a live edge, and join its result with the value of the edge by ADD or MULTIPLY.

    With probability 1/2 the op reads the value of the edge, otherwise any value in scope.
    """
    dna = code.dna
    edge = choose(code.edges, rng)
    source = edge.value if draw_below(2, rng) else draw_below(edge.position + 2, rng)
    parallel = _draw_instruction(dna, edge, source, _draw_op(dna, edge.subprogram, rng, vocabulary), rng)
    child = insert_instruction(dna, edge.subprogram, edge.position, parallel)
    added = edge.position + 2
    later = edge._replace(position=edge.position + 1)
    join = Instruction(choose(JOINS, rng), edge.value, added)
    child = _insert_at(child, later, join)
    lines = " and ".join(
        format_instruction(child, edge.subprogram, place) for place in (edge.position, edge.position + 1)
    )
    return child, f"Wrap in {subprogram_label(dna, edge.subprogram)}: {lines}"


def _delete(code: LiveCode, rng: np.random.Generator) -> tuple[DNA, str] | None:
    """Delete a live instruction; its readers read one of its operands instead."""
    dna = code.dna
    places = [(index, at) for index, at in code.instructions if len(dna.subprograms[index].instructions) > 1]
    if not places:
        return None
    index, position = choose(places, rng)
    instruction = dna.subprograms[index].instructions[position]
    slot = choose(operand_slots(instruction, code.live) or ("in1",), rng)
    child = delete_instruction(dna, index, position, getattr(instruction, slot))
    return child, f"Delete in {subprogram_label(dna, index)}: {format_instruction(dna, index, position)}"


def _replace_op(code: LiveCode, rng: np.random.Generator, vocabulary: Vocabulary = PAPER) -> tuple[DNA, str]:
    """Replace the op of a live instruction; its other fields stay the same."""
    dna = code.dna
    index, position = choose(code.instructions, rng)
    instruction = dna.subprograms[index].instructions[position]
    return _changed(dna, index, position, replace(instruction, op=_draw_op(dna, index, rng, vocabulary)), "Replace op")


def _rewire(code: LiveCode, rng: np.random.Generator) -> tuple[DNA, str] | None:
    """Make the reader of a live edge read another value in scope."""
    dna = code.dna
    edge = choose(code.edges, rng)
    others = [value for value in range(edge.position + 2) if value != edge.value]
    if edge.position == len(dna.subprograms[edge.subprogram].instructions):
        return None  # the output is always the last value
    instruction = dna.subprograms[edge.subprogram].instructions[edge.position]
    return _changed(
        dna, edge.subprogram, edge.position, replace(instruction, **{edge.slot: choose(others, rng)}), "Rewire"
    )


def _swap(code: LiveCode, rng: np.random.Generator) -> tuple[DNA, str] | None:
    """Swap two live instructions of a subprogram: all fields except their operands."""
    dna = code.dna
    places = code.instructions
    index, first = choose(places, rng)
    others = [at for owner, at in places if owner == index and at != first]
    if not others:
        return None
    first, second = sorted((first, choose(others, rng)))
    one, other = (dna.subprograms[index].instructions[at] for at in (first, second))
    child = replace_instruction(dna, index, first, replace(other, in1=one.in1, in2=one.in2))
    child = replace_instruction(child, index, second, replace(one, in1=other.in1, in2=other.in2))
    lines = " with ".join(format_instruction(dna, index, at) for at in (first, second))
    return child, f"Swap in {subprogram_label(dna, index)}: {lines}"


def _resize(code: LiveCode, rng: np.random.Generator) -> tuple[DNA, str] | None:
    """Change a width (of one instruction, or of all that use its bank entry) or a number of branches."""
    dna = code.dna
    places = code.instructions
    if draw_below(2, rng):
        index, position = choose(places, rng)
        instruction = dna.subprograms[index].instructions[position]
        at = BRANCHES.index(instruction.branches)
        branches = choose([BRANCHES[other] for other in (at - 1, at + 1) if 0 <= other < len(BRANCHES)], rng)
        return _changed(dna, index, position, replace(instruction, branches=branches), "Resize")
    sized = [(index, at) for index, at in places if _uses(dna, index, at, "uses_dimension")]
    if not sized:
        return None
    index, position = choose(sized, rng)
    instruction = dna.subprograms[index].instructions[position]
    if draw_below(2, rng):
        entry = choose([other for other in range(len(dna.dimensions)) if other != instruction.dimension] or [0], rng)
        return _changed(dna, index, position, replace(instruction, dimension=entry), "Resize")
    old = dna.dimensions[instruction.dimension]
    new = choose([width for width in RELATIVE_DIMENSIONS if width != old], rng)
    child = replace(dna, dimensions=replace_item(dna.dimensions, instruction.dimension, new))
    return child, f"Resize: dimension {instruction.dimension} from {old}u to {new}u"


def _constant(code: LiveCode, rng: np.random.Generator) -> tuple[DNA, str] | None:
    """Multiply a constant that a live instruction reads by 2^N(0, 1); replace a constant 0 by a draw from N(0, 1)."""
    dna = code.dna
    read = sorted(
        {
            dna.subprograms[index].instructions[at].constant
            for index, at in code.instructions
            if _uses(dna, index, at, "uses_constant")
        }
    )
    if not read:
        return None
    index, draw = choose(read, rng), float(rng.standard_normal())
    old = dna.constants[index]
    new = draw if old == 0.0 else old * 2.0**draw
    if not abs(new) < float(np.finfo(np.float32).max):
        return None
    child = replace(dna, constants=replace_item(dna.constants, index, new))
    return child, f"Constant: {index} from {old:.6g} to {new:.6g}"


LiveMutation = Callable[[LiveCode, np.random.Generator], "tuple[DNA, str] | None"]
"""A mutation of live code that returns None if it does not apply to the program."""

LIVE_MUTATIONS: dict[str, tuple[LiveMutation, int]] = {
    "Insert": (_insert, 5),
    "Wrap": (_wrap, 5),
    "Delete": (_delete, 1),
    "Replace op": (_replace_op, 1),
    "Rewire": (_rewire, 1),
    "Swap": (_swap, 1),
    "Resize": (_resize, 1),
    "Constant": (_constant, 1),
}
"""The edits with their weights; the keys are the first words of their descriptions.

On the tape that the weights were chosen by, which is a recording of complete trainings, 7 of 85 insertions and wraps
gained at least 0.03 nats, and 2 of 110 other edits (docs/discovery.md).
"""

_OP_DRAWING_MUTATIONS = {"Insert": _insert, "Wrap": _wrap, "Replace op": _replace_op}
"""Mutations that draw ops, and therefore take a vocabulary."""


@lru_cache(maxsize=16)
def _weighted_edits(vocabulary: Vocabulary) -> tuple[list[LiveMutation], np.ndarray]:
    """Return the edits of a vocabulary, and the cumulative weights that they are drawn by."""
    edits: dict[str, LiveMutation] = {name: edit for name, (edit, _) in LIVE_MUTATIONS.items()}
    edits |= {name: partial(_apply_plugin, edit) for name, edit in vocabulary.mutations.items()}
    edits |= {name: partial(edit, vocabulary=vocabulary) for name, edit in _OP_DRAWING_MUTATIONS.items()}
    weights = np.array([weight for _, weight in LIVE_MUTATIONS.values()] + [1] * len(vocabulary.mutations))
    return list(edits.values()), np.cumsum(weights / weights.sum())


def _apply_plugin(edit: PluginMutation, code: LiveCode, rng: np.random.Generator) -> tuple[DNA, str] | None:
    return edit(code.dna, rng)


# --- draws and places -------------------------------------------------------------------------------------------


def _draw_op(dna: DNA, subprogram: int, rng: np.random.Generator, vocabulary: Vocabulary) -> str:
    """Draw a family uniformly, then one of its ops. The calls of later subprograms are one more family."""
    calls = tuple(f"call:{callee}" for callee in range(subprogram + 1, len(dna.subprograms)))
    families = [*vocabulary.families.values(), *((calls,) if calls else ())]
    return choose(choose(families, rng), rng)


def _draw_instruction(dna: DNA, edge: Edge, value: int, op: str, rng: np.random.Generator) -> Instruction:
    """Return an instruction of one branch that reads `value`, and with two operands also any value in scope."""
    other = draw_below(edge.position + 2, rng)
    first, second = (value, other) if op not in OPS or draw_below(2, rng) else (other, value)
    if op in OPS and OPS[op].operands == 1:
        first, second = value, value
    return Instruction(op, first, second, draw_below(len(dna.constants), rng), draw_below(len(dna.dimensions), rng))


def _insert_at(dna: DNA, edge: Edge, instruction: Instruction) -> DNA:
    """Return the program with an instruction on an edge: the reader of the edge reads its result instead."""
    child = insert_instruction(dna, edge.subprogram, edge.position, instruction)
    if edge.position == len(dna.subprograms[edge.subprogram].instructions):
        return child  # the last instruction is the output
    reader = child.subprograms[edge.subprogram].instructions[edge.position + 1]
    return replace_instruction(
        child, edge.subprogram, edge.position + 1, replace(reader, **{edge.slot: edge.position + 2})
    )


def _changed(dna: DNA, index: int, position: int, instruction: Instruction, name: str) -> tuple[DNA, str]:
    child = replace_instruction(dna, index, position, instruction)
    before, after = format_instruction(dna, index, position), format_instruction(child, index, position)
    return child, f"{name} in {subprogram_label(dna, index)}: {before} becomes {after}"


def _uses(dna: DNA, index: int, position: int, field: Literal["uses_constant", "uses_dimension"]) -> bool:
    op = dna.subprograms[index].instructions[position].op
    return op in OPS and getattr(OPS[op], field)
