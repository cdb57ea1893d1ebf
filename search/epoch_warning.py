"""How often a trial reads its training text: past a few times, losses say more of the text than of the program."""

from __future__ import annotations

from ..models.cost import model_cost
from ..primitives import DNA
from ..workers.protocol import Platform
from .config import RunConfig
from .results.speedup import MOST_EPOCHS

__all__ = ["epoch_warning"]

USUAL_FLOPS: dict[Platform, float] = {"cpu": 2e10, "gpu": 1e14, "tpu": 5e13}
"""What a device may well do in a second of training: no bound and no measurement, only when to warn."""


def epoch_warning(config: RunConfig, baseline: DNA, train_tokens: int, platform: Platform) -> str:
    """What a user should know before trials read a text too often; empty where they will not.

    Args:
        config: of the run.
        baseline: its baseline.
        train_tokens: in the training split.
        platform: that trials run on; how fast it is, is not known before the first of them.
    """
    trial, often = config.trial, f"more than {MOST_EPOCHS:g} times"
    text = f"the training text has {train_tokens:,} tokens"
    remedy = "which tells how programs memorise it: give a larger text with --data, or trials a shorter budget"
    if trial.unit == "steps":
        read = trial.budget_steps * trial.batch * config.model.length / train_tokens
        return f"{text}: a full trial reads it {read:,.1f} times, {remedy}" if read > MOST_EPOCHS else ""
    slowest = MOST_EPOCHS * train_tokens / trial.budget_seconds
    flops = 3.0 * model_cost(baseline, config.model, config.model.unit)["flops"]
    if slowest > trial.devices * USUAL_FLOPS[platform] / flops:
        return ""
    return f"{text}: a full trial that trains on more than {slowest:,.0f} a second reads it {often}, {remedy}"
