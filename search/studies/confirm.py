"""Confirmation of a run's best candidates: retrain them and the baseline, and score them on test text.

Every program is trained with the same fresh random seeds. The trainings form a study with a log in the run's folder.
Their results are stored as events of the run, which `results/confirmation.py` reads. An interrupted confirmation
resumes where it stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...models.parameter_range import fitted_unit
from ...primitives import InvalidProgramError, UsageError, build_graph
from ...primitives.programs.program_json import dna_from_json
from ..config import RunConfig
from ..evolution.candidate import BASELINE_ID
from ..results.confirmation import Retraining, read_retrainings
from ..results.leaderboard import leaderboard
from ..results.program_reference import named_program
from ..runs.run_settings import load_allowance_seconds, load_config
from ..runs.store import Store
from .confirm_at_scale import (
    Contender,
    add_retrainings,
    baseline_contender,
    check_baseline,
    equal_time_points,
    is_complete,
    log_path,
    retrain_at_scale,
)
from .study import QUIET, Study, StudyOptions

__all__ = ["confirm", "confirm_store", "contenders", "fresh_seeds"]

LOG = "confirmation-{budget:g}.jsonl"
"""Name of the log in the run's folder; each budget has its own."""


def confirm(
    path: Path | str,
    options: StudyOptions = QUIET,
    *,
    config: RunConfig | None = None,
    top: int = 10,
    repeats: int = 3,
    also: Sequence[str] = (),
    scales: Sequence[RunConfig] = (),
) -> None:
    """Retrain the best candidates of a run and score them on test text. No other process may be writing the run.

    Args:
        path: name or path of the run.
        options: options of the study.
        config: configuration of the trainings; None: the run's.
        top: number of candidates to retrain, best first.
        repeats: number of trainings of each program.
        also: other programs to retrain as well: names of the library, `RUN:ID`, or files of DNA.
        scales: configurations of other model sizes; the same programs are retrained at each.

    Raises:
        UsageError: the run does not exist, another process writes it, none of its candidates finished a full trial, or
            a program of `also` does not exist or is invalid at the size of the run.
        Interrupted: Ctrl-C; finished trainings are saved.
    """
    with Store.open(path) as store:
        config = config or load_config(store)
        confirm_store(store, config, options, top=top, repeats=repeats, also=also, scales=scales)


def confirm_store(
    store: Store,
    config: RunConfig,
    options: StudyOptions,
    *,
    top: int,
    repeats: int,
    also: Sequence[str] = (),
    scales: Sequence[RunConfig] = (),
) -> None:
    """Do the work of `confirm` on an open run, with the same arguments.

    If a worker is lost, its training is not stored, and the next call repeats it.
    """
    programs = contenders(store, config, _best_candidates(store, top), also)
    check_baseline(programs[0], config, scales)
    seeds = fresh_seeds(store.manifest["seed"], repeats)
    budget, allowance_seconds = config.trial.budget, load_allowance_seconds(store)
    with Study(
        config,
        programs[0].dna,
        log_path(store, LOG.format(budget=budget), config),
        options,
        points=equal_time_points(config),
        run=store.manifest,
        allowance_seconds=allowance_seconds,
    ) as study:
        trainings = study.train([each.arm(config.model, config.model.unit) for each in programs], seeds)
    ids = {each.name: each.candidate_id for each in programs}
    add_retrainings(
        store,
        "confirmed",
        [Retraining(one.arm.name, ids[one.arm.name], one.seed, budget, one.evaluation) for one in trainings],
        {
            (each.name, each.seed)
            for each in read_retrainings(store.events())
            if each.budget == budget and is_complete(each, config)
        },
        details={},
    )
    for scale in scales:
        retrain_at_scale(store, config, scale, programs, seeds, options, allowance_seconds=allowance_seconds)


def contenders(store: Store, config: RunConfig, candidates: Sequence[int], also: Sequence[str] = ()) -> list[Contender]:
    """Return the programs to retrain: the baseline, candidates by id, and others by name."""
    chosen = [store.candidate(number) for number in candidates]
    programs = [
        baseline_contender(config, dna_from_json(store.manifest["baseline_dna"])),
        *(Contender(f"#{each.id}", each.id, each.dna, unit=each.unit) for each in chosen),
        *(_named_contender(text, config) for text in dict.fromkeys(also)),
    ]
    name, count = Counter(each.name for each in programs).most_common(1)[0]
    if count > 1:
        raise UsageError(f"two programs to retrain are named {name}: rename the file or the run of one of them")
    return programs


def fresh_seeds(run_seed: int, count: int) -> list[int]:
    """Return random seeds that depend only on the run's seed and that no trial of its search used.

    The trials of a search draw their seeds from (run seed, 1, ...).
    """
    sources = (np.random.SeedSequence((run_seed, 2, place)) for place in range(count))
    return [int(source.generate_state(1)[0]) for source in sources]


def _best_candidates(store: Store, top: int) -> list[int]:
    chosen = [row.id for row in leaderboard(store).rows if row.rank is not None and row.id != BASELINE_ID][:top]
    if not chosen:
        raise UsageError(f"run {store.run.path} cannot be confirmed: none of its candidates has finished a full trial")
    return chosen


def _named_contender(text: str, config: RunConfig) -> Contender:
    """Return the program that a user names, at the size of the run."""
    program = named_program(text, config.model)
    dna = program.at(config.model.unit)
    try:
        unit = fitted_unit(build_graph(dna, length_dependent=True), config.model)
    except InvalidProgramError as error:
        raise UsageError(f"{text} cannot be trained at the size of the run: {error}") from None
    return Contender(program.name, None, dna, text if program.unit is None else None, unit)
