"""Adaptive choice of edits: features of mutations, and the gains that they promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from primer_search.primitives.programs.library import get
from primer_search.primitives.programs.program import Instruction
from primer_search.search.evolution.program_edits import insert_instruction, replace_item
from primer_search.search.guided.edit_choice import LEAST_GAIN, EditChoice, edit_features
from primer_search.search.guided.live_mutations import mutate_live

BASELINE = get("TRANSFORMER", 8)
CONV = frozenset({"in main", "adds depthwise convolution", "adds DCONV_3X1"})
MASK = frozenset({"in main", "adds mask", "adds MASK"})
SQUARE = frozenset({"in main", "adds function", "adds SQUARE"})


def test_an_insertion_has_its_op_family_and_subprogram_as_features() -> None:
    child = insert_instruction(BASELINE, 0, 1, Instruction("DCONV_3X1", 2, 2))
    assert edit_features(BASELINE, child) == CONV


def test_a_constant_that_changes_in_the_bank_is_a_feature() -> None:
    child = replace(BASELINE, constants=replace_item(BASELINE.constants, 1, 0.5))
    assert edit_features(BASELINE, child) == {"constant"}


def test_every_live_mutation_has_features() -> None:
    rng = np.random.default_rng(0)
    assert all(edit_features(BASELINE, mutate_live(BASELINE, rng)[0]) for _ in range(200))


def test_all_mutations_are_equal_before_the_first_training() -> None:
    gains = EditChoice([], []).optimistic_gains([CONV, MASK, SQUARE])
    assert gains == pytest.approx(gains[0])


def test_edits_that_gained_are_preferred_and_untried_ones_to_those_that_gained_nothing() -> None:
    choice = EditChoice([CONV] * 3 + [MASK] * 10, [0.08, 0.07, -0.02] + [-0.3, -0.05] * 5)
    conv, mask, square = choice.optimistic_gains([CONV, MASK, SQUARE])
    assert conv > 1.5 * square
    assert square > 1.5 * mask
    assert mask >= LEAST_GAIN
    rng = np.random.default_rng(1)
    drawn = [choice.choose([MASK, CONV], rng) for _ in range(300)]
    assert 0.7 < np.mean(drawn) < 1.0


def test_a_bad_child_counts_as_one_that_gained_nothing() -> None:
    bad, useless = (EditChoice([MASK] * 5 + [CONV], [gain] * 5 + [0.05]) for gain in (-2.0, 0.0))
    assert bad.optimistic_gains([MASK, SQUARE]) == pytest.approx(useless.optimistic_gains([MASK, SQUARE]))
