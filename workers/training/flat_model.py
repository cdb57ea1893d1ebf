"""A language model whose parameters are one vector.

XLA compiles an update of one vector a fifth faster than updates of many arrays (benchmarks/compile_time.py), and the
arithmetic is the same. So a small candidate trains this view of its model; its parameters become arrays again when they
are saved. A large model keeps its arrays: to copy them from and to the vector in each step takes longer than their
compilation saves (5% of a step at 19 million parameters). Adafactor factors matrices, and keeps the arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import jax
import numpy as np

from ...models.config import ModelConfig
from ...models.language_model import LanguageModel
from ...models.parameter_range import parameters_at
from ...models.training_batch import TrainingBatch
from ..config import OptimizerConfig

__all__ = ["MOST_IN_A_VECTOR", "FlatModel", "TrainableModel", "training_model"]

MOST_IN_A_VECTOR = 1_000_000
"""Largest number of parameters that are trained as one vector."""


def training_model(model: LanguageModel, optimizer: OptimizerConfig) -> TrainableModel:
    """Return the view of a model that an optimizer trains fastest, compilation included."""
    parameters = parameters_at(model.block.graph, model.config, model.config.unit)
    return FlatModel(model) if optimizer.name == "adamw" and parameters <= MOST_IN_A_VECTOR else model


@dataclass(frozen=True)
class FlatModel:
    """The functions of a language model that training needs, on a vector of all its parameters.

    Attributes:
        model: language model.
    """

    model: LanguageModel

    @property
    def config(self) -> ModelConfig:
        """Shape of the model."""
        return self.model.config

    def init(self, rng: np.random.Generator) -> np.ndarray:
        """Return initial parameters, float32."""
        return self.flatten(self.model.init(rng))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return random parameters for probes, none of them 0 or 1."""
        return self.flatten(self.model.draw(rng))

    def token_losses(self, parameters: jax.Array, tokens: jax.Array) -> jax.Array:
        """Return the losses [batch, length] in nats of `tokens` [batch, length + 1]."""
        return self.model.token_losses(self.unflatten(parameters), tokens)

    def losses(self, parameters: jax.Array, batch: TrainingBatch) -> jax.Array:
        """Return the losses [batch, length] in nats of a batch of any objective."""
        return self.model.losses(self.unflatten(parameters), batch)

    def losses_and_probe_logits(self, parameters: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the same losses, and the logits of a few fixed tokens at each position."""
        return self.model.losses_and_probe_logits(self.unflatten(parameters), tokens)

    def flatten(self, parameters: Any) -> np.ndarray:
        """Return the vector of arrays on the host."""
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(parameters)])

    def unflatten(self, vector: Any) -> Any:
        """Return the parameters as arrays: views, if `vector` is a NumPy array."""
        shapes, structure = self._shapes
        sizes = [math.prod(shape) for shape in shapes]
        if isinstance(vector, np.ndarray):
            parts = np.split(vector, list(accumulate(sizes))[:-1])
        else:  # the gradient of `split` is one concatenation; that of slices would be a sum of padded vectors
            parts = jax.lax.split(vector, sizes)
        return jax.tree.unflatten(structure, [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)])

    @cached_property
    def _shapes(self) -> tuple[list[tuple[int, ...]], Any]:
        leaves, structure = jax.tree.flatten(self.model.init(np.random.default_rng(0)))
        return [leaf.shape for leaf in leaves], structure


TrainableModel = LanguageModel | FlatModel
"""A model with parameters in either form."""
