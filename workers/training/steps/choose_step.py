"""Which compiled form of the training step a run uses: the whole step, or layer by layer for brief trainings."""

from __future__ import annotations

import jax
import optax
from jax.sharding import Mesh

from ....models.config import ModelConfig
from ...config import OptimizerConfig, TrialConfig
from .flat_model import MOST_FLAT, FlatModel, TrainableModel
from .layerwise_step import LayerwiseFunctions
from .train_step import StepFunctions

__all__ = ["choose_step", "is_brief"]

BRIEF_FLOPS = 1e12
"""Most FLOPs of a brief training. At `laptop` they are 2,000 steps, twice its trials. After about as many, a step that
is compiled layer by layer has lost what its compilation saved (benchmarks/layerwise_step.py)."""


def is_brief(config: ModelConfig, trial: TrialConfig, optimizer: OptimizerConfig) -> bool:
    """Return whether trainings are so short that compiling less pays, though each step takes longer.

    They are if a Transformer of this shape takes at most `BRIEF_FLOPS`, six for each parameter and token (Kaplan et al.
    2020), in a known number of steps of AdamW on one CPU, and if `model.stack` is `auto`. The answer is the same for
    all candidates of a run, because their step times are compared.
    """
    parameters = 12 * config.layers * config.width**2 + config.vocabulary * config.width
    flops = 6.0 * parameters * trial.budget * trial.batch * config.length
    small = trial.unit == "steps" and flops <= BRIEF_FLOPS and parameters <= MOST_FLAT
    on_one_cpu = trial.devices == 1 and jax.default_backend() == "cpu"
    return small and on_one_cpu and optimizer.name == "adamw" and config.stack == "auto"


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
