"""Retraining of a run's best candidates and its baseline at other sizes.

Every scale is a separate study with its own log in the run's folder, so an interrupted ladder resumes where it stopped.
Library programs are fitted to the width of the scale, and so is the baseline if it is a library program. Candidates are
not changed, except that a query scale that equals the one for the run's width is adapted (`query_scales`). A candidate
that the search resized keeps the ratio of its unit to the baseline's, rounded to a whole unit. A program that is
invalid at a scale's width or length is not trained there, and the ladder gives the reason.

Reference seconds, if budgets are in them, are counted by the baseline's step time at that scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...models.config import ModelConfig
from ...models.parameter_range import dna_at_unit
from ...primitives import DNA, InvalidProgramError, UsageError, build_graph
from ...primitives.graphs.cost import block_cost
from ...workers.protocol import INFRASTRUCTURE_FAULTS, Evaluation
from ..config import RunConfig
from ..evolution.candidate import BASELINE_ID
from ..results.confirmation import Retraining, read_retraining
from ..results.scale_ladder import INCOMPATIBLE, Scale
from .study import QUIET, Study, StudyOptions
from .study_queue import Arm

if TYPE_CHECKING:
    from ..runs.store import Store

__all__ = [
    "Contender",
    "add_retrainings",
    "baseline_contender",
    "check_baseline",
    "equal_time_points",
    "explain_unfit",
    "is_complete",
    "log_path",
    "retrain_at_scale",
]

POINTS = (0.5, 0.7, 0.85)
"""Shares of the budget at which priced retrainings are evaluated, for the difference at equal time."""

LOG = "scale-layers={layers},unit={unit},length={length},batch={batch},rate={learning_rate:g},budget={budget:g}.jsonl"
"""Name of the log in the run's folder; each scale has its own."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A program to retrain.

    Attributes:
        name: name of the program, as in `Retraining`.
        candidate_id: id of the candidate; None for a program that is not of this run.
        dna: program at the run's own size.
        library: name in the library; None if the program is not from there.
        unit: unit of width that the search resized it to; None: the run's unit.
    """

    name: str
    candidate_id: int | None
    dna: DNA
    library: str | None = None
    unit: int | None = None

    def arm(self, model: ModelConfig, own_unit: int) -> Arm:
        """Return the program at the size of `model`; `own_unit` is the unit of the run."""
        unit = None if self.unit is None else max(1, round(self.unit * model.unit / own_unit))
        dna, made_for = self.dna, own_unit
        if self.library is not None:
            dna, made_for = model.library_program(self.library), model.unit
        return Arm(self.name, dna_at_unit(dna, replace(model, unit=made_for), unit or model.unit), unit=unit)


def retrain_at_scale(
    store: Store,
    own: RunConfig,
    scale: RunConfig,
    contenders: Sequence[Contender],
    seeds: Sequence[int],
    options: StudyOptions = QUIET,
    *,
    allowance_seconds: float | None = None,
) -> None:
    """Retrain programs at one scale, and store the results as events of the run.

    Args:
        store: store of the run.
        own: configuration of the run.
        scale: configuration of the scale.
        contenders: programs to retrain, the baseline first.
        seeds: random seeds of the trainings, the same at all scales.
        options: options of the study.
        allowance_seconds: step time of the baseline at the run's own size.

    Raises:
        Interrupted: Ctrl-C; finished trainings are in the log.
    """
    size = Scale.of(scale)
    arms = {each.name: each.arm(scale.model, own.model.unit) for each in contenders}
    unfit = {name: why for name, arm in arms.items() if (why := explain_unfit(arm, scale))}
    options.tell(f"scale of {size.label}")
    resized = (own.model, own.trial.batch, own.trial.devices) != (scale.model, scale.trial.batch, scale.trial.devices)
    with Study(
        replace(scale, trial=replace(scale.trial, allowance_ms=0.0)) if resized else scale,
        arms[contenders[0].name].dna,
        log_path(store, LOG.format(**size.to_dict()), scale),
        options,
        points=equal_time_points(scale),
        run=store.manifest,
        allowance_seconds=None if resized else allowance_seconds,
    ) as study:
        trainings = study.train([arm for name, arm in arms.items() if name not in unfit], seeds)
    evaluations = [(training.arm.name, training.seed, training.evaluation) for training in trainings]
    evaluations += [(name, seeds[0], Evaluation(INCOMPATIBLE, why)) for name, why in unfit.items()]
    ids = {each.name: each.candidate_id for each in contenders}
    rescaled = {each.name: each.candidate_id is not None and arms[each.name].dna != each.dna for each in contenders}
    known = {
        (retraining.name, retraining.seed)
        for event in store.events()
        if event.kind == "retrained_at_scale" and Scale(**event.payload["scale"]) == size
        for retraining in [read_retraining(event)]
        if is_complete(retraining, scale)
    }
    add_retrainings(
        store,
        "retrained_at_scale",
        [Retraining(name, ids[name], seed, size.budget, evaluation) for name, seed, evaluation in evaluations],
        known,
        {name: {"scale": size.to_dict(), "rescaled": changed} for name, changed in rescaled.items()},
    )


def add_retrainings(
    store: Store,
    kind: str,
    retrainings: Iterable[Retraining],
    known: set[tuple[str, int]],
    details: Mapping[str, Mapping[str, Any]],
) -> None:
    """Add retrainings to the events of a run, except known ones and those that were lost with their worker.

    Args:
        store: store of the run.
        kind: kind of the events.
        retrainings: retrainings to add.
        known: name and random seed of the retrainings that the run already has.
        details: further values for the payload, by name of the program.
    """
    with store.transaction():  # one wait for the disk
        for each in retrainings:
            if (each.name, each.seed) in known or each.evaluation.kind in INFRASTRUCTURE_FAULTS:
                continue
            stored = replace(each, evaluation=replace(each.evaluation, curve=()))  # the log has the curve
            store.add_event(kind, {**details.get(each.name, {}), **stored.payload()}, each.candidate_id)


def equal_time_points(config: RunConfig) -> tuple[float, ...]:
    """Return the points of the budget at which retrainings are evaluated: none unless steps are counted and timed."""
    return tuple(share * config.trial.budget for share in POINTS) if config.trial.price else ()


def log_path(store: Store, name: str, config: RunConfig) -> Path:
    """Return the path of a log in the run's folder; the name depends on whether trainings are also evaluated midway."""
    path = store.run.path / name
    return path.with_stem(f"{path.stem}-priced") if equal_time_points(config) else path


