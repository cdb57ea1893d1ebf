"""Warning if a trial reads its training text too often: losses then measure memorisation."""

from __future__ import annotations

from ....models.cost import model_cost
from ....primitives import DNA
from ....workers.protocol import Platform
from ...config import RunConfig
from ..speedup import MAX_EPOCHS

__all__ = ["OPERATIONS_PER_SECOND", "epoch_warning"]

OPERATIONS_PER_SECOND: dict[Platform, float] = {"cpu": 1.1e11, "gpu": 1e14, "tpu": 5e13}
"""Assumed floating-point operations per second of training on one device; a CPU device is one core.

A training step counts as three times its forward operations. The speed of a core is that of the preset `laptop` on an
AMD EPYC (`configs.rough_time` estimates the time of a step by it); the speeds of GPUs and TPUs are not measured.
"""


def epoch_warning(config: RunConfig, baseline: DNA, train_tokens: int, platform: Platform) -> str:
    """Return a warning if trials may read the training text too often, else an empty text.

    Args:
        config: run configuration.
        baseline: baseline program.
        train_tokens: tokens in the training split.
        platform: platform of the trials; their speed is assumed, since it is unknown before the first trial.
    """
    trial, often = config.trial, f"more than {MAX_EPOCHS:g} times"
    text = f"the training text has {train_tokens:,} tokens"
    remedy = "so losses measure memorisation: give a larger text with --data, or a shorter trial budget"
    if trial.unit == "steps":
        read = trial.budget_steps * trial.batch * config.model.length / train_tokens
        return f"{text}: a full trial reads it {read:,.1f} times, {remedy}" if read > MAX_EPOCHS else ""
    slowest = MAX_EPOCHS * train_tokens / trial.budget_seconds
    flops = 3.0 * model_cost(baseline, config.model, config.model.unit)["flops"]
    if slowest > trial.devices * OPERATIONS_PER_SECOND[platform] / flops:
        return ""
    return f"{text}: a full trial at more than {slowest:,.0f} tokens per second reads it {often}, {remedy}"
