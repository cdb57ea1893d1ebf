"""From a parent to a child worth training: mutate until the program is valid and new (Primer, section 2).

A mutation that makes the program invalid is taken back; one that leaves it as it was, or makes it something known,
stays, and the child mutates again: silent mutations accumulate (our choice), or an inserted instruction could never
come to be read. After `limit` mutations the child is a new individual of the program it equals.

    mutate -> language (kinds, widths) -> parameter cap -> structure known? -> proved causal -> function known?
           -> probed: finite, causal
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...models.config import ModelConfig
from ...primitives import DNA, Graph, InvalidProgramError, build_graph
from ...primitives.causality_proof import prove_causal
from ...primitives.causality_test import probe_block
from ...primitives.cost import model_parameters
from ...primitives.fingerprint import fingerprint
from ...primitives.parameters import parameter_count
from .mutations import mutate

__all__ = ["CandidateRules", "Proposal", "SeenPrograms", "propose"]


@dataclass(slots=True)
class SeenPrograms:
    """Programs that need no training: candidate numbers by structure and by function."""

    structures: dict[str, int] = field(default_factory=dict)
    functions: dict[str, int] = field(default_factory=dict)

    def add(self, candidate_id: int, structure_hash: str, function: str | None) -> None:
        """Remember a candidate; the first of equals stays."""
        self.structures.setdefault(structure_hash, candidate_id)
        if function is not None:
            self.functions.setdefault(function, candidate_id)


@dataclass(frozen=True, slots=True)
class CandidateRules:
    """What every candidate must obey.

    Attributes:
        model: the language model it is stacked into.
        largest: most parameters the whole model may have.
    """

    model: ModelConfig
    largest: int

    @staticmethod
    def for_baseline(baseline: DNA, model: ModelConfig) -> CandidateRules:
        """The cap counts in multiples of the baseline's parameters."""
        rules = CandidateRules(model, 0)
        parameters = rules.parameters(build_graph(baseline, length_dependent=model.length_dependent))
        return CandidateRules(model, int(parameters * model.parameter_cap))

    def parameters(self, graph: Graph) -> int:
        """Learned scalars of the whole model with this block."""
        model = self.model
        block = parameter_count(graph, model.unit, model.length)
        return model_parameters(block, model.unit, model.layers, model.vocabulary)

    def graph_of(self, dna: DNA) -> Graph:
        """The canonical graph of a program that fits the model.

        Raises:
            InvalidProgramError: kinds, widths, length dependence, or too many parameters.
        """
        graph = build_graph(dna, length_dependent=self.model.length_dependent)
        parameters = self.parameters(graph)
        if parameters > self.largest:
            message = f"the model would have {parameters:,} parameters, over the cap of {self.largest:,}"
            raise InvalidProgramError("parameters", message)
        return graph


@dataclass(frozen=True, slots=True)
class Proposal:
    """A child.

    Attributes:
        dna: the program.
        mutations: what was done to the parent, in words.
        structure_hash, function: its identity; `function` is its fingerprint.
        same_as: the known candidate it equals, if every attempt to make something new failed.
        statistics: outcome counts of the mutations tried.
    """

    dna: DNA
    mutations: tuple[str, ...]
    structure_hash: str
    function: str | None
    same_as: int | None
    statistics: Mapping[str, int]


def propose(
    parent: DNA, parent_hash: str, rng: np.random.Generator, rules: CandidateRules, known: SeenPrograms, limit: int
) -> Proposal:
    """Mutate `parent` until the child is valid and new, at most `limit` times.

    Args:
        parent: a valid program; parent_hash: its structure.
        rng: the child's own generator.
        rules: what a child must obey.
        known: what need not be trained.
        limit: most mutations to try.
    """
    outcomes: Counter[str] = Counter()
    child, mutations, structure, same_as = parent, (), parent_hash, known.structures.get(parent_hash)
    function: str | None = None
    for _ in range(limit):
        outcomes["mutations"] += 1
        mutant, sentence = mutate(child, rng)
        try:
            graph = rules.graph_of(mutant)
            new_structure = graph.structure_hash not in known.structures
            function = _function(graph, known) if new_structure else None
        except InvalidProgramError as error:
            outcomes[f"invalid_{error.reason}"] += 1
            continue
        child, mutations, structure = mutant, (*mutations, sentence), graph.structure_hash
        if not new_structure:
            same_as = known.structures[structure]
            outcomes["unchanged" if structure == parent_hash else "same_structure"] += 1
            continue
        if function is not None and function in known.functions:
            same_as = known.functions[function]
            outcomes["same_function"] += 1
            continue
        return Proposal(child, mutations, structure, function, None, outcomes)
    return Proposal(child, mutations, structure, function, same_as, outcomes)


def _function(graph: Graph, known: SeenPrograms) -> str | None:
    """The fingerprint of a graph of new structure, which is checked unless its function was checked before.

    Raises:
        InvalidProgramError: it is not causal, or not finite.
    """
    prove_causal(graph)
    function = fingerprint(graph)
    if function is None or function not in known.functions:
        probe_block(graph)
    return function
