"""What the probes say of a block in the real language model, before training and once trained, with no training at all.

The parameters after training are given by whoever asks. Nothing here is looser or stricter than in a trial: the probes
are its own, and run on its training step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Array, Float

from ...models.config import ModelConfig
from ...models.language_model import LanguageModel
from ...workers.training.leak_probes import ProbeFault, probe_causality, probe_trained_model
from ...workers.training.train_step import StepFunctions, TrainState
from .leaky_blocks import CanaryBlock

__all__ = ["SMALL", "CanaryOrdeal", "Verdict", "compiled_step", "undergo"]

SMALL = ModelConfig(layers=1, unit=1, length=16, vocabulary=300)
"""A language model that compiles in seconds."""

BATCH = 4
_NO_STATE = optax.EmptyState()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who refused (`probe` or `probe_trained_model`), why in one word, and the sentence; all empty where nobody did."""

    refused_by: str = ""
    reason: str = ""
    message: str = ""


def compiled_step(model: LanguageModel, batch: int = BATCH) -> StepFunctions:
    """The training step. Probes read its losses only, so the optimizer, much of the compile time, may do nothing."""
    functions = StepFunctions(model, optax.identity(), batch)
    functions.compile_step(TrainState(model.init(np.random.default_rng(0)), _NO_STATE))
    return functions


def undergo(
    functions: StepFunctions,
    model: LanguageModel,
    trained: Any,
    seed: int = 0,
    batch: int = BATCH,
    optimizer_state: Any = _NO_STATE,
) -> Verdict:
    """Probe a model with random parameters and, if it passes, with its trained ones.

    Args:
        functions: of `compiled_step`, or with another optimizer.
        model: what is probed.
        trained: parameters after training.
        seed: of tokens, parameters and futures.
        batch: sequences in a batch.
        optimizer_state: any, of the optimizer's shapes.
    """
    rng, state = np.random.default_rng(seed), TrainState(trained, optimizer_state)
    tokens = rng.integers(model.config.vocabulary, size=(batch, model.config.length + 1)).astype(np.int32)
    stage = "probe"
    try:
        probe_causality(functions, model, state.optimizer, tokens, rng)
        stage = "recheck"
        probe_trained_model(functions, model.config, state, tokens, rng)
    except ProbeFault as fault:
        return Verdict(stage, fault.reason, str(fault))
    return Verdict()


class CanaryOrdeal:
    """Many blocks in one model that is compiled once: a parameter picks the block.

    Args:
        blocks: the blocks that can be tried.
        config: shape of the language model.
    """

    def __init__(self, blocks: Sequence[CanaryBlock], config: ModelConfig = SMALL):
        self.blocks, self.config = tuple(blocks), config
        self.functions = compiled_step(self._model(self.blocks[0]))

    def verdict(self, block: CanaryBlock, seed: int = 0) -> Verdict:
        """What the probes say of one of the blocks."""
        model = self._model(block)
        return undergo(self.functions, model, block.train(model.init(np.random.default_rng(seed))), seed)

    def _model(self, block: CanaryBlock) -> LanguageModel:
        return LanguageModel(self.config, _Picked(self.blocks, self.blocks.index(block)))


@dataclass(frozen=True, slots=True)
class _Picked:
    """One of some blocks, in a form that compiles to the same program for each."""

    blocks: tuple[CanaryBlock, ...]
    index: int

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {**self.blocks[self.index].init(rng), "which": np.array([self.index], np.float32)}

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {**self.blocks[self.index].draw(rng), "which": np.array([self.index], np.float32)}

    def apply(self, parameters: Any, x: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
        which = parameters["which"][0].astype(int)
        return jax.lax.switch(which, [block.function for block in self.blocks], parameters["gate"].astype(x.dtype), x)
