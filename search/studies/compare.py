"""Comparison of programs: several repeats of each, paired with a baseline, and what the differences show.

Programs come from the library, from runs, or from DNA files. `match` chooses each program's unit of width so that its
cost equals the baseline's, and `sweep` chooses its learning rate, so that neither of them decides the comparison. Final
results are scored once on the test split. Curves, speedup factors and the choice of learning rates use the validation
split.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...primitives.programs.program_json import dna_to_json
from ..config import RunConfig
from ..results.program_reference import NamedProgram
from ..results.statistics import paired_differences
from ..runs.provenance import command_line, versions
from .compared_programs import Match, folder_name, matched_units
from .comparison_result import Comparison, comparison_notes, comparison_row
from .study import QUIET, Study, StudyOptions
from .study_queue import Arm, format_devices, losses_by_arm

__all__ = ["compare", "curve_points", "default_folder"]

POINTS = 12
"""Number of points of a curve, including the end of training."""

FIRST_POINT = 0.04
"""Position of the first point, as a part of the budget."""


def curve_points(config: RunConfig) -> tuple[float, ...]:
    """Return the points of the budget at which curves are measured, evenly spaced in log(budget), without the end."""
    budget = config.trial.budget
    points = [budget * FIRST_POINT ** (1 - number / (POINTS - 1)) for number in range(POINTS - 1)]
    if config.trial.unit == "steps":
        points = sorted({float(math.ceil(point)) for point in points} - {budget})
    return tuple(points)


def default_folder(config: RunConfig, programs: Sequence[NamedProgram]) -> Path:
    """Return the output folder of a comparison, in which a repeated command resumes."""
    names = [program.name for program in programs[1:4]] + (["etc"] if len(programs) > 4 else [])
    return Path("comparisons") / folder_name(names, config, [program.dna for program in programs])


def compare(
    config: RunConfig,
    programs: Sequence[NamedProgram],
    options: StudyOptions = QUIET,
    *,
    seeds: Sequence[int],
    log: Path | None,
    sweep: int = 1,
    match: Match | None = None,
) -> Comparison:
    """Train all programs with all random seeds, and compare them with the first.

    Args:
        config: configuration of every training.
        programs: programs to compare, the baseline first.
        options: options of the study.
        seeds: random seeds of the trainings.
        log: path of the log of finished trainings, from which an interrupted comparison resumes.
        sweep: number of learning rates tried for each program, spaced by factors of two around the configured one; the
            validation loss with the first seed decides.
        match: cost that is made as near to the baseline's as a whole unit of width allows; None: as in `matched_units`.

    Raises:
        UsageError, WorkFailedError, Interrupted: as in `Study`.
    """
    programs, duplicates = _distinct(programs)
    units, width_notes = matched_units(programs, config.model, match)
    arms = [
        Arm(program.name, program.at(unit), unit=None if unit == config.model.unit else unit)
        for program, unit in zip(programs, units, strict=True)
    ]
    with Study(config, arms[0].dna, log, options, points=curve_points(config)) as study:
        factors = [2.0 ** (number - (sweep - 1) // 2) for number in range(sweep)]
        tried = _sweep_learning_rates(study, arms, factors, seeds[0]) if sweep > 1 else {}
        best = [_best_factor(tried.get(arm.name, ())) for arm in arms]
        arms = [replace(arm, learning_rate_factor=factor) for arm, factor in zip(arms, best, strict=True)]
        trainings = study.train(arms, seeds)
        allowance, dataset_hash = study.allowance_seconds, study.dataset_hash
    edges = {arm.name for arm in arms if sweep > 2 and arm.learning_rate_factor in (factors[0], factors[-1])}
    differences = paired_differences(losses_by_arm(trainings), arms[0].name)
    rows = tuple(comparison_row(arm, trainings, arms[0], differences, config, arm.name in edges) for arm in arms)
    return Comparison(
        rows,
        arms[0].name,
        tuple(seeds),
        config,
        dataset_hash,
        format_devices(trainings),
        versions(),
        allowance,
        tried,
        (*duplicates, *width_notes, *comparison_notes(rows, trainings, tried, seeds)),
        tuple(trainings),
        command_line(),
    )


def _distinct(programs: Sequence[NamedProgram]) -> tuple[list[NamedProgram], list[str]]:
    """Return each program once, and notes. Duplicates would share their trainings, as if there were no noise."""
    kept: dict[str, NamedProgram] = {}
    notes = []
    for program in programs:
        first = kept.setdefault(dna_to_json(program.dna), program)
        if first is not program:
            notes.append(f"{program.name} is the same program as {first.name}, and is trained under that name.")
    return list(kept.values()), notes


def _sweep_learning_rates(
    study: Study, arms: Sequence[Arm], factors: Sequence[float], seed: int
) -> dict[str, tuple[tuple[float, float | None], ...]]:
    variants = [replace(arm, learning_rate_factor=factor) for arm in arms for factor in factors]
    losses: dict[str, list[tuple[float, float | None]]] = {arm.name: [] for arm in arms}
    for training in study.train(variants, [seed]):
        losses[training.arm.name].append((training.arm.learning_rate_factor, training.evaluation.loss_nats))
    return {name: tuple(tried) for name, tried in losses.items()}


def _best_factor(tried: Sequence[tuple[float, float | None]]) -> float:
    """Return the factor with the lowest loss; of equal losses, the factor nearest to 1."""
    finished = [(loss, abs(math.log2(factor)), factor) for factor, loss in tried if loss is not None]
    return min(finished)[2] if finished else 1.0
