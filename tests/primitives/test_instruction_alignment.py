"""The alignment of two lists of instructions covers both, in order, at the least cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer_search.primitives.instruction_alignment import align_instructions
from primer_search.primitives.program import Instruction

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
