"""A language model whose parameters are one vector.

XLA compiles an update of one vector a fifth faster than updates of many arrays (benchmarks/compile_time.py), and the
arithmetic is the same. So a candidate trains this view of its model; its parameters become arrays again when they are
saved. Adafactor factors matrices, and keeps the arrays.
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
from ..config import OptimizerConfig

__all__ = ["FlatModel", "TrainableModel", "training_model"]


def training_model(model: LanguageModel, optimizer: OptimizerConfig) -> TrainableModel:
    """Return the view of a model that an optimizer trains fastest."""
    return FlatModel(model) if optimizer.name == "adamw" else model


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
        return self._flatten(self.model.init(rng))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return random parameters for probes, none of them 0 or 1."""
        return self._flatten(self.model.draw(rng))

    def token_losses(self, parameters: jax.Array, tokens: jax.Array) -> jax.Array:
        """Return the losses [batch, length] in nats of `tokens` [batch, length + 1]."""
        return self.model.token_losses(self.unflatten(parameters), tokens)

    def losses_and_probe_logits(self, parameters: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the same losses, and the logits of a few fixed tokens at each position."""
        return self.model.losses_and_probe_logits(self.unflatten(parameters), tokens)

    def unflatten(self, vector: Any) -> Any:
        """Return the parameters as arrays: views, if `vector` is a NumPy array."""
        places, structure = self._layout
        sizes = [place.size for place in places]
        if isinstance(vector, np.ndarray):
            parts = np.split(vector, list(accumulate(sizes))[:-1])
        else:  # the gradient of `split` is one concatenation; that of slices would be a sum of padded vectors
            parts = jax.lax.split(vector, sizes)
        return jax.tree.unflatten(structure, [place.unpack(part) for place, part in zip(places, parts, strict=True)])

    def _flatten(self, parameters: Any) -> np.ndarray:
        leaves = jax.tree.leaves(parameters)
        return np.concatenate([place.pack(leaf) for place, leaf in zip(self._layout[0], leaves, strict=True)])

    @cached_property
    def _layout(self) -> tuple[list[_StoredArray], Any]:
        """Places of the arrays in the vector, and the structure of the tree that they make."""
        branch_axes = getattr(self.model.block, "shared_input_kernels", {})
        leaves, structure = jax.tree.flatten_with_path(self.model.init(np.random.default_rng(0)))
        return [_StoredArray.of(leaf.shape, branch_axes.get(path[-1].key, 0)) for path, leaf in leaves], structure


@dataclass(frozen=True)
class _StoredArray:
    """Place of one array in the vector.

    A kernel `[layers, branches..., in, out]` whose branches read the same input is stored as
    `[layers, in, branches..., out]`: as one matrix a layer, which is multiplied without a copy.

    Attributes:
        shape: shape of the array.
        axes: order of its axes in the vector.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]

    @staticmethod
    def of(shape: tuple[int, ...], branch_axes: int) -> _StoredArray:
        """Return the place of an array with `branch_axes` such axes after the axis of layers."""
        layers, *rest = range(len(shape))
        branches, own = rest[:branch_axes], rest[branch_axes:]
        return _StoredArray(shape, (layers, *own[:-1], *branches, *own[-1:]))

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def pack(self, array: np.ndarray) -> np.ndarray:
        """Return the array's part of the vector."""
        return np.ravel(np.transpose(array, self.axes))

    def unpack(self, part: Any) -> Any:
        """Return the array."""
        stored = part.reshape([self.shape[axis] for axis in self.axes])
        return stored.transpose([self.axes.index(axis) for axis in range(len(self.axes))])


TrainableModel = LanguageModel | FlatModel
"""A model with parameters in either form."""
