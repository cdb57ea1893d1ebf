"""A language model whose parameters are two arrays: one for the parameters outside the blocks, one for the layers.

XLA compiles the update of one array a fifth faster than the updates of many arrays, and the arithmetic is the same. So
small candidates are trained in this form; their parameters become separate arrays again when they are saved. Large
models keep separate arrays, because copying them from and to the two arrays in each step (5% of a step at 19 million
parameters) takes longer than the compilation saves. Adafactor factors matrices, so its models also keep them.

The row of a layer is padded with unused zeros to a multiple of `ROW_UNIT`. So programs of about the same size share
their compiled update (`layerwise_step`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

import jax
import numpy as np

from ....models.config import ModelConfig
from ....models.language_model import LanguageModel
from ....models.parameter_range import parameters_at
from ....models.training_batch import TrainingBatch
from ...config import OptimizerConfig
from .brief import MOST_FLAT

__all__ = ["FlatModel", "FlatParameters", "TrainableModel", "outside_arrays", "training_model"]

ROW_UNIT = 4096
"""The length of a layer's row is a multiple of this."""


def training_model(model: LanguageModel, optimizer: OptimizerConfig, brief: bool = False) -> TrainableModel:
    """Return the form of a model that an optimizer trains fastest, compilation included.

    Brief trainings always use a flat model (see `layerwise_step`).
    """
    parameters = parameters_at(model.block.graph, model.config, model.config.unit)
    return FlatModel(model) if brief or (optimizer.name == "adamw" and parameters <= MOST_FLAT) else model


class FlatParameters(NamedTuple):
    """The parameters of a language model.

    Attributes:
        outside: vector of the parameters of embedding and final norm.
        layers: array [layers, row] with the parameters of each layer, padded with zeros.
    """

    outside: Any
    layers: Any


@dataclass(frozen=True)
class FlatModel:
    """The functions of a language model that training needs, on `FlatParameters`.

    Attributes:
        model: language model.
    """

    model: LanguageModel

    @property
    def config(self) -> ModelConfig:
        """Shape of the model."""
        return self.model.config

    def init(self, rng: np.random.Generator) -> FlatParameters:
        """Return initial parameters, float32."""
        return self.flatten(self.model.init(rng))

    def draw(self, rng: np.random.Generator) -> FlatParameters:
        """Return random parameters for probes, none of them 0 or 1."""
        return self.flatten(self.model.draw(rng))

    def token_losses(self, parameters: FlatParameters, tokens: jax.Array) -> jax.Array:
        """Return the losses [batch, length] in nats of `tokens` [batch, length + 1]."""
        return self.model.token_losses(self.unflatten(parameters), tokens)

    def losses(self, parameters: FlatParameters, batch: TrainingBatch) -> jax.Array:
        """Return the losses [batch, length] in nats of a batch of any objective."""
        return self.model.losses(self.unflatten(parameters), batch)

    def losses_and_probe_logits(self, parameters: FlatParameters, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the losses of `token_losses`, and the logits of a few fixed tokens at each position."""
        return self.model.losses_and_probe_logits(self.unflatten(parameters), tokens)

    def flatten(self, parameters: Mapping[str, Any]) -> FlatParameters:
        """Return parameters in the form of `LanguageModel.init` as two arrays, on the host."""
        norm, blocks, count = parameters["final_norm"], parameters["blocks"], self.config.layers
        outside = [np.ravel(each) for each in (parameters["embedding"], norm["scale"], norm["bias"])]
        rows = [np.reshape(blocks[name], (count, -1)) for name in self._layer_shapes]
        used = sum(row.shape[1] for row in rows)
        padding = np.zeros((count, -used % ROW_UNIT), np.float32)
        return FlatParameters(np.concatenate(outside), np.concatenate([*rows, padding], axis=1))

    def unflatten(self, parameters: FlatParameters) -> dict[str, Any]:
        """Return the parameters in the form of `LanguageModel.init`; those on the host stay on the host."""
        blocks = _parts(parameters.layers, self._layer_shapes)
        return {**outside_arrays(parameters.outside, self.config), "blocks": blocks}

    def layer(self, row: Any) -> dict[str, Any]:
        """Return the parameters of one layer by name, given its row."""
        return _parts(row, self._layer_shapes)

    @cached_property
    def _layer_shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self.model.block.init(np.random.default_rng(0)).items()}


def outside_arrays(vector: Any, config: ModelConfig) -> dict[str, Any]:
    """Return embedding and final norm, given their vector."""
    width = (config.width,)
    parts = _parts(vector, {"embedding": (config.vocabulary, config.width), "scale": width, "bias": width})
    return {"embedding": parts.pop("embedding"), "final_norm": parts}


def _parts(rows: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return consecutive parts of the last axis as arrays of these shapes; the rest of the axis is padding."""
    sizes = [math.prod(shape) for shape in shapes.values()]
    sizes.append(rows.shape[-1] - sum(sizes))
    if isinstance(rows, np.ndarray):
        parts = np.split(rows, list(accumulate(sizes))[:-1], axis=-1)
    else:  # the gradient of `split` is one concatenation; the gradient of slices would be a sum of padded arrays
        parts = jax.lax.split(rows, sizes, axis=rows.ndim - 1)
    named = zip(shapes.items(), parts[:-1], strict=True)
    return {name: part.reshape(*rows.shape[:-1], *shape) for (name, shape), part in named}


TrainableModel = LanguageModel | FlatModel
"""A model whose parameters are separate arrays or two arrays."""
