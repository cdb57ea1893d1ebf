"""Number of mutations that the tape's search draws for each new program; the proposals are drawn once more.

For each child of the tape, mutations of its recorded parent are drawn until one is new, by structure and by function,
compared with the earlier children of the tape. Then the recorded child is added to the known programs instead of the
drawn one, so later proposals have the same known programs as in the recording.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from primer_search.benchmarks.record_tape import SHARES, Entry
from primer_search.configs.load import load
from primer_search.primitives import DNA, InvalidProgramError
from primer_search.primitives.graphs.fingerprint import fingerprint
from primer_search.primitives.programs import library
from primer_search.primitives.programs.program_json import dna_from_json
from primer_search.search.evolution.paper_mutations import Mutation, mutate
from primer_search.search.evolution.proposals import CandidateRules, SeenPrograms, identify
from primer_search.search.guided.live_mutations import mutate_live

__all__ = ["MUTATIONS", "ProposalCounts", "count_proposals"]

MUTATIONS: Mapping[str, Mapping[str, Mutation]] = {
    "the tape's mutations": {"live": mutate_live, "paper": mutate},
    "the paper's mutations": {"live": mutate, "paper": mutate},
}
"""Mutations by kind of child."""

MOST_DRAWS = 200
"""Largest number of mutations drawn for a child."""


@dataclass(frozen=True, slots=True)
class ProposalCounts:
    """Mutations drawn for each child of the tape: arrays [child].

    Attributes:
        invalid: programs that no search can train, or that read the future.
        equal: valid programs that equal the baseline or an earlier child, by structure or by function.
        seconds: CPU seconds of the checks.
    """

    invalid: np.ndarray
    equal: np.ndarray
    seconds: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """Number of valid programs up to and with the new one."""
        return self.equal + 1


def count_proposals(
    entries: Sequence[Entry], heads: int, mutations: Mapping[str, Mutation], rng: np.random.Generator
) -> ProposalCounts:
    """Draw mutations for every child of the tape.

    Args:
        entries: lines of the tape.
        heads: heads of the baseline.
        mutations: mutation by kind of child. A merge is one draw, because the tape does not say how many were tried.
        rng: source of the mutations.
    """
    model = load("laptop").model
    baseline = library.get("TRANSFORMER", model.unit, heads)
    rules = CandidateRules.for_baseline(baseline, model)
    known = SeenPrograms()
    _add(known, baseline, rules)
    programs: dict[str, DNA] = {}
    rows = []
    for entry in (entry for entry in entries if entry.kind in SHARES):
        start = time.process_time()
        parent = programs[entry.parents[0]] if entry.parents else baseline
        draw = mutations.get(entry.kind)
        invalid, equal = _until_new(parent, draw, rules, known, rng) if draw else (0, 0)
        rows.append((invalid, equal, time.process_time() - start))
        programs[entry.name] = dna_from_json(entry.dna)
        _add(known, programs[entry.name], rules)
    invalid, equal, seconds = np.array(rows, float).reshape(-1, 3).T
    return ProposalCounts(invalid, equal, seconds)


def _until_new(
    parent: DNA,
    draw: Callable[[DNA, np.random.Generator], tuple[DNA, str]],
    rules: CandidateRules,
    known: SeenPrograms,
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Return the number of invalid and of equal programs before the first new one."""
    invalid = equal = 0
    while invalid + equal < MOST_DRAWS:
        try:
            if identify(draw(parent, rng)[0], rules, known).same_as is None:
                break
            equal += 1
        except InvalidProgramError:
            invalid += 1
    return invalid, equal


def _add(known: SeenPrograms, dna: DNA, rules: CandidateRules) -> None:
    graph = rules.build_graph(dna)
    known.add(len(known.structures), graph.structure_hash, fingerprint(graph))
