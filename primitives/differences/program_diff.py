"""The changes that turn one program into another, and the program of any subset of them.

    diff_programs(baseline, candidate).apply({1, 3})    the baseline with the first and the third change

`program_alignment` aligns the instructions of both programs. Each pair becomes a *slot* with the baseline's version of
an instruction, the candidate's version, or both. A change is a slot that only one program has, a field in which the two
versions differ, or an entry of a bank. Operands refer to slots. An operand whose slot is absent reads what the in1 of
that slot refers to, as after a deletion by mutation. So an inserted instruction is one change; the instructions that
read it need no changes.

Without any of the changes the program is the baseline, with all changes the candidate. A program with some of them may
be invalid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..errors import UsageError
from ..programs.program import DNA, Instruction, Subprogram
from ..programs.validation import check_well_formed
from .change_descriptions import ChangeDescriber
from .instruction_alignment import FIELDS, reads_field
from .program_alignment import AlignedSubprogram, ProgramAlignment, align_programs

__all__ = ["Change", "ChangedBank", "ProgramDiff", "Slot", "SlottedSubprogram", "diff_programs"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two programs.

    Attributes:
        number: position in `ProgramDiff.changes`, from 1.
        kind: `insert`, `delete`, `bank`, or the name of an instruction's field.
        description: the change in one line, in the notation of `format_program`.
    """

    number: int
    kind: str
    description: str


@dataclass(frozen=True, slots=True)
class ProgramDiff:
    """The changes from a baseline to a candidate.

    Attributes:
        baseline, candidate: the two programs.
        changes: the changes in the order of the program, banks last.
        subprograms: the aligned instructions of each subprogram; calls refer to this list.
        banks: the bank of constants and the bank of dimensions.
    """

    baseline: DNA
    candidate: DNA
    changes: tuple[Change, ...]
    subprograms: tuple[SlottedSubprogram, ...]
    banks: tuple[ChangedBank, ChangedBank]

    @property
    def numbers(self) -> frozenset[int]:
        """The numbers of all changes."""
        return frozenset(change.number for change in self.changes)

    def apply(self, numbers: Iterable[int]) -> DNA:
        """Return the baseline with some of the changes.

        Raises:
            MalformedProgramError: a subprogram would be empty, or the program would be too large.
        """
        applied = frozenset(numbers)
        constants, dimensions = (bank.apply(applied) for bank in self.banks)
        dna = DNA(
            constants,
            dimensions,
            tuple(Subprogram(subprogram.name, subprogram.apply(applied)) for subprogram in self.subprograms),
            self.baseline.length_dependent or self.candidate.length_dependent,
        )
        check_well_formed(dna)
        return dna


def diff_programs(baseline: DNA, candidate: DNA) -> ProgramDiff:
    """Return the changes that turn `baseline` into `candidate`, as few as the alignment finds.

    Programs of one run share the positions of their bank entries; other programs may share only values. Both
    assumptions are tried for each bank, and the difference with the fewest changes is returned.

    Raises:
        UsageError: under both assumptions, the banks of the two programs cannot be combined.
    """
    found, reason = [], None
    for shared_constants in (False, True):
        for shared_dimensions in (False, True):
            try:
                aligned = align_programs(baseline, candidate, shared_constants, shared_dimensions)
            except UsageError as error:
                reason = error
                continue
            found.append(_diff(baseline, candidate, aligned))
    if not found:
        raise UsageError(f"the two programs cannot be compared change by change: {reason}")
    return min(found, key=lambda diff: len(diff.changes))


# --- slots ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Slot:
    """An instruction of one or both programs; its operands are 0 and 1 for the inputs, and k + 2 for slot k.

    Attributes:
        baseline, candidate: version of the instruction in each program; None in a program without the instruction.
        presence: number of the change that inserts or deletes the instruction; None if both programs have it.
        fields: number of the change of each field in which the two versions differ.
    """

    baseline: Instruction | None
    candidate: Instruction | None
    presence: int | None
    fields: dict[str, int]

    def version(self, applied: frozenset[int]) -> Instruction | None:
        if self.baseline is None or self.candidate is None:
            present = (self.presence in applied) == (self.baseline is None)
            return (self.baseline or self.candidate) if present else None
        changed = {field: getattr(self.candidate, field) for field, number in self.fields.items() if number in applied}
        return replace(self.baseline, **changed)

    @property
    def bypass(self) -> int:
        """The operand that readers of this slot read if the slot is absent."""
        instruction = self.baseline or self.candidate
        assert instruction is not None
        return instruction.in1


@dataclass(frozen=True, slots=True)
class SlottedSubprogram:
    """A subprogram as slots."""

    name: str
    slots: tuple[Slot, ...]

    def resolved(self, value: int, side: Literal["baseline", "candidate"]) -> int:
        """Return the value that an operand reads in one of the programs, skipping slots that the program lacks."""
        return _resolved(value, self.slots, side)

    def apply(self, applied: frozenset[int]) -> tuple[Instruction, ...]:
        values, instructions = [0, 1], []
        for slot in self.slots:
            version = slot.version(applied)
            if version is None:
                values.append(values[slot.bypass])
                continue
            values.append(len(instructions) + 2)
            instructions.append(replace(version, in1=values[version.in1], in2=values[version.in2]))
        return tuple(instructions)


