"""Which compiled form of the training step a run uses: the whole step, or layer by layer for brief trainings."""

from __future__ import annotations

import jax
import optax
from jax.sharding import Mesh

from ....models.config import ModelConfig
from ...config import OptimizerConfig, TrialConfig
from .few_flops import few_flops
from .flat_model import FlatModel, TrainableModel
from .layerwise_step import LayerwiseFunctions
from .train_step import StepFunctions

__all__ = ["choose_step", "is_brief"]


def is_brief(config: ModelConfig, trial: TrialConfig, optimizer: OptimizerConfig) -> bool:
    """Return whether trainings are so short that compiling less pays, though each step takes longer.

    They are if they take few FLOPs (`few_flops`) on one CPU. The answer is the same for all candidates of a run,
    because their step times are compared.
    """
    return few_flops(config, trial, optimizer) and trial.devices == 1 and jax.default_backend() == "cpu"


def choose_step(
    model: TrainableModel,
    optimizer: optax.GradientTransformation,
    batch: int,
    averaging: float,
    mesh: Mesh | None,
    brief: bool,
) -> StepFunctions:
    """Return the functions that train a model on token windows: layer by layer if the training is brief."""
    if brief:
        assert isinstance(model, FlatModel) and mesh is None
        return LayerwiseFunctions(model, optimizer, batch, averaging)
    return StepFunctions(model, optimizer, batch, averaging, mesh=mesh)
