"""The programs of a comparison: all that were named, and the width each is trained at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ...models.config import ModelConfig
from ...models.cost import model_cost
from ...primitives import InvalidProgramError, UsageError
from ..results.program_reference import NamedProgram, named_program

__all__ = ["MATCHES", "matched_units", "named_programs"]

MATCHES = ("params", "flops")
"""What `match` can make equal: parameters of the whole model, or forward operations per token."""


def named_programs(named: Sequence[str], baseline: str, unit: int) -> list[NamedProgram]:
    """The subjects a user names, the baseline first; one that is named twice counts once.

    Args:
        named: names of the library, `RUN:ID` (a number, `best` or `baseline`), or files of DNA.
        baseline: one more of these.
        unit: of the configuration.

    Raises:
        UsageError: one of them is none of these.
    """
    subjects: dict[str, NamedProgram] = {}
    for text in dict.fromkeys((baseline, *named)):
        subject = named_program(text, unit)
        known = subjects.setdefault(subject.name, subject)
        if known.dna != subject.dna:
            raise UsageError(f"two different programs are named {subject.name}: rename one of the files.")
    if len(subjects) < 2:
        raise UsageError(f"there is only {next(iter(subjects))} to compare: name at least one other program.")
    return list(subjects.values())


def matched_units(
    subjects: Sequence[NamedProgram], model: ModelConfig, match: str | None
) -> tuple[list[int], list[str]]:
    """The unit of width each subject is trained at, and sentences on what that makes of it.

    Args:
        subjects: the first is the baseline, which keeps the configured unit.
        model: the configuration.
        match: one of `MATCHES`, brought as near to the baseline's as a whole unit allows; None leaves all at its unit.

    Raises:
        UsageError: a subject does not exist at such a width.
    """
    notes: list[str] = []
    if match is None:
        units = [model.unit for _ in subjects]
    else:
        goal = _cost_or_refuse(subjects[0], model)[match]
        units = [model.unit, *(_nearest_unit(subject, model, match, goal) for subject in subjects[1:])]
        for subject, unit in zip(subjects[1:], units[1:], strict=True):
            ratio = model_cost(subject.at(unit), model, unit)[match] / goal
            words = "parameters" if match == "params" else "FLOPs per token"
            notes.append(f"{subject.name} is trained at unit {unit}, with {ratio:.3f} times the baseline's {words}.")
    for subject, unit in zip(subjects, units, strict=True):
        _cost_or_refuse(subject, replace(model, unit=unit))
        if subject.unit not in (None, unit):
            notes.append(
                f"{subject.name} was made for unit {subject.unit} and is trained at unit {unit}: its constants, the "
                "scale of its queries among them, stay those it was made with."
            )
    return units, notes


def _nearest_unit(subject: NamedProgram, model: ModelConfig, match: str, goal: float) -> int:
    distances: dict[int, float] = {}
    for unit in range(1, 4 * model.unit + 1):
        try:
            distances[unit] = abs(math.log(model_cost(subject.at(unit), model, unit)[match] / goal))
        except InvalidProgramError:
            continue  # some widths do not divide by the program's branches
    if not distances:
        raise UsageError(f"{subject.name} exists at no unit of width up to {4 * model.unit}: leave out --match.")
    return min(distances, key=lambda unit: (distances[unit], unit))


def _cost_or_refuse(subject: NamedProgram, model: ModelConfig) -> dict[str, float]:
    try:
        return model_cost(subject.at(model.unit), model, model.unit)
    except InvalidProgramError as error:
        raise UsageError(f"{subject.name} cannot be trained at model.unit = {model.unit}: {error}") from None
