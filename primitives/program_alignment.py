"""Two programs laid side by side: which subprogram, bank entry and instruction of one stands for which of the other.

Both are first rewritten over one list of subprograms and, where that tells them apart by less, over one pair of banks:
subprograms of the same name (of the same place, where all names agree, as in a run) stand for each other, and one that
has no partner is there for both. Then the instructions of each pair are aligned at the least number of differences:
an instruction more or less counts one, another op a little more, another field that both of them read one. Operands
are compared through the alignment itself, which is therefore found in a few rounds.

Reference: Needleman and Wunsch (1970), "A general method applicable to the search for similarities".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .errors import UsageError
from .ops import OPS
from .program import DNA, MAX_BANK_ENTRIES, Instruction

__all__ = ["FIELDS", "Aligned", "Pair", "Place", "align", "reads"]

FIELDS: tuple[Field, ...] = ("op", "in1", "in2", "constant", "dimension", "branches")
Field = Literal["op", "in1", "in2", "constant", "dimension", "branches"]

Pair = tuple[int | None, int | None]
"""Positions of an instruction (or of a subprogram) in the first and the second program; None where it is not there."""

Bank = Literal["constants", "dimensions"]

_ROUNDS = 4
_GAP = 1.01
"""Just above 1, so that an instruction with two other fields counts as changed, not as exchanged."""

_OTHER_OP = 1.5
"""One instruction may have turned into another; of two in a row it is more likely that one went and one came."""


@dataclass(frozen=True, slots=True)
class Place:
    """A subprogram of the common list: its number in each program, its instructions there, and their alignment.

    Attributes:
        own: its numbers in the first and the second program.
        first, second: its instructions, with calls and bank indices in common terms and operands as they were. The
            same in both, where only one program has it.
        pairs: positions in `first` and `second`, in an order that respects both.
    """

    own: Pair
    first: tuple[Instruction, ...]
    second: tuple[Instruction, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Aligned:
    """Two programs in common terms.

    Attributes:
        places: the common subprograms, MAIN first, calls to higher ones only.
        constants, dimensions: for each program, its bank; of the same length.
    """

    places: tuple[Place, ...]
    constants: tuple[tuple[float, ...], tuple[float, ...]]
    dimensions: tuple[tuple[int, ...], tuple[int, ...]]


def align(first: DNA, second: DNA, shared_constants: bool, shared_dimensions: bool) -> Aligned:
    """Lay two programs side by side.

    Args:
        first, second: well-formed programs.
        shared_constants, shared_dimensions: whether both programs read one bank that holds the entries of both, so
            that an instruction which reads another value differs; or each its own, so that the entry differs.

    Raises:
        UsageError: banks of different lengths cannot be each program's own, or one bank cannot hold all entries.
    """
    constants, constant_of = _common_bank(first, second, "constants", shared_constants)
    dimensions, dimension_of = _common_bank(first, second, "dimensions", shared_dimensions)
    partners = _partners(first, second)
    places = []
    for own in partners:
        bodies = []
        for side, dna in enumerate((first, second)):
            number = own[side]
            if number is None:
                continue
            calls = {pair[side]: common for common, pair in enumerate(partners)}
            banks = (constant_of, dimension_of) if side else ({}, {})
            bodies.append(tuple(_in_common(i, calls, *banks) for i in dna.subprograms[number].instructions))
        pairs = _best(bodies[0], bodies[-1])
        places.append(Place(own, bodies[0], bodies[-1], pairs))
    return Aligned(tuple(places), constants, dimensions)


def reads(instruction: Instruction, field: Field) -> bool:
    """Whether an instruction's op uses a field; a call is taken to use both operands."""
    if instruction.callee is not None:
        return field not in ("constant", "dimension")
    op = OPS[instruction.op]
    uses = {"in2": op.operands == 2, "constant": op.uses_constant, "dimension": op.uses_dimension}
    return uses.get(field, True)


# --- one list of subprograms, one pair of banks ------------------------------------------------------------------


def _partners(first: DNA, second: DNA) -> tuple[Pair, ...]:
    """Which subprograms stand for each other, in an order in which calls of both programs go forward."""
    names = [[subprogram.name for subprogram in dna.subprograms] for dna in (first, second)]
    if names[0] == names[1]:
        return tuple((number, number) for number in range(len(names[0])))
    shared = [name for name in names[0][1:] if names[0].count(name) == 1 == names[1].count(name)]
    paired = [(0, 0), *((names[0].index(name), names[1].index(name)) for name in shared if names[1].index(name))]
    # Partners that call each other in opposite orders cannot share one order: then each program keeps its own.
    return _ordered(first, second, _with_the_rest(paired, names)) or _in_order(first, second, names)


def _with_the_rest(paired: Sequence[tuple[int, int]], names: Sequence[Sequence[str]]) -> list[Pair]:
    left = [(i, None) for i in range(len(names[0])) if i not in {pair[0] for pair in paired}]
    right = [(None, j) for j in range(len(names[1])) if j not in {pair[1] for pair in paired}]
    return [*paired, *left, *right]


def _in_order(first: DNA, second: DNA, names: Sequence[Sequence[str]]) -> tuple[Pair, ...]:
    order = _ordered(first, second, _with_the_rest([(0, 0)], names))
    assert order is not None  # MAIN is called by nobody, and the rest share nothing
    return order


def _ordered(first: DNA, second: DNA, pairs: Sequence[Pair]) -> tuple[Pair, ...] | None:
    """The pairs with every caller before what it calls, nearest to the order they have; None if there is no such."""
    waiting = {pair: _callers(first, second, pair, pairs) for pair in sorted(pairs, key=_rank)}
    order: list[Pair] = []
    while waiting:
        ready = next((pair for pair, callers in waiting.items() if callers <= set(order)), None)
        if ready is None:
            return None
        order.append(ready)
        del waiting[ready]
    return tuple(order)


