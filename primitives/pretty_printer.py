"""A DNA for reading: its instructions with constants and widths resolved, and the difference of two.

    1 self_attention(h0)   runs in 8 branches: widths / 8
        x2 = head_projection(h0)
        x5 = C_MUL(x3, constant=0.125)
        x6 = T_MAT_MUL(x5, x2)
      · x7 = MAX(x6, constant=-0.57)   dead

`x{k}` is the value an operand index k means in the JSON; `h0` and `h1` are 0 and 1. Fields that an op ignores are
hidden, as is an argument its callee never reads. Instructions marked with a dot are dead: nothing reads them.
"""

from __future__ import annotations

from difflib import SequenceMatcher

from .ops import OPS
from .program import DNA, Instruction
from .validation import label

__all__ = ["format_difference", "format_instruction", "format_program", "subprogram_label"]

Reads = list[frozenset[int]]
"""For each subprogram, which of its inputs (0, 1) its output depends on."""

Pair = tuple[int | None, int | None]
"""A subprogram of the old program and the one of the new program that it is compared with."""

Shape = tuple[object, ...]

_DEAD = "   dead"


def format_program(dna: DNA) -> str:
    r"""The program in readable form, a block of lines for each subprogram.

    Example:
        >>> from primer_search.primitives.assembler import assemble
        >>> print(listing(assemble({"main": "a = SQUARE h0\nb = ADD a h1"}, {"zero": 0.0}, (8,))))
        constants 0.0 · dimensions 8u
        <BLANKLINE>
        0 main(h0, h1)
            x2 = SQUARE(h0)
            x3 = ADD(x2, h1)
    """
    reads = _reads(dna)
    blocks = [_banks(dna)]
    for index, divisors in enumerate(_divisors(dna, reads)):
        blocks.append("\n".join([_header(dna, index, reads, divisors), *_lines(dna, index, reads)]))
    return "\n\n".join(blocks)


def format_difference(old: DNA, new: DNA) -> str:
    """What changed from one program to another, in the lines of `format_program`.

    Subprograms are compared by name where that is unique, else by index. Instructions are aligned by op and fields
    first, so that an insertion does not mark every later line whose operands merely shifted: `-` was there, `+` is new
    (or reads something else), unmarked lines stayed. Subprograms that did not change are left out. Programs that
    differ at most in what the listing hides get a sentence that says so.
    """
    blocks = _bank_differences(old, new)
    partners = _partners(old, new)
    for pair in partners:
        lines = _aligned(old, new, pair, partners)
        if any(line[0] != " " for line in lines):
            blocks.append("\n".join([_pair_header(old, new, pair), *lines]))
    if blocks:
        return "\n\n".join(blocks)
    return "no difference" if old == new else "no visible difference: only names, or fields that nothing reads, changed"


def format_instruction(dna: DNA, subprogram: int, position: int) -> str:
    """One instruction, as `x3 = CONV_1X1(x2, width=8u) x 2 branches`; all arguments of a call are shown."""
    return _line(dna, dna.subprograms[subprogram].instructions[position], position, None)


def subprogram_label(dna: DNA, index: int) -> str:
    """The name of a subprogram, on one line whatever the DNA calls it."""
    return label(dna.subprograms[index].name)


# --- lines ------------------------------------------------------------------------------------------------------


def _banks(dna: DNA) -> str:
    constants = " ".join(map(repr, dna.constants))
    dimensions = " ".join(f"{dimension}u" for dimension in dna.dimensions)
    flag = " · length dependent" if dna.length_dependent else ""
    return f"constants {constants} · dimensions {dimensions}{flag}"


def _header(dna: DNA, index: int, reads: Reads, divisors: frozenset[int]) -> str:
    inputs = ", ".join(f"h{i}" for i in sorted(reads[index]))
    head = f"{index} {subprogram_label(dna, index)}({inputs})"
    if not divisors:
        return f"{head}   never called"
    if divisors == {1}:
        return head
    return f"{head}   in branches: widths / {' or '.join(map(str, sorted(divisors)))}"


def _lines(dna: DNA, index: int, reads: Reads) -> list[str]:
    instructions = dna.subprograms[index].instructions
    live = _live(instructions, reads)
    return [
        f"    {_line(dna, instruction, position, reads)}"
        if position + 2 in live
        else f"  · {_line(dna, instruction, position, reads)}{_DEAD}"
        for position, instruction in enumerate(instructions)
    ]


def _line(dna: DNA, instruction: Instruction, position: int, reads: Reads | None) -> str:
    callee = instruction.callee
    name = instruction.op if callee is None else subprogram_label(dna, callee)
    words = [_value(operand) for operand in _operands(instruction, reads)]
    if callee is None:
        op = OPS[instruction.op]
        if op.uses_constant:
            words.append(f"constant={dna.constants[instruction.constant]!r}")
        if op.uses_dimension:
            words.append(f"width={dna.dimensions[instruction.dimension]}u")
    branches = f" x {instruction.branches} branches" if instruction.branches > 1 else ""
    return f"x{position + 2} = {name}({', '.join(words)}){branches}"


def _value(operand: int) -> str:
    return f"h{operand}" if operand < 2 else f"x{operand}"


# --- what is read -----------------------------------------------------------------------------------------------


