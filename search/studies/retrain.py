"""Confirm a run's best: retrain them with fresh random seeds beside the baseline; score the test text once.

The trainings go through the engine of all studies, keep their record in the run, and become events of the run, from
which `confirmation` draws its table. An interrupted confirmation resumes where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...primitives import UsageError
from ...primitives.library import get as library_program
from ...primitives.program_json import dna_from_json
from ...workers.protocol import INFRASTRUCTURE_FAULTS
from ..config import RunConfig
from ..evolution.candidate import BASELINE_ID
from ..results.confirmation import Retraining, read_retrainings
from ..results.leaderboard import leaderboard
from ..runs.run_settings import load_allowance_seconds, load_config
from ..runs.store import Store
from .retrain_at_scale import Contender, baseline_contender, check_baseline, retrain_at_scale
from .study import run_study
from .study_queue import Arm, StudyState

__all__ = ["ConfirmationBudget", "confirm", "confirm_store", "confirmation_budget"]

RECORD = "confirmation-{budget:g}.jsonl"
"""In the run's folder, one for each budget."""

LARGEST_SHARE = 0.25
"""Of a search's budget, for the confirmation at its end."""

START_SECONDS = 40.0
"""Until the workers of a confirmation train."""

OVERHEAD_SECONDS = 10.0
"""Compilation and evaluation of one training, roughly."""

SLOWNESS = 1.2
"""Wall clock of a training over its budget, on a machine that does other things besides."""


@dataclass(frozen=True, slots=True)
class ConfirmationBudget:
    """The part of a search's budget that is reserved for confirming its best candidates."""

    seconds: float
    top: int


def confirmation_budget(config: RunConfig, budget_seconds: float, slots: int) -> ConfirmationBudget:
    """What is kept of a budget; nothing where a quarter is too short to confirm one candidate.

    A budget of trials in steps does not say how long they take, so that nothing can be kept for them.
    """
    search, trial = config.search, config.trial
    if trial.unit == "steps" or not search.confirm_top:
        return ConfirmationBudget(0.0, 0)
    one = SLOWNESS * trial.budget_seconds + OVERHEAD_SECONDS
    rounds = int((LARGEST_SHARE * budget_seconds - START_SECONDS) / one)  # of one training on each worker
    top = min(search.confirm_top, rounds * slots // search.confirm_repeats - 1)
    if top < 1:
        return ConfirmationBudget(0.0, 0)
    return ConfirmationBudget(START_SECONDS + one * math.ceil((top + 1) * search.confirm_repeats / slots), top)


def confirm(
    path: Path | str,
    *,
    top: int = 10,
    repeats: int = 3,
    beside: Sequence[str] = (),
    trial_seconds: float | None = None,
    workers: int | None = None,
    workers_per_device: int | None = None,
    scales: Sequence[RunConfig] = (),
    address: str | None = None,
    observe: Callable[[StudyState], None] = lambda state: None,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Confirm the best candidates of a run that no controller is at; then, if asked, at other sizes.

    Args:
        path: what the user calls the run.
        top: number of best candidates to retrain.
        repeats: trainings of each.
        beside: library programs to train along with them.
        trial_seconds: budget of each training; the run's full trial budget, if not given.
        workers: how many train at once; as many as in the run, if not given.
        workers_per_device: how many share a GPU; as many as in the run, if not given.
        scales: the settings of further trainings of the same programs, at other sizes (see `retrain_at_scale`).
        address: of a running Ray cluster.
        observe, tell: as for studies.

    Raises:
        UsageError: no such run, another process is at it, or nothing in it trained in full.
        Interrupted: Ctrl-C; what is finished is kept.
    """
    with Store.open(path) as store:
        config = load_config(store, trial_seconds, workers, workers_per_device)
        contenders = _contenders(store, config, top, beside)
        check_baseline(contenders[0], config, scales)
        confirm_store(
            store, config, top=top, repeats=repeats, beside=beside, address=address, observe=observe, tell=tell
        )
        for scale in scales:
            retrain_at_scale(
                store,
                config,
                scale,
                contenders,
                _fresh_seeds(store.manifest["seed"], repeats),
                address=address,
                allowance_seconds=load_allowance_seconds(store),
                observe=observe,
                tell=tell,
            )


def confirm_store(
    store: Store,
    config: RunConfig,
    *,
    top: int,
    repeats: int,
    beside: Sequence[str] = (),
    address: str | None = None,
    deadline: float | None = None,
    observe: Callable[[StudyState], None] = lambda state: None,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """The same for an open store; `deadline` (by `time.monotonic`) is when the last training has to be done.

    A training that was lost with its worker says nothing of the program, and is tried again by the next call.
    """
    contenders = _contenders(store, config, top, beside)
    ids = {each.name: each.candidate_id for each in contenders}
    known = {(each.name, each.seed, each.budget) for each in read_retrainings(store.events())}
    trainings = run_study(
        config,
        [Arm(each.name, each.dna) for each in contenders],
        _fresh_seeds(store.manifest["seed"], repeats),
        reference=contenders[0].dna,
        record=store.run.path / RECORD.format(budget=config.trial.budget),
        address=address,
        dataset_hash=store.manifest.get("dataset_hash"),
        allowance_seconds=load_allowance_seconds(store),
        deadline=deadline,
        observe=observe,
        tell=tell,
    )
    for training in trainings:
        name, budget = training.arm.name, config.trial.budget
        if (name, training.seed, budget) in known or training.evaluation.kind in INFRASTRUCTURE_FAULTS:
            continue
        evaluation = replace(training.evaluation, curve=())  # the record keeps it
        retraining = Retraining(name, ids[name], training.seed, budget, evaluation)
        store.add_event("confirmed", retraining.payload(), retraining.candidate_id)


def _contenders(store: Store, config: RunConfig, top: int, beside: Sequence[str]) -> list[Contender]:
    """The baseline, the best candidates, and the library programs to train along."""
    chosen = [row.id for row in leaderboard(store).rows if row.rank is not None and row.id != BASELINE_ID][:top]
    if not chosen:
        raise UsageError(f"run {store.run.path} has no candidate that trained its full budget: nothing to confirm.")
    return [
        baseline_contender(config, dna_from_json(store.manifest["baseline_dna"])),
        *(Contender(f"#{number}", number, store.candidate(number).dna) for number in chosen),
        *(Contender(name, None, library_program(name, config.model.unit), name) for name in beside),
    ]


def _fresh_seeds(run_seed: int, count: int) -> list[int]:
    """Seeds that no trial of the search had (those are drawn from (run seed, 1, ...)), the same ones every time."""
    sources = (np.random.SeedSequence((run_seed, 2, place)) for place in range(count))
    return [int(source.generate_state(1)[0]) for source in sources]
