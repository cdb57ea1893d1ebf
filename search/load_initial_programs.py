"""Who may found a search: the programs that `--init` names, checked before anything starts.

They pass what children pass (kinds, widths, length dependence, parameter cap, causality, finiteness), with the cap of
the baseline; those of one function count once. See `initial programs` for what becomes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..primitives import DNA, InvalidProgramError, UsageError
from ..primitives.causality_test import check_causality
from ..primitives.fingerprint import fingerprint
from ..primitives.library import get
from .config import RunConfig
from .evolution.candidate import BASELINE_ID
from .evolution.initial_programs import InitialProgram
from .evolution.proposals import CandidateRules, SeenPrograms
from .results.program_reference import NamedProgram, named_program

__all__ = ["load_initial_programs"]


def load_initial_programs(
    named: Sequence[str], config: RunConfig
) -> tuple[tuple[InitialProgram, ...], tuple[str, ...]]:
    """The initial programs a user names, and sentences on what became of them; those of one function count once.

    Args:
        named: what `named_program` understands.
        config: of the run.

    Raises:
        UsageError: one of them is no program, or none that this configuration takes; there are more of them than the
            population holds, or the strategy has no use for them.
    """
    if not named:
        return (), ()
    search, unit = config.search, config.model.unit
    if search.strategy == "random-init":
        raise UsageError(
            "--init has no effect with the strategy random-init, whose programs have no parents: "
            "leave it out, or use the strategy evolution or random."
        )
    gate = _Gate(config)
    initial_programs: list[InitialProgram] = []
    notes: list[str] = []
    for text in named:
        subject = _subject(text, unit)
        number, dna = gate.admit(text, subject.dna)
        if twin := next((each for each in initial_programs if each.candidate_id == number), None):
            notes.append(f"--init {text} computes the same as {twin.origin}: the two count once.")
            continue
        initial_programs.append(InitialProgram(number, _origin(text, subject), dna))
        if number == BASELINE_ID and text != search.baseline:
            notes.append(f"--init {text} computes the same as the baseline {search.baseline}, which stands in.")
        elif subject.unit not in (None, unit):
            notes.append(
                f"--init {text} was found at unit {subject.unit} and is trained at unit {unit}: its constants, the "
                "scale of its queries among them, stay those it was found with."
            )
    if len(initial_programs) > search.population:
        raise UsageError(
            f"{len(initial_programs)} --init do not fit into search.population = {search.population}: "
            f"name fewer, or add --set search.population={len(initial_programs)}."
        )
    return tuple(initial_programs), tuple(notes)


class _Gate:
    """What every program must pass to found a search: the checks that children pass, and the number it gets."""

    def __init__(self, config: RunConfig):
        model, name = config.model, config.search.baseline
        self.baseline = get(name, model.unit)
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
        """The number of a program, which is that of an earlier one if it computes the same, and the program."""
        if not self.length_dependent:
            dna = replace(dna, length_dependent=False)  # its own leave to be so, which its children would inherit
        try:
            graph = self.rules.build_graph(dna)
            check_causality(graph)
        except InvalidProgramError as error:
            remedy = _REMEDIES.get(error.reason, "no search takes such a program")
            raise UsageError(f"--init {text} is refused: {str(error).rstrip('.')}; {remedy}.") from None
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
    "parameters": "raise --set model.parameter_cap, or choose a larger --set search.baseline",
}
"""What helps a program that is refused, by reason."""


def _subject(text: str, unit: int) -> NamedProgram:
    try:
        return named_program(text, unit)
    except UsageError as error:
        said = f"--init {text}: {error}" if text else f"--init: {error}"
        if text.isdecimal():
            said = f"{said.rstrip('.')}; the source of randomness is --seed {text}"
        raise UsageError(said) from None


def _origin(text: str, subject: NamedProgram) -> str:
    """Library programs and candidates go by their names, files by what the user typed, folders included."""
    if text == "-":
        return "standard input"
    return text if Path(text).stem == subject.name else subject.name
