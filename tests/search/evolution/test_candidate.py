"""The candidates of a search come back as they were added, and few of them are kept as objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np

from primer_search.primitives.programs import library
from primer_search.search.evolution.candidate import Candidate, Candidates
from primer_search.search.evolution.paper_mutations import mutate


def children(number: int) -> Iterator[Candidate]:
    rng = np.random.default_rng(0)
    for candidate_id in range(number):
        dna, text = mutate(library.PRIMER, rng)
        yield Candidate(candidate_id, dna, candidate_id - 1 if candidate_id else None, (text,), "0" * 64)


def objects() -> int:
    gc.collect()
    return sum(isinstance(each, Candidate) for each in gc.get_objects())


def test_candidates_come_back_as_they_were_added() -> None:
    added, candidates = list(children(400)), Candidates()
    for candidate in added:
        candidates.add(candidate)
    assert [candidates[each.id] for each in added] == added
    assert list(candidates) == list(range(400)) and next(reversed(candidates)) == 399
    assert 400 not in candidates


def test_a_long_search_keeps_few_candidates_as_objects() -> None:
    candidates, before = Candidates(), objects()
    for candidate in children(600):
        candidates.add(candidate)
    assert len(candidates) == 600 and objects() - before < 300
