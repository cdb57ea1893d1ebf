"""Retrain a run's best, beside its baseline, at other sizes, one scale after the other.

Every scale is a study of its own, with a record in the run's folder, so that a ladder that is broken off goes on where
it stopped. Library programs are fitted to the width, and so is the baseline where it is one. Candidates are taken as
they are, except a query scale that is still exactly that of the run's width (`query_scales`). A program that does not
exist at a scale's width or length is not trained there, and the ladder says why.

Where budgets count reference seconds, they count them by the baseline's step at that scale.
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
from ..evolution.candidate import BASELINE_ID
from ..results.confirmation import Retraining, read_retraining
from ..results.scale_ladder import INCOMPATIBLE, Scale
from .study import run_study
from .study_queue import Arm, StudyState

if TYPE_CHECKING:
    from ..runs.store import Store

__all__ = ["Contender", "baseline_contender", "check_baseline", "retrain_at_scale", "why_unfit"]

RECORD = (
    "scale-layers={layers},unit={unit},length={length},batch={batch},rate={learning_rate:g},budget={budget:g}.jsonl"
)
"""In the run's folder, one for each scale."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A program to train on the scales.

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


def retrain_at_scale(
    store: Store,
    own: RunConfig,
    scale: RunConfig,
    contenders: Sequence[Contender],
    seeds: Sequence[int],
    *,
    address: str | None = None,
    allowance_seconds: float | None = None,
    observe: Callable[[StudyState], None] = lambda state: None,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Train on one scale, and keep the results as events of the run.

    Args:
        store: of the run.
        own: the run's settings; scale: those of the scale.
        contenders: the baseline first.
        seeds: of the trainings, the same on all scales.
        allowance_seconds: what a step of the baseline is charged at the run's own size.
        address, observe, tell: as for studies.

    Raises:
        Interrupted: Ctrl-C; what is finished is kept.
    """
    size = Scale.of(scale)
    programs = {each.name: each.at(size.unit, own.model.unit) for each in contenders}
    unfit = {name: why for name, dna in programs.items() if (why := why_unfit(dna, scale))}
    tell(f"scale of {size.label}")
    resized = (own.model, own.trial.batch, own.trial.devices) != (scale.model, scale.trial.batch, scale.trial.devices)
    trainings = run_study(
        replace(scale, trial=replace(scale.trial, allowance_ms=0.0)) if resized else scale,
        [Arm(name, dna) for name, dna in programs.items() if name not in unfit],
        seeds,
        reference=programs[contenders[0].name],
        record=store.run.path / RECORD.format(**size.to_dict()),
        address=address,
        dataset_hash=store.manifest.get("dataset_hash"),
        allowance_seconds=None if resized else allowance_seconds,
        observe=observe,
        tell=tell,
    )
    found = [(training.arm.name, training.seed, training.evaluation) for training in trainings]
    found += [(name, seeds[0], Evaluation(INCOMPATIBLE, why)) for name, why in unfit.items()]
    _keep(store, size, {each.name: each for each in contenders}, programs, found)


def check_baseline(baseline: Contender, own: RunConfig, scales: Sequence[RunConfig]) -> None:
    """See that the baseline can be trained on all scales: without it there is nothing to compare with.

    Raises:
        UsageError: it cannot.
    """
    for scale in scales:
        if why := why_unfit(baseline.at(scale.model.unit, own.model.unit), scale):
            raise UsageError(f"the baseline cannot be trained at a scale of {Scale.of(scale).label}: {why}.")


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
    size: Scale,
    contenders: dict[str, Contender],
    programs: dict[str, DNA],
    found: Sequence[tuple[str, int, Evaluation]],
) -> None:
    """Add new retrainings to the run's events, except those lost with their worker."""
    known = {
        (known.name, known.seed)
        for event in store.events()
        if event.kind == "retrained_at_scale"
        and Scale(**event.payload["scale"]) == size
        and (known := read_retraining(event))
    }
    for name, seed, evaluation in found:
        if (name, seed) in known or evaluation.kind in INFRASTRUCTURE_FAULTS:
            continue
        contender = contenders[name]
        retraining = Retraining(name, contender.candidate_id, seed, size.budget, replace(evaluation, curve=()))
        changed = programs[name] != contender.dna and contender.candidate_id is not None
        payload = {"scale": size.to_dict(), "rescaled": changed, **retraining.payload()}
        store.add_event("retrained_at_scale", payload, contender.candidate_id)


def baseline_contender(config: RunConfig, dna: DNA) -> Contender:
    """The baseline: a program of the library, unless the run began otherwise."""
    name = config.search.baseline
    return Contender("baseline", BASELINE_ID, dna, name if library_program(name, config.model.unit) == dna else None)
