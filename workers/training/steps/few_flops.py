"""Which configurations have brief trainings, without loading JAX."""

from __future__ import annotations

from ....models.config import ModelConfig
from ...config import OptimizerConfig, TrialConfig

__all__ = ["MOST_FLAT", "few_flops"]

MOST_FLAT = 1_000_000
"""Largest number of parameters that are trained as two arrays."""

BRIEF_FLOPS = 1e12
"""Most FLOPs of a brief training. At `laptop` they are 2,000 steps, twice its trials. After about as many, a step that
is compiled layer by layer has lost what its compilation saved (benchmarks/layerwise_step.py)."""


def few_flops(config: ModelConfig, trial: TrialConfig, optimizer: OptimizerConfig) -> bool:
    """Return whether a Transformer of this shape takes at most `BRIEF_FLOPS` in a known number of steps of AdamW.

    They are six for each parameter and token (Kaplan et al. 2020). A `model.stack` other than `auto` says no.
    """
    parameters = 12 * config.layers * config.width**2 + config.vocabulary * config.width
    flops = 6.0 * parameters * trial.budget * trial.batch * config.length
    small = trial.unit == "steps" and flops <= BRIEF_FLOPS and parameters <= MOST_FLAT
    return small and optimizer.name == "adamw" and config.stack == "auto"
