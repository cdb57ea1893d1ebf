"""Choice of brief trainings, which are compiled layer by layer. Plans use this module without loading JAX."""

from __future__ import annotations

from ....models.config import ModelConfig
from ...config import OptimizerConfig, TrialConfig

__all__ = ["MOST_FLAT", "is_brief"]

MOST_FLAT = 1_000_000
"""Largest number of parameters that are trained as two arrays (see `flat_model`)."""

BRIEF_FLOPS = 1e12
"""Largest number of FLOPs in a brief training. At the preset `laptop`, these are 2,000 steps, twice the steps of a
trial. After about as many steps, the slower steps have cost the time that compiling layer by layer saved
(benchmarks/layerwise_step.py)."""


def is_brief(config: ModelConfig, trial: TrialConfig, optimizer: OptimizerConfig, platform: str) -> bool:
    """Return whether trainings are so short that a faster compilation saves time, although each step takes longer.

    They are brief if a Transformer of this shape takes at most `BRIEF_FLOPS`, six for each parameter and token (Kaplan
    et al. 2020), and has at most `MOST_FLAT` parameters. Also, the budget must be in steps, the optimizer AdamW, the
    device one CPU, and `model.stack` `auto`. The result is the same for all candidates of a run, because their step
    times are compared.

    Args:
        config: shape of the models.
        trial: settings of the trainings.
        optimizer: settings of the optimizer.
        platform: JAX's name of the devices, such as `cpu`.
    """
    parameters = 12 * config.layers * config.width**2 + config.vocabulary * config.width
    flops = 6.0 * parameters * trial.budget * trial.batch * config.length
    small = trial.unit == "steps" and flops <= BRIEF_FLOPS and parameters <= MOST_FLAT
    plain = optimizer.name == "adamw" and config.stack == "auto"
    return small and plain and trial.devices == 1 and platform == "cpu"
