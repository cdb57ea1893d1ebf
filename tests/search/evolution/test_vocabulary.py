"""The vocabulary of a search: the paper's ops by default, with those beyond it if the setting says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from primer_search.primitives.errors import UsageError
from primer_search.primitives.ops.op_table import OPS
from primer_search.primitives.programs import library
from primer_search.search.config import SearchConfig
from primer_search.search.evolution.paper_mutations import mutate
from primer_search.search.evolution.vocabulary import PAPER, read_vocabulary
from primer_search.search.guided.live_mutations import mutate_live


def test_the_paper_s_ops_are_the_default_and_are_39() -> None:
    vocabulary = read_vocabulary(SearchConfig().vocabulary)
    assert vocabulary.ops == PAPER.ops and len(PAPER.ops) == 39
    assert "LEAST_SQUARES" not in PAPER.ops


def test_extended_adds_the_ops_beyond_the_paper_as_a_family_of_their_own() -> None:
    vocabulary = read_vocabulary("extended")
    assert vocabulary.ops == tuple(name for name, op in OPS.items() if op.origin in ("paper", "extended"))
    assert {**PAPER.families, "least squares": ("LEAST_SQUARES",)} == vocabulary.families


@pytest.mark.parametrize("setting", ["extended,-extended", "extended,-LEAST_SQUARES", "paper,-extended"])
def test_extended_can_be_taken_out_again(setting: str) -> None:
    assert read_vocabulary(setting).ops == PAPER.ops


def test_a_single_op_beyond_the_paper_can_be_named() -> None:
    assert read_vocabulary("paper,LEAST_SQUARES").ops == read_vocabulary("extended").ops


def test_a_vocabulary_without_ops_is_refused() -> None:
    with pytest.raises(UsageError, match="leaves no op"):
        read_vocabulary("extended,-paper,-extended")


@pytest.mark.parametrize("edit", [mutate, mutate_live])
def test_mutations_draw_least_squares_from_the_extended_vocabulary_alone(edit: Any, rng: np.random.Generator) -> None:
    extended = read_vocabulary("extended")
    drawn = {
        vocabulary: {
            instruction.op
            for _ in range(400)
            for subprogram in edit(library.TRANSFORMER, rng, vocabulary)[0].subprograms
            for instruction in subprogram.instructions
        }
        for vocabulary in (PAPER, extended)
    }
    assert "LEAST_SQUARES" in drawn[extended]
    assert "LEAST_SQUARES" not in drawn[PAPER]