@dataclass(slots=True)
class ChangedBank:
    """Bank of both programs; `entries` maps the index of each changed entry to the number of the change."""

    baseline: tuple
    candidate: tuple
    entries: dict[int, int]

    def apply(self, applied: frozenset[int]) -> tuple:
        return tuple(
            new if self.entries.get(index) in applied else old
            for index, (old, new) in enumerate(zip(self.baseline, self.candidate, strict=True))
        )


# --- finding the changes ----------------------------------------------------------------------------------------


def _diff(baseline: DNA, candidate: DNA, aligned: ProgramAlignment) -> ProgramDiff:
    changes: list[Change] = []

    def add(kind: str, description: str) -> int:
        changes.append(Change(len(changes) + 1, kind, description))
        return changes[-1].number

    subprograms = []
    for pair in aligned.subprograms:
        slots = _slots(pair)
        describer = ChangeDescriber(baseline, candidate, pair)
        for slot, positions in zip(slots, pair.positions, strict=True):
            if slot.candidate is None:
                slot.presence = add("delete", describer.deleted(positions[0]))
            elif slot.baseline is None:
                slot.presence = add("insert", describer.inserted(positions[1]))
            else:
                differing = [f for f in FIELDS if getattr(slot.baseline, f) != getattr(slot.candidate, f)]
                slot.fields = {field: add(field, describer.changed(field, *positions)) for field in differing}
        old, new = pair.indices
        owner, index = (candidate, new) if new is not None else (baseline, old or 0)
        subprograms.append(SlottedSubprogram(owner.subprograms[index].name, tuple(slots)))
    banks = []
    for name, field in (("constants", "constant"), ("dimensions", "dimension")):
        bank = _bank(getattr(aligned, name), subprograms, field)
        for index, (old, new) in enumerate(zip(bank.baseline, bank.candidate, strict=True)):
            if repr(old) != repr(new):
                unit = "u" if field == "dimension" else ""
                bank.entries[index] = add("bank", f"Bank: {field} {index} from {old:.6g}{unit} to {new:.6g}{unit}")
        banks.append(bank)
    return ProgramDiff(baseline, candidate, tuple(changes), tuple(subprograms), (banks[0], banks[1]))


def _slots(pair: AlignedSubprogram) -> list[Slot]:
    """Return the slots of a subprogram, without differences that have no effect."""
    slot_of: tuple[dict[int, int], dict[int, int]] = ({0: 0, 1: 1}, {0: 0, 1: 1})
    slots: list[Slot] = []
    for positions in pair.positions:
        versions: list[Instruction | None] = [None, None]
        for side, (position, body) in enumerate(zip(positions, (pair.first, pair.second), strict=True)):
            if position is not None:
                known, instruction = slot_of[side], body[position]
                versions[side] = replace(instruction, in1=known[instruction.in1], in2=known[instruction.in2])
                known[position + 2] = len(slots) + 2
        slots.append(_unified(Slot(versions[0], versions[1], None, {}), slots))
    return slots


def _unified(slot: Slot, earlier: Sequence[Slot]) -> Slot:
    """Return the slot with equal fields wherever the difference has no effect.

    A difference has no effect if one of the versions does not read the field. A difference in an operand also has no
    effect if both versions read the same value, because one of them skips a slot that its program lacks.
    """
    old, new = slot.baseline, slot.candidate
    if old is None or new is None:
        return slot
    for field in FIELDS[1:]:
        before, after = getattr(old, field), getattr(new, field)
        operand = field in ("in1", "in2")
        if before == after:
            continue
        if not reads_field(old, field) or (operand and _resolved(after, earlier, "baseline") == before):
            old = replace(old, **{field: after})
        elif not reads_field(new, field) or (operand and _resolved(before, earlier, "candidate") == after):
            new = replace(new, **{field: before})
    return Slot(old, new, None, {})


def _resolved(value: int, slots: Sequence[Slot], side: str) -> int:
    """Return the value that an operand reads in one of the two programs."""
    while value > 1 and getattr(slots[value - 2], side) is None:
        value = slots[value - 2].bypass
    return value


def _bank(banks: tuple[tuple, tuple], subprograms: Sequence[SlottedSubprogram], field: str) -> ChangedBank:
    """Return the bank of both programs; an entry that one of them does not read is set to the other's entry."""
    old, new = list(banks[0]), list(banks[1])
    for index in range(len(old)):
        if repr(old[index]) != repr(new[index]):
            if not _is_read(subprograms, "baseline", field, index):
                old[index] = new[index]
            elif not _is_read(subprograms, "candidate", field, index):
                new[index] = old[index]
    return ChangedBank(tuple(old), tuple(new), {})


def _is_read(subprograms: Sequence[SlottedSubprogram], side: str, field: str, index: int) -> bool:
    versions = (getattr(slot, side) for subprogram in subprograms for slot in subprogram.slots)
    return any(v is not None and getattr(v, field) == index and reads_field(v, field) for v in versions)  # type: ignore[arg-type]
