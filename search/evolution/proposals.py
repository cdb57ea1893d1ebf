"""Proposals: mutate a parent until the child is valid and new (Primer, section 2).

A mutation that makes the program invalid is undone. A mutation that does not change the function, or that makes the
program equal to a known one, is kept, and the child is mutated again. So silent mutations accumulate (our choice);
otherwise an inserted instruction could never be read. If `limit` mutations give no new program, the child becomes a
duplicate of the known program that it equals.

    mutate -> language (kinds, widths) -> parameters -> structure known? -> proved causal -> function known?
           -> probed: finite, causal
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...models.config import ModelConfig
from ...models.parameter_range import fitted_unit, parameters_at
from ...primitives import DNA, Graph, InvalidProgramError, build_graph
from ...primitives.causality.causality_proof import prove_causal
from ...primitives.causality.causality_test import probe_block
from ...primitives.graphs.fingerprint import fingerprint
from ...primitives.programs.liveness import same_live_code
from .candidate import Candidate
from .edit_kinds import edit_kind
from .paper_mutations import Mutation, mutate

__all__ = ["CandidateRules", "Identity", "Proposal", "SeenPrograms", "identify", "propose"]


@dataclass(slots=True)
class SeenPrograms:
    """Known programs, which need no training: candidate ids by structure hash and by fingerprint."""

    structures: dict[str, int] = field(default_factory=dict)
    functions: dict[str, int] = field(default_factory=dict)

    def add(self, candidate_id: int, structure_hash: str, function: str | None) -> None:
        """Record a candidate, unless an equal one is recorded already."""
        self.structures.setdefault(structure_hash, candidate_id)
        if function is not None:
            self.functions.setdefault(function, candidate_id)


@dataclass(frozen=True, slots=True)
class CandidateRules:
    """Requirements that every candidate must meet.

    Attributes:
        model: language model that the block is stacked into.
        max_parameters: largest number of parameters of the whole model; with `model.parameter_range`, programs outside
            the range are resized instead.
    """

    model: ModelConfig
    max_parameters: int

    @staticmethod
    def for_baseline(baseline: DNA, model: ModelConfig) -> CandidateRules:
        """Return the rules of a run; the cap is a multiple of the baseline's parameters."""
        graph = build_graph(baseline, length_dependent=model.length_dependent)
        return CandidateRules(model, int(model.most_parameters(parameters_at(graph, model, model.unit))))

    def build_graph(self, dna: DNA) -> Graph:
        """Return the canonical graph of a program, if it fits the model (see `fit`)."""
        return self.fit(dna)[0]

    def fit(self, dna: DNA) -> tuple[Graph, int | None]:
        """Return the canonical graph of a program, and the unit that it is trained at (None: the configured unit).

        Raises:
            InvalidProgramError: kinds or widths do not match, the program depends on the length, or the model has too
                many parameters. If programs are resized, the last means: at every unit.
        """
        graph = build_graph(dna, length_dependent=self.model.length_dependent)
        unit = fitted_unit(graph, self.model)
        if unit is not None:
            return graph, unit
        parameters = parameters_at(graph, self.model, self.model.unit)
        if parameters > self.max_parameters:
            message = f"the model would have {parameters:,} parameters, over the cap of {self.max_parameters:,}"
            raise InvalidProgramError("parameters", message)
        return graph, None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposed child.

    Attributes:
        dna: program.
        mutations: descriptions of the edits of the parent.
        structure_hash: hash of the canonical graph.
        function: fingerprint of the program; None if it has none.
        same_as: known candidate that the program equals, if no mutation gave a new program; None for a new program.
        statistics: number of tried mutations by result.
        kinds: numbers of mutations that were tried, invalid, known and new, by kind of edit.
        edits: edits of the program (see `edit_model`); None: the edits of the parent, and a new one.
        merged_with: second parent of a merge; None for other children.
        unit: unit of width that it is trained at; None: the configured unit.
    """

    dna: DNA
    mutations: tuple[str, ...]
    structure_hash: str
    function: str | None
    same_as: int | None
    statistics: Mapping[str, int]
    edits: tuple[int, ...] | None = None
    merged_with: int | None = None
    unit: int | None = None
    kinds: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity of a valid program among the known ones.

    Attributes:
        structure_hash: hash of the canonical graph.
        function: fingerprint of the program; None if it has none or was not computed.
        same_as: known candidate of the same structure or function; None for a new program.
        same_structure: whether the structure is known.
        unit: unit of width that it is trained at; None: the configured unit.
    """

    structure_hash: str
    function: str | None
    same_as: int | None
    same_structure: bool
    unit: int | None


def identify(dna: DNA, rules: CandidateRules, known: SeenPrograms, structure_only: bool = False) -> Identity:
    """Check a program, and compare it with the known ones. Known programs are not probed.

    Args:
        dna: well-formed program.
        rules: requirements of a candidate.
        known: programs that need no training.
        structure_only: whether to compare structures only, without the proof, the fingerprint and the causality test.

    Raises:
        InvalidProgramError: the program does not fit the model, is not causal, or computes values that are not finite.
    """
    graph, unit = rules.fit(dna)
    structure = graph.structure_hash
    if structure in known.structures:
        return Identity(structure, None, known.structures[structure], True, unit)
    if structure_only:
        return Identity(structure, None, None, False, unit)
    prove_causal(graph)
    function = fingerprint(graph)
    if function is not None and function in known.functions:
        return Identity(structure, function, known.functions[function], False, unit)
    probe_block(graph)
    return Identity(structure, function, None, False, unit)


def propose(
    parent: Candidate,
    rng: np.random.Generator,
    rules: CandidateRules,
    known: SeenPrograms,
    limit: int,
    mutation: Mutation = mutate,
    accumulate: bool = True,
    structure_only: bool = False,
) -> Proposal:
    """Mutate `parent` until the child is valid and new, at most `limit` times.

    Args:
        parent: candidate to mutate.
        rng: random generator of the child.
        rules: requirements of a child.
        known: programs that need no training.
        limit: largest number of mutations to try.
        mutation: function that applies one mutation.
        accumulate: whether a child that is valid but known is mutated again; if False, the parent is.
        structure_only: whether to judge children by their structure only (see `identify`).
    """
    outcomes: Counter[str] = Counter()
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    child, mutations, own = parent.dna, (), parent.structure_hash
    identity = Identity(own, None, known.structures.get(own), True, parent.unit)
    for _ in range(limit):
        outcomes["mutations"] += 1
        mutant, description = mutation(child if accumulate else parent.dna, rng)
        of_kind = kinds[edit_kind(description)]
        of_kind["tried"] += 1
        # After a silent mutation of a known program, no graph is built. A third of the paper's mutations are silent.
        if not (accumulate and identity.same_as is not None and same_live_code(child, mutant)):
            try:
                identity = identify(mutant, rules, known, structure_only)
            except InvalidProgramError as error:
                outcomes[f"invalid_{error.reason}"] += 1
                of_kind["invalid"] += 1
                continue
        of_kind["known" if identity.same_as is not None else "new"] += 1
        child, mutations = mutant, (*mutations, description) if accumulate else (description,)
        if identity.same_as is None:
            break
        known_by = "same_structure" if identity.same_structure else "same_function"
        outcomes["unchanged" if identity.structure_hash == own else known_by] += 1
    structure, function, unit = identity.structure_hash, identity.function, identity.unit
    return Proposal(child, mutations, structure, function, identity.same_as, outcomes, unit=unit, kinds=kinds)
