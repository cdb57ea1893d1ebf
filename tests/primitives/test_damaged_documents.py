"""Random, mutated and damaged documents are read or refused; nothing else happens, and memory has a bound."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from primer_search.benchmarks.damaged_programs import KINDS, document, outcome
from primer_search.primitives import MalformedProgramError
from primer_search.primitives.programs.program_json import LARGEST_TEXT, dna_from_json


@pytest.mark.parametrize("kind", KINDS)
def test_every_document_is_read_or_refused_with_a_documented_error(kind: str, rng: np.random.Generator) -> None:
    outcomes = {outcome(document(kind, rng)) for _ in range(400)}
    assert "valid" in outcomes or kind == "mutated"
    assert ("malformed" in outcomes) == (kind != "random")


BOMBS = {"lists": "[],", "objects": '{"a":0},', "lists of one": "[0],", "numbers": "0.5,", "texts": '"ab",'}


@pytest.mark.parametrize("bomb", BOMBS)
def test_the_largest_text_that_is_read_needs_less_than_64_mib(bomb: str) -> None:
    part = BOMBS[bomb]
    text = f"[{part * ((LARGEST_TEXT - 10) // len(part))}0]"
    tracemalloc.start()
    try:
        with pytest.raises(MalformedProgramError, match="the DNA is"):
            dna_from_json(text)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_a_larger_text_is_refused_before_it_is_parsed() -> None:
    text = "[" * (LARGEST_TEXT + 1)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedProgramError, match="has more than 2 MiB"):
            dna_from_json(text)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
