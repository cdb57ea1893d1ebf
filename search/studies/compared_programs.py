"""Programs of a comparison: those that the user names, and the width that each is trained at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Literal

from ...models.config import ModelConfig
from ...models.cost import model_cost
from ...models.parameter_range import fitted_unit
from ...primitives import DNA, InvalidProgramError, UsageError, build_graph
from ...primitives.programs.program_json import dna_to_json
from ..config import RunConfig
from ..results.program_reference import NamedProgram, named_program
from .study_log import json_hash

__all__ = ["Match", "folder_name", "matched_units", "named_programs"]

Match = Literal["params", "flops"]
"""Cost that is made equal: parameters of the whole model, or FLOPs of its forward pass per token."""


def named_programs(named: Sequence[str], baseline: str, model: ModelConfig) -> list[NamedProgram]:
    """Return the programs that a user names, the baseline first; a program named twice is returned once.

    Args:
        named: names of the library, `RUN:ID` (a number, `best` or `baseline`), or DNA files.
        baseline: name of the baseline, in the same form.
        model: configuration, for the width and the heads of library programs.

    Raises:
        UsageError: a program does not exist, two programs have the same name, or there is only one.
    """
    programs: dict[str, NamedProgram] = {}
    for text in dict.fromkeys((baseline, *named)):
        program = named_program(text, model)
        known = programs.setdefault(program.name, program)
        if known.dna != program.dna:
            raise UsageError(f"two different programs are named {program.name}: rename one of the files")
    if len(programs) < 2:
        raise UsageError(f"{next(iter(programs))} is the only program: name at least one other to compare it with")
    return list(programs.values())


def matched_units(
    programs: Sequence[NamedProgram], model: ModelConfig, match: Match | None
) -> tuple[list[int], list[str]]:
    """Return the unit of width that each program is trained at, and notes for the reader.

    Args:
        programs: programs, the baseline first.
        model: configuration of the model.
        match: cost that is made as near as a whole unit allows to the baseline's at the configured unit; None: the
            configured unit, or the unit that brings the program into `model.parameter_range`.

    Raises:
        UsageError: a program is invalid at its width.
    """
    notes: list[str] = []
    if match is None:
        units = [_fitted_unit(program, model) for program in programs]
    else:
        goal = _cost_or_refuse(programs[0], model)[match]
        units = [model.unit, *(_nearest_unit(program, model, match, goal) for program in programs[1:])]
        for program, unit in zip(programs[1:], units[1:], strict=True):
            ratio = model_cost(program.at(unit), model, unit)[match] / goal
            words = "parameters" if match == "params" else "FLOPs per token"
            notes.append(f"{program.name} is trained at unit {unit}, with {ratio:.3f} times the baseline's {words}.")
    for program, unit in zip(programs, units, strict=True):
        _cost_or_refuse(program, replace(model, unit=unit))
        if program.unit not in (None, unit):
            notes.append(
                f"{program.name} was made for unit {program.unit} and is trained at unit {unit}; of its "
                "constants, only a query scale of 1 / sqrt(head width) follows the width."
            )
    return units, notes


def folder_name(names: Sequence[str], config: RunConfig, programs: Sequence[DNA]) -> str:
    """Return a folder's name that depends on the programs and on every setting of their trainings."""
    safe = "-".join("".join(sign if sign.isalnum() else "_" for sign in name) for name in names)
    settings = [asdict(section) for section in (config.model, config.trial, config.optimizer, config.data)]
    content = json_hash({"settings": settings, "dna": [dna_to_json(dna) for dna in programs]})
    return f"{safe[:80]}-{content[:6]}"


def _nearest_unit(program: NamedProgram, model: ModelConfig, match: Match, goal: float) -> int:
    distances: dict[int, float] = {}
    for unit in range(1, 4 * model.unit + 1):
        try:
            distances[unit] = abs(math.log(model_cost(program.at(unit), model, unit)[match] / goal))
        except InvalidProgramError:
            continue  # the width is not divisible by the program's branches
    if not distances:
        raise UsageError(f"{program.name} is invalid at every unit of width up to {4 * model.unit}: leave out --match")
    return min(distances, key=lambda unit: (distances[unit], unit))


def _fitted_unit(program: NamedProgram, model: ModelConfig) -> int:
    graph = build_graph(program.at(model.unit), length_dependent=True)
    try:
        return fitted_unit(graph, model) or model.unit
    except InvalidProgramError as error:
        raise UsageError(f"{program.name} cannot be trained: {error}") from None


def _cost_or_refuse(program: NamedProgram, model: ModelConfig) -> dict[str, float]:
    try:
        return model_cost(program.at(model.unit), model, model.unit)
    except InvalidProgramError as error:
        raise UsageError(f"{program.name} cannot be trained at model.unit = {model.unit}: {error}") from None
