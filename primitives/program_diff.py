"""What lies between two programs: the changes that make one of the other, and the program of any subset of them.

    changes(seed, candidate).program({1, 3})    the seed with the first and the third change

Instructions are aligned (see `alignment`) into *slots*; each holds the seed's version of an instruction, the
candidate's, or both. A change is a slot that only one of them has, a field in which the versions differ, or an entry of
a bank. Operands refer to slots. One that refers to a slot which is not there reads what that slot's in1 refers to, as
when a mutation deletes it, so that an inserted instruction is one change, not one more for each of its readers. No
change applied gives the seed, all give the candidate; what lies between may be invalid, and is then refused like any
program.

Some changes do nothing (they touch what nothing reads): `essential_changes` drops them without a training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .canonical import build_graph
from .errors import InvalidProgramError, MalformedProgramError, UsageError
from .fingerprint import LENGTH as PROBE_LENGTH
from .fingerprint import fingerprint
from .graph import Graph, smallest_unit
from .parameters import parameter_count
from .pretty_printer import format_instruction, subprogram_label
from .program import DNA, Instruction, Subprogram
from .program_alignment import FIELDS, Aligned, Place, align, reads
from .validation import check_well_formed

__all__ = ["Change", "ProgramDiff", "diff_programs", "essential_changes", "function_identity"]

LARGEST_PROBE = 10_000_000
"""Most parameters of a program whose outputs are computed to identify it; a larger one is known by its structure."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two programs.

    Attributes:
        number: its place in `ProgramDiff.items`, from 1.
        kind: `insert`, `delete`, a field of an instruction, or `bank`.
        sentence: what changes, as a reader of the listings would say it.
    """

    number: int
    kind: str
    sentence: str


@dataclass(frozen=True, slots=True)
class ProgramDiff:
    """The changes from a seed to a candidate.

    Attributes:
        seed, candidate: the two programs.
        items: the changes, in the order of the program, banks last.
    """

    seed: DNA
    candidate: DNA
    items: tuple[Change, ...]
    _places: tuple[_Slots, ...]
    _banks: tuple[_Bank, _Bank]

    @property
    def all(self) -> frozenset[int]:
        """The numbers of all changes."""
        return frozenset(item.number for item in self.items)

    def program(self, applied: Iterable[int]) -> DNA:
        """The seed with some of the changes.

        Raises:
            MalformedProgramError: a subprogram would be left empty, or the program become too large.
        """
        numbers = frozenset(applied)
        constants, dimensions = (bank.with_changes(numbers) for bank in self._banks)
        dna = DNA(
            constants,
            dimensions,
            tuple(Subprogram(place.name, place.with_changes(numbers)) for place in self._places),
            self.seed.length_dependent or self.candidate.length_dependent,
        )
        check_well_formed(dna)
        return dna


def diff_programs(seed: DNA, candidate: DNA) -> ProgramDiff:
    """The changes that make `candidate` of `seed`, as few as the alignment finds.

    Programs of one run share the places of their bank entries; others (of the library, say) may only share values. Both
    readings are tried, for each bank, and the one with fewer changes is kept.

    Raises:
        UsageError: the banks of the two cannot be brought together.
    """
    found, complaint = [], None
    for constants in (False, True):
        for dimensions in (False, True):
            try:
                aligned = align(seed, candidate, constants, dimensions)
            except UsageError as error:
                complaint = error
                continue
            found.append(_changes(seed, candidate, aligned))
    if not found:
        raise UsageError(f"the two programs cannot be compared change by change: {complaint}")
    return min(found, key=lambda result: len(result.items))


def essential_changes(between: ProgramDiff, *, length_dependent: bool = False) -> frozenset[int]:
    """The changes without the silent ones: a subset that computes the candidate's function.

    One after another is taken back, the last first, wherever that leaves the function as it is, until none can be.

    Args:
        between: the changes from a seed to a candidate.
        length_dependent: as in `build_graph`.

    Raises:
        InvalidProgramError: the candidate itself is refused.
    """
    known: dict[str, str] = {}  # function by structure, which many subsets share

    def function(dna: DNA) -> str:
        graph = build_graph(dna, length_dependent=length_dependent)
        if graph.structure_hash not in known:
            known[graph.structure_hash] = _function_of(graph)
        return known[graph.structure_hash]

    kept, wanted = between.all, function(between.candidate)
    settled = False
    while not settled:
        settled = True
        for number in sorted(kept, reverse=True):
            try:
                same = function(between.program(kept - {number})) == wanted
            except (InvalidProgramError, MalformedProgramError):
                continue
            if same:
                kept, settled = kept - {number}, False
    return kept


def function_identity(dna: DNA, *, length_dependent: bool = False) -> str:
    """What identifies the function a program computes: its fingerprint, or its structure where it has none.

    Raises:
        InvalidProgramError: the language refuses the program.
    """
    return _function_of(build_graph(dna, length_dependent=length_dependent))


# --- slots ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Slot:
    """An instruction in either program; operands are 0, 1 or the number of a slot + 2.

    `presence` is the change that inserts or deletes it, `fields` the changes of single fields.
    """

    seed: Instruction | None
    candidate: Instruction | None
    presence: int | None
    fields: dict[str, int]

    def version(self, applied: frozenset[int]) -> Instruction | None:
        if self.seed is None or self.candidate is None:
            there = (self.presence in applied) == (self.seed is None)
            return (self.seed or self.candidate) if there else None
        new = {field: getattr(self.candidate, field) for field, number in self.fields.items() if number in applied}
        return replace(self.seed, **new) if new else self.seed

    @property
    def bypass(self) -> int:
        """What is read in its place where it is not there."""
        instruction = self.seed or self.candidate
        assert instruction is not None
        return instruction.in1


@dataclass(frozen=True, slots=True)
class _Slots:
    """A subprogram."""

    name: str
    slots: tuple[_Slot, ...]

    def with_changes(self, applied: frozenset[int]) -> tuple[Instruction, ...]:
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
class _Bank:
    """The entries of a bank in either program, and the changes of single entries."""

    seed: tuple
    candidate: tuple
    entries: dict[int, int]

    def with_changes(self, applied: frozenset[int]) -> tuple:
        return tuple(
            new if self.entries.get(index) in applied else old
            for index, (old, new) in enumerate(zip(self.seed, self.candidate, strict=True))
        )


# --- finding them -----------------------------------------------------------------------------------------------


def _changes(seed: DNA, candidate: DNA, aligned: Aligned) -> ProgramDiff:
    items: list[Change] = []

    def new(kind: str, sentence: str) -> int:
        items.append(Change(len(items) + 1, kind, sentence))
        return items[-1].number

    places = []
    for place in aligned.places:
        slots = _slots(place)
        words = _Words(seed, candidate, place)
        for slot, pair in zip(slots, place.pairs, strict=True):
            if slot.candidate is None:
                slot.presence = new("delete", words.deleted(pair[0]))
            elif slot.seed is None:
                slot.presence = new("insert", words.inserted(pair[1]))
            else:
                differing = [f for f in FIELDS if getattr(slot.seed, f) != getattr(slot.candidate, f)]
                slot.fields = {field: new(field, words.altered(field, *pair)) for field in differing}
        number = place.own[0] if place.own[1] is None else place.own[1]
        owner = seed if place.own[1] is None else candidate
        places.append(_Slots(owner.subprograms[number or 0].name, tuple(slots)))
    banks = []
    for name, field in (("constants", "constant"), ("dimensions", "dimension")):
        bank = _bank(getattr(aligned, name), places, field)
        for index, (old, now) in enumerate(zip(bank.seed, bank.candidate, strict=True)):
            if repr(old) != repr(now):
                mark = "u" if field == "dimension" else ""
                bank.entries[index] = new("bank", f"Bank: {field} {index} from {old:.6g}{mark} to {now:.6g}{mark}")
        banks.append(bank)
    return ProgramDiff(seed, candidate, tuple(items), tuple(places), (banks[0], banks[1]))


def _slots(place: Place) -> list[_Slot]:
    """The slots of a subprogram, rid of differences that nothing can notice."""
    numbers: tuple[dict[int, int], dict[int, int]] = ({0: 0, 1: 1}, {0: 0, 1: 1})
    slots: list[_Slot] = []
    for i, j in place.pairs:
        versions: list[Instruction | None] = []
        for side, (at, body) in enumerate(((i, place.first), (j, place.second))):
            if at is None:
                versions.append(None)
                continue
            known = numbers[side]
            versions.append(replace(body[at], in1=known[body[at].in1], in2=known[body[at].in2]))
            known[at + 2] = len(slots) + 2
        slots.append(_unified(_Slot(versions[0], versions[1], None, {}), slots))
    return slots


def _unified(slot: _Slot, earlier: Sequence[_Slot]) -> _Slot:
    """The slot with equal fields wherever the difference cannot be noticed.

    That is so where one of its versions does not read the field, or reads past a slot that its program does not have.
    """
    one, other = slot.seed, slot.candidate
    if one is None or other is None:
        return slot
    for field in FIELDS[1:]:
        before, after = getattr(one, field), getattr(other, field)
        operand = field in ("in1", "in2")
        if before == after:
            continue
        if not reads(one, field) or (operand and _resolved(after, earlier, "seed") == before):
            one = replace(one, **{field: after})
        elif not reads(other, field) or (operand and _resolved(before, earlier, "candidate") == after):
            other = replace(other, **{field: before})
    return _Slot(one, other, None, {})


def _resolved(value: int, slots: Sequence[_Slot], side: str) -> int:
    """What a reference reads in one of the two programs."""
    while value > 1 and getattr(slots[value - 2], side) is None:
        value = slots[value - 2].bypass
    return value


def _bank(banks: tuple[tuple, tuple], places: Sequence[_Slots], field: str) -> _Bank:
    """The bank, with entries made equal that one of the programs does not read."""
    old, new = list(banks[0]), list(banks[1])
    for index in range(len(old)):
        if repr(old[index]) != repr(new[index]):
            if not _is_read(places, "seed", field, index):
                old[index] = new[index]
            elif not _is_read(places, "candidate", field, index):
                new[index] = old[index]
    return _Bank(tuple(old), tuple(new), {})


def _is_read(places: Sequence[_Slots], side: str, field: str, index: int) -> bool:
    versions = (getattr(slot, side) for place in places for slot in place.slots)
    return any(v is not None and getattr(v, field) == index and reads(v, field) for v in versions)  # type: ignore[arg-type]


def _function_of(graph: Graph) -> str:
    if parameter_count(graph, smallest_unit(graph), PROBE_LENGTH) > LARGEST_PROBE:
        return graph.structure_hash
    return fingerprint(graph) or graph.structure_hash


# --- words ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Words:
    """Sentences about the instructions of one subprogram, in the numbering of the program that has them."""

    seed: DNA
    candidate: DNA
    place: Place

    def deleted(self, position: int | None) -> str:
        return f"Delete in {self._label(0)}: {self._line(0, position)}"

    def inserted(self, position: int | None) -> str:
        return f"Insert in {self._label(1)}: {self._line(1, position)}"

    def altered(self, field: str, old: int | None, new: int | None) -> str:
        before, after = self._value(0, field, old), self._value(1, field, new)
        return f"Change {field} from {before} to {after} in {self._label(1)}: {self._line(1, new)}"

    def _line(self, side: int, position: int | None) -> str:
        return format_instruction(self._dna(side), self._own(side), position or 0)

    def _label(self, side: int) -> str:
        return subprogram_label(self._dna(side), self._own(side))

    def _value(self, side: int, field: str, position: int | None) -> str:
        dna = self._dna(side)
        instruction = dna.subprograms[self._own(side)].instructions[position or 0]
        if field == "op":
            callee = instruction.callee
            return instruction.op if callee is None else subprogram_label(dna, callee)
        if field in ("in1", "in2"):
            return self._operand(side, getattr(instruction, field))
        if field == "constant":
            return f"{dna.constants[instruction.constant]:.6g}"
        if field == "dimension":
            return f"{dna.dimensions[instruction.dimension]}u"
        return str(instruction.branches)

    def _operand(self, side: int, value: int) -> str:
        """An operand by its number in the candidate; by that in the seed, and so called, if the candidate lacks it."""
        if value < 2:
            return f"h{value}"
        if side == 1:
            return f"x{value}"
        now = next((j for i, j in self.place.pairs if i == value - 2), None)
        return f"the seed's x{value}" if now is None else f"x{now + 2}"

    def _dna(self, side: int) -> DNA:
        return (self.seed, self.candidate)[side]

    def _own(self, side: int) -> int:
        number = self.place.own[side]
        assert number is not None
        return number