def is_complete(retraining: Retraining, config: RunConfig) -> bool:
    """Return whether a stored retraining has all that the configuration measures; earlier versions lacked prices."""
    evaluation = retraining.evaluation
    return evaluation.outcome != "ok" or not equal_time_points(config) or bool(evaluation.hurdle_losses)


def check_baseline(baseline: Contender, own: RunConfig, scales: Sequence[RunConfig]) -> None:
    """Check that the baseline, which all others are compared with, can be trained at all scales.

    Raises:
        UsageError: the baseline is invalid at one of the scales.
    """
    for scale in scales:
        if why := explain_unfit(baseline.arm(scale.model, own.model.unit), scale):
            raise UsageError(f"the baseline cannot be trained at a scale of {Scale.of(scale).label}: {why}")


def explain_unfit(arm: Arm, config: RunConfig) -> str:
    """Return why a program cannot be trained with a configuration; empty if it can."""
    model, unit = config.model, arm.unit or config.model.unit
    try:
        block_cost(build_graph(arm.dna, length_dependent=model.length_dependent), unit, model.length)
    except InvalidProgramError as error:
        return str(error)
    return ""


def baseline_contender(config: RunConfig, dna: DNA) -> Contender:
    """Return the baseline, with its library name unless the stored program differs from the library's."""
    name = config.search.baseline
    return Contender("baseline", BASELINE_ID, dna, name if config.model.library_program(name) == dna else None)
