"""The alignment of two lists of instructions covers both, in order, at the least cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.primitives.differences.instruction_alignment import FIELDS, Pair, align_instructions, reads_field
from primer_search.primitives.programs import library
from primer_search.primitives.programs.program import Instruction
from primer_search.search.guided.live_mutations import mutate_live

OPS = st.lists(st.sampled_from(["SIN", "COS", "EXP", "TANH"]), max_size=12)


def body(ops: list[str]) -> list[Instruction]:
    return [Instruction(op) for op in ops]


@given(OPS, OPS)
def test_every_instruction_of_both_occurs_once_in_order(first: list[str], second: list[str]) -> None:
    pairs = align_instructions(body(first), body(second))
    assert [i for i, _ in pairs if i is not None] == list(range(len(first)))
    assert [j for _, j in pairs if j is not None] == list(range(len(second)))
    assert (None, None) not in pairs


@pytest.mark.parametrize("count", range(1, 40))
def test_many_insertions_before_an_equal_instruction_are_found(count: int) -> None:
    pairs = align_instructions(body(["SIN"]), body(["COS"] * count + ["SIN"]))
    assert pairs == (*((None, j) for j in range(count)), (0, count))


def test_alignments_are_those_of_the_written_rule(rng: np.random.Generator) -> None:
    """Mutated programs, whose instructions repeat and so have several alignments of nearly the same cost."""
    for start in ("TRANSFORMER", "PRIMER"):
        old = new = library.get(start)
        for step in range(60):
            new = mutate_live(new, rng)[0]
            for first, second in zip(old.subprograms, new.subprograms, strict=True):
                pairs = align_instructions(first.instructions, second.instructions)
                assert pairs == aligned(first.instructions, second.instructions)
            old = new if step % 3 == 0 else old


Body = tuple[Instruction, ...]


def aligned(first: Body, second: Body) -> tuple[Pair, ...]:
    """Align two bodies by the rule of `instruction_alignment`, one cost at a time."""
    if first == second:
        return tuple((position, position) for position in range(len(first)))
    pairs = best = cheapest(len(first), len(second), lambda i, j: cost(first[i], second[j], (0, 0), (0, 0)))
    least = float("inf")
    for _ in range(4):
        old, new = operands(first, pairs, 0), operands(second, pairs, 1)

        def change(i: int, j: int, old: list = old, new: list = new) -> float:
            return cost(first[i], second[j], old[i], new[j])

        total = sum(1.01 if i is None or j is None else change(i, j) for i, j in pairs)
        if total < least:
            best, least = pairs, total
        pairs, before = cheapest(len(first), len(second), change), pairs
        if pairs == before:
            break
    return best


def operands(body: Body, pairs: tuple[Pair, ...], side: int) -> list[tuple[int, int]]:
    numbers = {0: -2, 1: -1}
    for number, pair in enumerate(pairs):
        position = pair[side]
        if position is not None:
            numbers[position + 2] = numbers[body[position].in1] if pair[1 - side] is None else number
    return [(numbers[each.in1], numbers[each.in2]) for each in body]


def cost(one: Instruction, other: Instruction, own: tuple[int, int], others: tuple[int, int]) -> float:
    total = 0.0
    for field in FIELDS:
        place = {"in1": 0, "in2": 1}.get(field)
        before, after = (getattr(one, field), getattr(other, field)) if place is None else (own[place], others[place])
        if before == after:
            continue
        both = reads_field(one, field) and reads_field(other, field)
        total += 1.5 if field == "op" else 1.0 if both or field in ("in1", "branches") else 1e-4
    return total


def cheapest(rows: int, columns: int, change: Callable[[int, int], float]) -> tuple[Pair, ...]:
    table = {(i, j): (i + j) * 1.01 for i in range(rows + 1) for j in range(columns + 1)}
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            diagonal = table[i - 1, j - 1] + change(i - 1, j - 1)
            table[i, j] = min(diagonal, table[i - 1, j] + 1.01, table[i, j - 1] + 1.01)
    pairs: list[Pair] = []
    i, j = rows, columns
    while i or j:
        if i and j and table[i, j] == table[i - 1, j - 1] + change(i - 1, j - 1):
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif j and (not i or table[i, j] == table[i, j - 1] + 1.01):
            j -= 1
            pairs.append((None, j))
        else:
            i -= 1
            pairs.append((i, None))
    return tuple(reversed(pairs))