def _rank(pair: Pair) -> tuple[int, int]:
    numbers = [number for number in pair if number is not None]
    return max(numbers), pair[0] is None


def _callers(first: DNA, second: DNA, callee: Pair, pairs: Sequence[Pair]) -> set[Pair]:
    def calls(dna: DNA, caller: int | None, number: int | None) -> bool:
        if caller is None or number is None:
            return False
        return any(instruction.callee == number for instruction in dna.subprograms[caller].instructions)

    return {pair for pair in pairs if calls(first, pair[0], callee[0]) or calls(second, pair[1], callee[1])}


def _common_bank(first: DNA, second: DNA, name: Bank, shared: bool) -> tuple[tuple[tuple, tuple], dict[int, int]]:
    """The bank of each program, and where the second's entries went."""
    old, new = getattr(first, name), getattr(second, name)
    if not shared:
        if len(old) != len(new):
            raise UsageError(f"banks of {len(old)} and {len(new)} {name} have no entries that stand for each other")
        return (old, new), {}
    field: Field = "constant" if name == "constants" else "dimension"
    instructions = (i for subprogram in second.subprograms for i in subprogram.instructions)
    read = {getattr(instruction, field) for instruction in instructions if reads(instruction, field)}
    bank, moved = list(old), dict.fromkeys(range(len(new)), 0)
    for index in sorted(read):
        value = new[index]
        if index < len(old) and _same(old[index], value):
            moved[index] = index
            continue
        place = next((at for at, other in enumerate(bank) if _same(other, value)), len(bank))
        bank[place:] = bank[place:] or [value]
        moved[index] = place
    if len(bank) > MAX_BANK_ENTRIES:
        raise UsageError(
            f"the two programs read {len(bank)} {name} between them, more than the {MAX_BANK_ENTRIES} of a bank"
        )
    return (tuple(bank), tuple(bank)), moved


def _same(one: float, other: float) -> bool:
    return repr(one) == repr(other)  # tells -0.0 from 0.0, as the structure does


def _in_common(
    instruction: Instruction,
    calls: Mapping[int | None, int],
    constants: Mapping[int, int],
    dimensions: Mapping[int, int],
) -> Instruction:
    callee = instruction.callee
    return replace(
        instruction,
        op=instruction.op if callee is None else f"call:{calls[callee]}",
        constant=constants.get(instruction.constant, instruction.constant),
        dimension=dimensions.get(instruction.dimension, instruction.dimension),
    )


# --- instructions -----------------------------------------------------------------------------------------------


def _best(old: Sequence[Instruction], new: Sequence[Instruction]) -> tuple[Pair, ...]:
    """The alignment of least cost among some rounds, each of which compares operands through the one before."""
    if old == new:
        return tuple((place, place) for place in range(len(old)))
    pairs = _cheapest(len(old), len(new), lambda i, j: _cost(old[i], new[j], None))
    best, least = pairs, float("inf")
    for _ in range(_ROUNDS):
        places = _places(old, new, pairs)
        total = sum(_GAP if None in (i, j) else _cost(old[i or 0], new[j or 0], places) for i, j in pairs)
        if total < least:
            best, least = pairs, total
        following = _cheapest(len(old), len(new), lambda i, j, at=places: _cost(old[i], new[j], at))
        if following == pairs:
            break
        pairs = following
    return best


Places = tuple[Mapping[int, int], Mapping[int, int]]


def _places(old: Sequence[Instruction], new: Sequence[Instruction], pairs: Sequence[Pair]) -> Places:
    """For each operand index of either side, the pair it stands for; of what has no partner, its first operand's."""
    sides: tuple[dict[int, int], dict[int, int]] = ({0: -2, 1: -1}, {0: -2, 1: -1})
    for place, (i, j) in enumerate(pairs):
        if i is not None:
            sides[0][i + 2] = sides[0][old[i].in1] if j is None else place
        if j is not None:
            sides[1][j + 2] = sides[1][new[j].in1] if i is None else place
    return sides


def _cost(one: Instruction, other: Instruction, places: Places | None) -> float:
    """How many fields differ that both read; a little for those that are not read, to settle ties."""
    cost = 0.0
    for field in FIELDS:
        before, after = getattr(one, field), getattr(other, field)
        if field in ("in1", "in2"):
            before, after = (0, 0) if places is None else (places[0][before], places[1][after])
        if before != after:
            noticed = reads(one, field) and reads(other, field)
            cost += _OTHER_OP if field == "op" else 1.0 if noticed else 1e-4
    return cost


def _cheapest(rows: int, columns: int, cost: Callable[[int, int], float]) -> tuple[Pair, ...]:
    """The cheapest alignment of two sequences; among equals, it deletes before it inserts."""
    table = [[(i + j) * _GAP for j in range(columns + 1)] for i in range(rows + 1)]
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            together = table[i - 1][j - 1] + cost(i - 1, j - 1)
            table[i][j] = min(together, table[i - 1][j] + _GAP, table[i][j - 1] + _GAP)
    pairs: list[Pair] = []
    i, j = rows, columns
    while i or j:
        if i and j and table[i][j] == table[i - 1][j - 1] + cost(i - 1, j - 1):
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif j and table[i][j] == table[i][j - 1] + _GAP:
            j -= 1
            pairs.append((None, j))
        else:
            i -= 1
            pairs.append((i, None))
    return tuple(reversed(pairs))