def _operands(instruction: Instruction, reads: Reads | None) -> tuple[int, ...]:
    """The operand indices an instruction reads; without `reads`, both of a call."""
    callee = instruction.callee
    pair = (instruction.in1, instruction.in2)
    if callee is None:
        return pair[: OPS[instruction.op].operands]
    return pair if reads is None else tuple(pair[i] for i in sorted(reads[callee]))


def _live(instructions: tuple[Instruction, ...], reads: Reads) -> set[int]:
    """Value indices the output depends on, itself and the subprogram's inputs among them."""
    live = {len(instructions) + 1}
    for position in range(len(instructions) - 1, -1, -1):
        if position + 2 in live:
            live.update(_operands(instructions[position], reads))
    return live


def _reads(dna: DNA) -> Reads:
    reads: Reads = [frozenset()] * len(dna.subprograms)
    for index in range(len(dna.subprograms) - 1, -1, -1):
        reads[index] = frozenset(_live(dna.subprograms[index].instructions, reads) & {0, 1})
    return reads


def _divisors(dna: DNA, reads: Reads) -> list[frozenset[int]]:
    """For each subprogram, what its widths are divided by, over all live calls of it; empty if there are none."""
    divisors: list[frozenset[int]] = [frozenset({1}), *[frozenset()] * (len(dna.subprograms) - 1)]
    for index, subprogram in enumerate(dna.subprograms):
        live = _live(subprogram.instructions, reads)
        for position, instruction in enumerate(subprogram.instructions):
            callee = instruction.callee
            if callee is not None and position + 2 in live:
                divisors[callee] |= {divisor * instruction.branches for divisor in divisors[index]}
    return divisors


# --- differences ------------------------------------------------------------------------------------------------


def _bank_differences(old: DNA, new: DNA) -> list[str]:
    lines = []
    for name in ("constants", "dimensions", "length_dependent"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            lines += [f"- {name} {_bank(before)}", f"+ {name} {_bank(after)}"]
    return ["\n".join(lines)] if lines else []


def _bank(value: tuple[float, ...] | bool) -> str:
    return str(value) if isinstance(value, bool) else " ".join(map(repr, value))


def _partners(old: DNA, new: DNA) -> list[Pair]:
    """Which subprogram of the new program stands for which of the old: by unique name, the rest by index."""
    names = [[subprogram.name for subprogram in dna.subprograms] for dna in (old, new)]
    shared = [name for name in names[0] if names[0].count(name) == 1 == names[1].count(name)]
    pairs: list[Pair] = [(names[0].index(name), names[1].index(name)) for name in shared]
    left = [i for i in range(len(names[0])) if i not in {pair[0] for pair in pairs}]
    right = [j for j in range(len(names[1])) if j not in {pair[1] for pair in pairs}]
    pairs += [(i, i) for i in left if i in right]
    pairs += [(i, None) for i in left if i not in right]
    pairs += [(None, j) for j in right if j not in left]
    return sorted(pairs, key=lambda pair: (pair[0] if pair[1] is None else pair[1], pair[0] is None))


def _pair_header(old: DNA, new: DNA, pair: Pair) -> str:
    i, j = pair
    if j is None:
        return f"{i} {subprogram_label(old, i or 0)}, gone"
    now = subprogram_label(new, j)
    was = now if i is None else subprogram_label(old, i)
    return f"{j} {now}" if was == now else f"{j} {was} -> {now}"


def _aligned(old: DNA, new: DNA, pair: Pair, partners: list[Pair]) -> list[str]:
    """The lines of one subprogram, each behind its mark."""
    before, after = _view(old, pair[0]), _view(new, pair[1])
    renamed = {i: j for i, j in partners if i is not None and j is not None}
    old_shapes = [
        (renamed.get(shape[0], -1) if type(shape[0]) is int else shape[0], *shape[1:]) for _, _, shape in before
    ]
    matcher = SequenceMatcher(None, old_shapes, [shape for _, _, shape in after], autojunk=False)
    moved = {0: 0, 1: 1}  # value index in the old subprogram -> in the new one
    lines = []
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        moved |= zip(range(i1 + 2, i2 + 2), range(j1 + 2, j2 + 2), strict=False)
        if tag != "equal":
            lines += [f"-{line}" for line, _, _ in before[i1:i2]] + [f"+{line}" for line, _, _ in after[j1:j2]]
            continue
        for (was, read, _), (now, reads, _) in zip(before[i1:i2], after[j1:j2], strict=True):
            same = [moved.get(operand) for operand in read] == reads and was.endswith(_DEAD) == now.endswith(_DEAD)
            lines += [f" {now}"] if same else [f"-{was}", f"+{now}"]
    return lines


def _view(dna: DNA, index: int | None) -> list[tuple[str, list[int], Shape]]:
    """Each instruction of a subprogram as its line, the operands it reads, and its shape."""
    if index is None:
        return []
    reads = _reads(dna)
    instructions = dna.subprograms[index].instructions
    return [
        (line, list(_operands(instruction, reads)), _shape(dna, instruction))
        for line, instruction in zip(_lines(dna, index, reads), instructions, strict=True)
    ]


def _shape(dna: DNA, instruction: Instruction) -> Shape:
    """What aligns instructions: all that a reader sees of them but the operands."""
    callee = instruction.callee
    if callee is not None:
        return (callee, instruction.branches)
    op = OPS[instruction.op]
    constant = dna.constants[instruction.constant] if op.uses_constant else None
    return (
        op.name,
        instruction.branches,
        constant,
        dna.dimensions[instruction.dimension] if op.uses_dimension else None,
    )
