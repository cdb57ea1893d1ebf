"""Difference between two programs as text, in the line format of `format_program`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..programs.liveness import live_values, operands_read
from ..programs.pretty_printer import format_instructions, subprogram_label
from ..programs.program import DNA, Instruction
from .instruction_alignment import Pair, align_instructions, reads_field
from .program_alignment import pair_by_name

__all__ = ["format_difference"]


def format_difference(old: DNA, new: DNA) -> str:
    """Return the difference between two programs as text.

    Subprograms are compared by name where the name is unique, else by index; unchanged subprograms are left out. `-`
    marks removed lines, `+` new lines. A line is not marked if only the numbers of its operands differ, as after an
    insertion before the line. If the programs differ only in fields that the lines do not show, or not at all, the text
    is one line that says so.
    """
    blocks = _bank_differences(old, new)
    pairs = _paired_subprograms(old, new)
    counterparts = {i: j for i, j in pairs if i is not None and j is not None}
    for pair in pairs:
        lines = _marked_lines(_lines(old, pair[0], counterparts), _lines(new, pair[1]))
        if any(line[0] != " " for line in lines):
            blocks.append("\n".join([_header(old, new, pair), *lines]))
    if blocks:
        return "\n\n".join(blocks)
    return "no difference" if old == new else "no visible difference: only names, or fields that nothing reads, changed"


def _bank_differences(old: DNA, new: DNA) -> list[str]:
    lines = []
    for name in ("constants", "dimensions", "length_dependent"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            lines += [f"- {name} {_bank(before)}", f"+ {name} {_bank(after)}"]
    return ["\n".join(lines)] if lines else []


def _bank(value: tuple[float, ...] | bool) -> str:
    return str(value) if isinstance(value, bool) else " ".join(map(repr, value))


def _paired_subprograms(old: DNA, new: DNA) -> list[Pair]:
    """Return the subprograms to compare, in the order of the new program: paired by unique name, else by index."""
    pairs: list[Pair] = [*pair_by_name(old, new)]
    old_rest = [i for i in range(len(old.subprograms)) if i not in {pair[0] for pair in pairs}]
    new_rest = [j for j in range(len(new.subprograms)) if j not in {pair[1] for pair in pairs}]
    pairs += [(i, i if i in new_rest else None) for i in old_rest]
    pairs += [(None, j) for j in new_rest if j not in old_rest]
    return sorted(pairs, key=lambda pair: (pair[0] if pair[1] is None else pair[1], pair[0] is None))


def _header(old: DNA, new: DNA, pair: Pair) -> str:
    i, j = pair
    if j is None:
        return f"{i} {subprogram_label(old, i or 0)}, removed"
    after = subprogram_label(new, j)
    before = after if i is None else subprogram_label(old, i)
    return f"{j} {after}" if before == after else f"{j} {before} -> {after}"


def _marked_lines(old: list[_Line], new: list[_Line]) -> list[str]:
    """Return the lines of one subprogram with their marks; among adjacent changes, the removed lines come first."""
    renumbered: dict[int, int | None] = {0: 0, 1: 1}  # value in the old subprogram -> value in the new one
    lines: list[str] = []
    added: list[str] = []
    for i, j in align_instructions([line.instruction for line in old], [line.instruction for line in new]):
        if i is not None and j is not None:
            renumbered[i + 2] = j + 2
            if old[i].reads_as(new[j], renumbered):
                lines += [*added, f" {new[j].text}"]
                added.clear()
                continue
        lines += [] if i is None else [f"-{old[i].text}"]
        added += [] if j is None else [f"+{new[j].text}"]
    return lines + added


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the listing.

    Attributes:
        text: the line.
        live: whether the output of the subprogram depends on the instruction.
        operands: operands that the line shows.
        instruction: the instruction, with calls numbered as in the new program and bank values instead of indices.
    """

    text: str
    live: bool
    operands: tuple[int, ...]
    instruction: Instruction

    def reads_as(self, other: _Line, renumbered: Mapping[int, int | None]) -> bool:
        """Return whether `other` shows the same, once the operands of this line are renumbered."""
        one, two = (replace(line.instruction, in1=0, in2=0) for line in (self, other))
        operands = tuple(renumbered.get(operand) for operand in self.operands)
        return one == two and operands == other.operands and self.live == other.live


def _lines(dna: DNA, index: int | None, counterparts: Mapping[int, int] | None = None) -> list[_Line]:
    if index is None:
        return []
    live = live_values(dna)
    texts = format_instructions(dna, index, live)
    return [
        _Line(
            texts[position],
            position + 2 in live[index],
            operands_read(instruction, live),
            _comparable(dna, instruction, counterparts),
        )
        for position, instruction in enumerate(dna.subprograms[index].instructions)
    ]


def _comparable(dna: DNA, instruction: Instruction, counterparts: Mapping[int, int] | None) -> Instruction:
    callee = instruction.callee
    return replace(
        instruction,
        op=instruction.op if callee is None or counterparts is None else f"call:{counterparts.get(callee, -1)}",
        constant=dna.constants[instruction.constant] if reads_field(instruction, "constant") else 0,
        dimension=dna.dimensions[instruction.dimension] if reads_field(instruction, "dimension") else 0,
    )
