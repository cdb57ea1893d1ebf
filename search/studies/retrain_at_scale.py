"""Climb a ladder of scales: train a run's best, beside its seed, at other sizes, one rung after the other.

Every rung is a study of its own, with a record in the run's folder, so that a ladder that is broken off goes on where
it stopped. Library programs are fitted to the width, and so is the seed where it is one. Candidates are taken as they
are, but for a query scale that is still exactly that of the run's width (`query_scales`). A program that does not exist
at a rung's width or length is not trained there, and the ladder says why.

Where budgets count reference seconds, they count them by the seed's step at that rung.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...primitives import DNA, InvalidProgramError, UsageError, build_graph
from ...primitives.cost import block_cost
from ...primitives.library import get as library_program
from ...primitives.query_scales import rescale_queries
from ...workers.protocol import INFRASTRUCTURE_FAULTS, Evaluation
from ..config import RunConfig
from ..evolution.candidate import SEED_ID
from ..results.confirmation import Retraining, retraining_of
from ..results.scale_ladder import UNFIT, Rung
from .study import Arm, StudyState, run_study

if TYPE_CHECKING:
    from ..runs.store import Store

__all__ = ["Climber", "check_seed", "climb", "seed_climber", "why_unfit"]

RECORD = "rung-layers={layers},unit={unit},length={length},batch={batch},rate={learning_rate:g},budget={budget:g}.jsonl"
"""In the run's folder, one for each rung."""


@dataclass(frozen=True, slots=True)
class Climber:
    """A program to train on the rungs.

    Attributes:
        name, candidate_id: as in `Retraining`.
        dna: as it is at the run's own size.
        library: its name in the library, if it comes from there.
    """

    name: str
    candidate_id: int | None
    dna: DNA
    library: str | None = None

    def at(self, unit: int, own_unit: int) -> DNA:
        """The program at another unit of width."""
        if self.library is not None:
            return library_program(self.library, unit)
        return rescale_queries(self.dna, own_unit, unit)


def climb(
    store: Store,
    own: RunConfig,
    rung: RunConfig,
    climbers: Sequence[Climber],
    seeds: Sequence[int],
    *,
    address: str | None = None,
    allowance_seconds: float | None = None,
    observe: Callable[[StudyState], None] = lambda state: None,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Train on one rung, and keep the results as events of the run.

    Args:
        store: of the run.
        own: the run's settings; rung: those of the rung.
        climbers: the seed first.
        seeds: of the trainings, the same on all rungs.
        allowance_seconds: what a step of the seed is charged at the run's own size.
        address, observe, tell: as for studies.

    Raises:
        Interrupted: Ctrl-C; what is finished is kept.
    """
    size = Rung.of(rung)
    programs = {each.name: each.at(size.unit, own.model.unit) for each in climbers}
    unfit = {name: why for name, dna in programs.items() if (why := why_unfit(dna, rung))}
    tell(f"rung of {size.label}")
    resized = (own.model, own.trial.batch, own.trial.devices) != (rung.model, rung.trial.batch, rung.trial.devices)
    trainings = run_study(
        replace(rung, trial=replace(rung.trial, allowance_ms=0.0)) if resized else rung,
        [Arm(name, dna) for name, dna in programs.items() if name not in unfit],
        seeds,
        reference=programs[climbers[0].name],
        record=store.run.path / RECORD.format(**size.to_dict()),
        address=address,
        dataset_hash=store.manifest.get("dataset_hash"),
        allowance_seconds=None if resized else allowance_seconds,
        observe=observe,
        tell=tell,
    )
    found = [(training.arm.name, training.seed, training.evaluation) for training in trainings]
    found += [(name, seeds[0], Evaluation(UNFIT, why)) for name, why in unfit.items()]
    _keep(store, size, {each.name: each for each in climbers}, programs, found)


def check_seed(seed: Climber, own: RunConfig, rungs: Sequence[RunConfig]) -> None:
    """See that the seed can be trained on all rungs: without it there is nothing to compare with.

    Raises:
        UsageError: it cannot.
    """
    for rung in rungs:
        if why := why_unfit(seed.at(rung.model.unit, own.model.unit), rung):
            raise UsageError(f"the seed program cannot be trained at a rung of {Rung.of(rung).label}: {why}.")


def why_unfit(dna: DNA, config: RunConfig) -> str:
    """Why a program cannot be trained under a configuration; empty if it can."""
    model = config.model
    try:
        block_cost(build_graph(dna, length_dependent=model.length_dependent), model.unit, model.length)
    except InvalidProgramError as error:
        return str(error)
    return ""


def _keep(
    store: Store,
    size: Rung,
    climbers: dict[str, Climber],
    programs: dict[str, DNA],
    found: Sequence[tuple[str, int, Evaluation]],
) -> None:
    """Add to the run's events what they do not hold, but for trainings that were lost with their worker."""
    known = {
        (known.name, known.seed)
        for event in store.events()
        if event.kind == "climbed" and Rung(**event.payload["rung"]) == size and (known := retraining_of(event))
    }
    for name, seed, evaluation in found:
        if (name, seed) in known or evaluation.kind in INFRASTRUCTURE_FAULTS:
            continue
        climber = climbers[name]
        retraining = Retraining(name, climber.candidate_id, seed, size.budget, replace(evaluation, curve=()))
        changed = programs[name] != climber.dna and climber.candidate_id is not None
        payload = {"rung": size.to_dict(), "refitted": changed, **retraining.payload()}
        store.add_event("climbed", payload, climber.candidate_id)


def seed_climber(config: RunConfig, dna: DNA) -> Climber:
    """The seed: a program of the library, unless the run began otherwise."""
    name = config.search.seed_program
    return Climber("seed", SEED_ID, dna, name if library_program(name, config.model.unit) == dna else None)
