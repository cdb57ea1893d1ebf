"""Rough time of a training, for plans: nothing is measured yet when a plan is printed.

If the budget of a trial counts seconds, the time follows from the budget. If it counts steps, the time of a step on a
CPU is estimated from the floating-point operations of the baseline's model. The speed is that of the preset `laptop` on
one core of an AMD EPYC: 6 ms a step by this estimate, 5 to 6 ms in benchmarks/results/ten_minutes.txt. The estimate can
be wrong by a factor of two on another machine and at another size, so plans say "about". Steps on GPUs and TPUs are not
estimated.
"""

from __future__ import annotations

from ..models.cost import model_cost
from ..search.config import RunConfig
from ..search.results.trust.epoch_warning import OPERATIONS_PER_SECOND

__all__ = ["OVERHEAD_SECONDS", "rough_training_seconds"]

OVERHEAD_SECONDS = {"cpu": 3.8, "gpu": 25.0, "tpu": 60.0}
"""Rough time of compilation, probes and evaluation of a candidate, by platform.

The time on a CPU was measured with the preset `laptop`; the times on GPUs and TPUs are assumptions.
"""

STEP_SECONDS = 0.001
"""Part of the time of a step that does not depend on the size of the model."""


def rough_training_seconds(config: RunConfig, platform: str) -> float | None:
    """Return the time of one training without compilation and evaluation; None if it cannot be estimated."""
    trial = config.trial
    if trial.unit != "steps":
        return trial.budget_seconds
    if platform != "cpu":
        return None
    dna = config.model.library_program(config.search.baseline)
    forward = trial.batch * config.model.length * model_cost(dna, config.model, config.model.unit)["flops"]
    return trial.budget_steps * (STEP_SECONDS + 3.0 * forward / OPERATIONS_PER_SECOND["cpu"])
