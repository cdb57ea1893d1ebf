"""Trials that are lost with their worker: counted, and repeated a limited number of times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from ...workers.protocol import INFRASTRUCTURE_FAULTS, Evaluation

__all__ = ["LostTrials"]


class LostTrials:
    """Counter of the trials lost with their worker. Such a trial says nothing about its program.

    Args:
        retries: largest number of repetitions of one trial.
    """

    def __init__(self, retries: int):
        self.retries = retries
        self.losses: Counter[Hashable] = Counter()

    def should_repeat(self, trial: Hashable, evaluation: Evaluation) -> bool:
        """Count the loss if the trial was lost, and return whether to repeat the trial."""
        if evaluation.kind not in INFRASTRUCTURE_FAULTS:
            return False
        self.losses[trial] += 1
        return self.losses[trial] <= self.retries
