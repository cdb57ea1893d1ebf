"""How a worker gets its trainer: what crosses to the worker's process, before JAX is imported there."""

from __future__ import annotations

from dataclasses import dataclass

from ...workers.protocol import Trainer
from ..config import RunConfig

__all__ = ["CandidateTrainerFactory"]


@dataclass(frozen=True, slots=True)
class CandidateTrainerFactory:
    """Makes a worker's trainer; picklable, and imports JAX only where it is called.

    Attributes:
        config: of the run.
        dataset: path of the prepared text; on a machine that does not have it there, its own cache is looked at.
        reference: DNA of the program whose step is worth the allowance, where budgets are in reference seconds.
    """

    config: RunConfig
    dataset: str
    reference: str | None = None

    def __call__(self) -> Trainer:
        from ...workers.data.dataset_transfer import find_local_dataset
        from ...workers.training.trial import CandidateTrainer

        config = self.config
        dataset = str(find_local_dataset(self.dataset) or self.dataset)
        return CandidateTrainer(config.model, config.trial, config.optimizer, dataset, self.reference)
