"""Factory of a worker's trainer, sent to the worker's process before JAX is imported there."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...plugins.registry import plugin_sources, register
from ...plugins.sources import PluginSource
from ...workers.protocol import Trainer
from ..config import RunConfig

__all__ = ["CandidateTrainerFactory"]


@dataclass(frozen=True, slots=True)
class CandidateTrainerFactory:
    """Picklable factory of a worker's trainer, which imports JAX only when called.

    Attributes:
        config: run configuration.
        dataset: path of the prepared text; a machine without that path uses its own cache.
        reference: DNA of the program whose step time is the unit of reference seconds; None for other units.
        plugins: plugins of this process, whose text every worker executes; the controller has checked them.
    """

    config: RunConfig
    dataset: str
    reference: str | None = None
    plugins: tuple[PluginSource, ...] = field(default_factory=plugin_sources)

    def __call__(self) -> Trainer:
        from ...workers.data.dataset_transfer import find_local_dataset
        from ...workers.devices.compilation_cache import use_compilation_cache
        from ...workers.training.trial import CandidateTrainer

        for plugin in self.plugins:
            register(plugin)
        config = self.config
        use_compilation_cache(config.workers.compiled_mib)
        dataset = str(find_local_dataset(self.dataset) or self.dataset)
        return CandidateTrainer(config.model, config.trial, config.optimizer, dataset, self.reference)
