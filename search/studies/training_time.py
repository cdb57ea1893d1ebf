"""Seconds that one retraining takes, at the run's own size and at a larger one.

Where budgets count seconds, the time follows from the budget. Where they count steps, it follows from the baseline's
trainings in the run. At a larger size, training and evaluation grow with the floating-point operations (`model_cost`),
and compilation with the number of layers. A brief training on a CPU (`is_brief`) compiles its step layer by layer. If
the larger training is not brief, it compiles the whole step, which takes `WHOLE_COMPILATION` times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from ...models.cost import model_cost
from ...primitives import DNA
from ...workers.protocol import Evaluation
from ...workers.training.steps.brief import is_brief
from ..config import RunConfig

__all__ = ["larger_training_seconds", "operations", "training_seconds"]

OVERHEAD_SECONDS = 10.0
"""Approximate time for compilation and evaluation in one training, for budgets in seconds."""

SLOWNESS = 1.2
"""Ratio of a training's wall clock to its budget on a machine that is also used for other work."""

WHOLE_COMPILATION = 2.0
"""Time to compile a whole step, relative to the time to compile it layer by layer, at `laptop`
(benchmarks/layerwise_step.py)."""

MARGIN = 1.1
"""Time of a retraining relative to a training of the baseline in the search: candidates may be slower, and test text is
scored."""


def training_seconds(config: RunConfig, baseline: Sequence[Evaluation]) -> float | None:
    """Return the wall clock of one retraining at the run's own size, or None if it is not known yet.

    Args:
        config: run configuration.
        baseline: full trainings of the baseline in this run.
    """
    if config.trial.unit != "steps":
        return SLOWNESS * config.trial.budget_seconds + OVERHEAD_SECONDS
    return MARGIN * fmean(one.wall_seconds for one in baseline) if baseline else None


def larger_training_seconds(
    config: RunConfig, larger: RunConfig, ratio: float, baseline: Sequence[Evaluation]
) -> float | None:
    """Return the wall clock of one retraining at the larger size, or None if it is not known yet.

    Args:
        config: run configuration.
        larger: configuration of the larger size.
        ratio: `operations` of a training at the larger size, relative to those at the run's own.
        baseline: full trainings of the baseline at the run's own size.
    """
    own = training_seconds(larger if larger.trial.unit != "steps" else config, baseline)
    if own is None or larger.trial.unit != "steps":
        return own
    growing = fmean(one.train_seconds + one.evaluate_seconds for one in baseline)
    other = fmean(one.compile_seconds + one.probe_seconds for one in baseline)
    share = growing / (growing + other) if growing + other > 0.0 else 1.0
    brief, larger_is_brief = (
        is_brief(one.model, one.trial, one.optimizer, one.workers.accel) for one in (config, larger)
    )
    compilation = WHOLE_COMPILATION if brief and not larger_is_brief else 1.0
    return own * (share * ratio + (1.0 - share) * compilation * larger.model.layers / config.model.layers)


def operations(config: RunConfig, dna: DNA) -> float:
    """Return the forward floating-point operations of one training in steps.

    Raises:
        InvalidProgramError: the program is invalid at this size.
    """
    tokens = config.trial.batch * config.model.length * config.trial.budget_steps
    return tokens * model_cost(dna, config.model, config.model.unit)["flops"]
