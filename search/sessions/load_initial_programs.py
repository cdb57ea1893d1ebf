"""Initial programs of a search, named by `--init` and checked before the search starts.

They must pass the same checks as children: kinds, widths, length dependence, parameter cap, causality and finiteness.
Programs that compute the same function count as one. `evolution.initial_programs` describes their use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...models.config import ModelConfig
from ...primitives import DNA, InvalidProgramError, UsageError
from ...primitives.causality.causality_test import check_causality
from ...primitives.graphs.fingerprint import fingerprint
from ..config import RunConfig
from ..evolution.candidate import BASELINE_ID
from ..evolution.initial_programs import InitialProgram
from ..evolution.proposals import CandidateRules, SeenPrograms
from ..results.program_reference import NamedProgram, named_program

__all__ = ["load_initial_programs"]


def load_initial_programs(
    named: Sequence[str], config: RunConfig
) -> tuple[tuple[InitialProgram, ...], tuple[str, ...]]:
    """Return the initial programs that a user names, and messages about them.

    Args:
        named: names that `named_program` accepts.
        config: run configuration.

    Raises:
        UsageError: a program does not exist or is not valid with this configuration, the population is too small for
            all of them, or the strategy does not use initial programs.
    """
    if not named:
        return (), ()
    search, unit = config.search, config.model.unit
    if search.strategy == "random-init":
        raise UsageError(
            "--init has no effect with the strategy random-init, which draws its programs at random: "
            "leave it out, or use the strategy evolution or random"
        )
    checker = _Checker(config)
    initial_programs: list[InitialProgram] = []
    notes: list[str] = []
    for text in named:
        subject = _subject(text, config.model)
        number, dna = checker.admit(text, subject.dna)
        if earlier := next((each for each in initial_programs if each.candidate_id == number), None):
            notes.append(f"--init {text} computes the same function as {earlier.origin}, so both count as one program")
            continue
        initial_programs.append(InitialProgram(number, _origin(text, subject), dna))
        if number == BASELINE_ID and text != search.baseline:
            notes.append(
                f"--init {text} computes the same function as the baseline {search.baseline}, which is used instead"
            )
        elif subject.unit not in (None, unit):
            notes.append(
                f"--init {text} was found at unit {subject.unit} and is trained at unit {unit}: its constants, "
                "including the query scale, are not adjusted"
            )
    if len(initial_programs) > search.population:
        raise UsageError(
            f"{len(initial_programs)} programs of --init do not fit into search.population = {search.population}: "
            f"name fewer, or add --set search.population={len(initial_programs)}"
        )
    return tuple(initial_programs), tuple(notes)


class _Checker:
    """Checks initial programs as a search checks children, and numbers them."""

    def __init__(self, config: RunConfig):
        model, name = config.model, config.search.baseline
        self.baseline = model.library_program(name)
        self.length_dependent = model.length_dependent or self.baseline.length_dependent
        try:
            self.rules = CandidateRules.for_baseline(self.baseline, model)
            graph = self.rules.build_graph(self.baseline)
        except InvalidProgramError as error:
            raise UsageError(f"search.baseline = {name} cannot be trained with these settings: {error}") from None
        self.known = SeenPrograms()
        self.known.add(BASELINE_ID, graph.structure_hash, fingerprint(graph))
        self.admitted = 0

    def admit(self, text: str, dna: DNA) -> tuple[int, DNA]:
        """Return the id and the program; for a program with a known function, the id of the earlier one."""
        if not self.length_dependent:
            dna = replace(dna, length_dependent=False)  # otherwise its children could depend on the length
        try:
            graph = self.rules.build_graph(dna)
            check_causality(graph)
        except InvalidProgramError as error:
            remedy = _REMEDIES.get(error.reason, "a search does not accept such a program")
            raise UsageError(f"--init {text} is refused: {str(error).rstrip('.')}; {remedy}") from None
        function = fingerprint(graph)
        number = self.known.structures.get(graph.structure_hash)
        if number is None and function is not None:
            number = self.known.functions.get(function)
        if number is not None:
            return number, self.baseline if number == BASELINE_ID else dna
        self.admitted += 1
        self.known.add(self.admitted, graph.structure_hash, function)
        return self.admitted, dna


_REMEDIES = {
    "length_dependent": "add --set model.length_dependent=true",
    "widths": "choose another --set model.unit",
    "parameters": "raise --set model.parameter_cap (or the end of model.parameter_range), or choose a larger "
    "--set search.baseline",
}
"""Remedy for each reason of refusal."""


def _subject(text: str, model: ModelConfig) -> NamedProgram:
    try:
        return named_program(text, model)
    except UsageError as error:
        said = f"--init {text}: {error}" if text else f"--init: {error}"
        if text.isdecimal():
            said = f"{said.rstrip('.')}; for the random seed, use --seed {text}"
        raise UsageError(said) from None


def _origin(text: str, subject: NamedProgram) -> str:
    """Return the name of a library program or candidate, or the path of a file as the user typed it."""
    if text == "-":
        return "standard input"
    return text if Path(text).stem == subject.name else subject.name
