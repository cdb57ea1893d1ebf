"""Recombination: a three-way merge of two programs against their common ancestor.

The instructions of the ancestor are aligned with the instructions of each descendant (`instruction_alignment`). The
merged program has the edits of both: an instruction that either of them deleted is deleted, the insertions of both are
kept, and a field that one of them changed has the new value. If both inserted an instruction on the same edge, the
second one reads the result of the first. Otherwise, two different changes of the same field conflict, and there is no
merge.

The merge requires the same list of subprograms, and banks of the same length. All programs of one run have them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...primitives.differences.instruction_alignment import FIELDS, align_instructions
from ...primitives.programs.program import DNA, Instruction

__all__ = ["merge_programs"]

Label = tuple[str, int]
"""Name of a value that all versions of a subprogram share: the version it comes from, and its index in that version."""


@dataclass(frozen=True, slots=True)
class _Line:
    """An instruction whose operands are labels; its own operand indices are not used."""

    instruction: Instruction
    in1: Label
    in2: Label


_Version = Mapping[Label, _Line]
"""Instructions of one version in order, by label."""


def merge_programs(ancestor: DNA, first: DNA, second: DNA) -> DNA | None:
    """Return the program with the edits of both descendants; None if they conflict.

    Args:
        ancestor: common ancestor.
        first, second: descendants with as many subprograms and bank entries as the ancestor.
    """
    if not _comparable(ancestor, first) or not _comparable(ancestor, second):
        return None
    constants = _merged_items(ancestor.constants, first.constants, second.constants)
    dimensions = _merged_items(ancestor.dimensions, first.dimensions, second.dimensions)
    if constants is None or dimensions is None:
        return None
    child = replace(ancestor, constants=constants, dimensions=dimensions)
    for index, old in enumerate(ancestor.subprograms):
        one, other = first.subprograms[index].instructions, second.subprograms[index].instructions
        merged = _merged_instructions(old.instructions, one, other)
        if merged is None:
            return None
        child = child.with_instructions(index, merged)
    return child


def _comparable(ancestor: DNA, descendant: DNA) -> bool:
    return [len(bank) for bank in (ancestor.constants, ancestor.dimensions, ancestor.subprograms)] == [
        len(bank) for bank in (descendant.constants, descendant.dimensions, descendant.subprograms)
    ]


def _merged_items(old: Sequence, one: Sequence, other: Sequence) -> tuple | None:
    """Return each item with the change of either version; None if both changed the same item differently."""
    merged = tuple(b if a == before else a for before, a, b in zip(old, one, other, strict=True))
    changed_by_both = (a != before != b and a != b for before, a, b in zip(old, one, other, strict=True))
    return None if any(changed_by_both) else merged


def _merged_instructions(
    old: tuple[Instruction, ...], one: tuple[Instruction, ...], other: tuple[Instruction, ...]
) -> tuple[Instruction, ...] | None:
    if old in (one, other) or one == other:
        return other if one == old else one
    base, left, right = _labelled(old, old, "old"), _labelled(old, one, "first"), _labelled(old, other, "second")
    kept = {label for label in base if label in left and label in right}
    merged: dict[Label, _Line] = {}
    for label in _order(base, left, right):
        if label[0] == "old":
            line = _merged_line(base[label], left[label], right[label], merged, right) if label in kept else None
            if label in kept and line is None:
                return None
            if line is not None:
                merged[label] = line
        else:
            merged[label] = (left if label[0] == "first" else right)[label]
    return _numbered(merged, base)


def _labelled(old: Sequence[Instruction], new: Sequence[Instruction], origin: str) -> dict[Label, _Line]:
    """Return the instructions of a version; one that is aligned with an instruction of the ancestor has its label."""
    labels: dict[int, Label] = {0: ("input", 0), 1: ("input", 1)}
    for before, after in align_instructions(old, new):
        if after is not None:
            labels[after + 2] = (origin, after) if before is None else ("old", before)
    return {
        labels[position + 2]: _Line(instruction, labels[instruction.in1], labels[instruction.in2])
        for position, instruction in enumerate(new)
    }


def _order(base: _Version, left: _Version, right: _Version) -> list[Label]:
    """Return all labels: the ancestor's in their order, and insertions before the instruction that they precede."""
    before: dict[Label | None, list[Label]] = {}
    for version in (left, right):
        inserted: list[Label] = []
        for label in version:
            if label[0] == "old":
                before.setdefault(label, []).extend(inserted)
                inserted = []
            else:
                inserted.append(label)
        before.setdefault(None, []).extend(inserted)
    return [*(each for label in base for each in (*before.get(label, ()), label)), *before.get(None, ())]


def _merged_line(base: _Line, left: _Line, right: _Line, merged: dict[Label, _Line], second: _Version) -> _Line | None:
    """Return the line with the changed fields of both versions; None if they conflict."""
    values = {}
    for field in FIELDS:
        owner = (lambda line: line) if field in ("in1", "in2") else (lambda line: line.instruction)
        old, one, other = (getattr(owner(line), field) for line in (base, left, right))
        if one == old or other in (old, one):
            values[field] = other if one == old else one
        elif field in ("in1", "in2") and _chained(one, other, old, merged, second):
            values[field] = other
        else:
            return None
    operands = {field: values.pop(field) for field in ("in1", "in2")}
    return _Line(replace(base.instruction, **values), **operands)


def _chained(one: Label, other: Label, old: Label, merged: dict[Label, _Line], second: _Version) -> bool:
    """Make the second version's insertion on an edge read the first's, if it reads the value of the edge directly.

    Return False if the two edits of the edge cannot be combined in this way.
    """
    if one[0] != "first" or other[0] != "second":
        return False
    line = second[other]
    if old not in (line.in1, line.in2):
        return False
    merged[other] = replace(
        line, in1=one if line.in1 == old else line.in1, in2=one if line.in2 == old and line.in1 != old else line.in2
    )
    names = list(merged)
    if names.index(one) > names.index(other):  # the first's insertion must come before its new reader
        merged[other] = merged.pop(other)
    return True


def _numbered(merged: Mapping[Label, _Line], base: _Version) -> tuple[Instruction, ...] | None:
    """Return the instructions with operand indices; None if none is left, or an operand would come after its reader.

    A deleted operand is replaced by its own first operand.
    """
    if not merged:
        return None
    numbers: dict[Label, int] = {("input", 0): 0, ("input", 1): 1}
    numbers |= {label: position + 2 for position, label in enumerate(merged)}

    def index(label: Label) -> int:
        while label not in numbers:
            label = base[label].in1
        return numbers[label]

    instructions = tuple(
        replace(line.instruction, in1=index(line.in1), in2=index(line.in2)) for line in merged.values()
    )
    in_order = all(max(each.in1, each.in2) < position + 2 for position, each in enumerate(instructions))
    return instructions if in_order else None
