"""Rough time of a training, for plans: nothing is measured yet when a plan is printed.

Where budgets count seconds, the time follows from the budget. Where they count steps, the time of a step is estimated
from the floating-point operations of the baseline's model, at the speed of the preset `laptop` on one CPU core (AMD
EPYC; 5 to 6 ms a step in benchmarks/results/ten_minutes.txt, 6 ms by this estimate). It can be wrong by a factor of
two on another machine and at another size, so plans say "about".
GPUs and TPUs are not estimated.
"""

from __future__ import annotations

from ..models.cost import model_cost
from ..search.config import RunConfig

__all__ = ["OVERHEAD_SECONDS", "rough_training_seconds"]

OVERHEAD_SECONDS = {"cpu": 3.8, "gpu": 25.0, "tpu": 60.0}
"""Rough time of compilation, probes and evaluation of a candidate, for the estimated number of candidates.

Measured on a CPU with the preset `laptop`; the others are the assumptions of their presets.
"""

STEP_SECONDS = 0.001
"""Part of the time of a step that does not depend on the size of the model."""

OPERATIONS_PER_SECOND = 1.1e11
"""Floating-point operations per second of one core, counting three times the forward operations for a training step."""


def rough_training_seconds(config: RunConfig, platform: str) -> float | None:
    """Return the time of one training without compilation and evaluation; None if it cannot be estimated."""
    trial = config.trial
    if trial.unit != "steps":
        return trial.budget_seconds
    if platform != "cpu":
        return None
    dna = config.model.library_program(config.search.baseline)
    forward = trial.batch * config.model.length * model_cost(dna, config.model, config.model.unit)["flops"]
    return trial.budget_steps * (STEP_SECONDS + 3.0 * forward / OPERATIONS_PER_SECOND)
