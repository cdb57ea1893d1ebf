"""Run the leak probes of a trial on a block in the real language model, without training.

The caller gives the parameters that training would leave. The probes and the training step are those of a trial, so
this check is neither looser nor stricter.
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
from ...workers.training.steps.train_state import TrainState
from ...workers.training.steps.train_step import StepFunctions
from ...workers.training.trial_probes import ProbeFault, probe_causality, probe_trained_model
from .leaky_blocks import LeakyBlock

__all__ = ["SMALL", "BlockProber", "ProbeResult", "compiled_step", "run_probes"]

SMALL = ModelConfig(layers=1, unit=1, length=16, vocabulary=300)
"""A language model that compiles in seconds."""

BATCH = 4
_NO_STATE = optax.EmptyState()


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Stage that refused (`probe` or `recheck`), reason in one word, and message; all empty if the block passed."""

    refused_by: str = ""
    reason: str = ""
    message: str = ""


def compiled_step(model: LanguageModel) -> StepFunctions:
    """Return the compiled training step; its optimizer does nothing, since probes read only losses."""
    functions = StepFunctions(model, optax.identity(), BATCH)
    functions.compile_step(TrainState(model.init(np.random.default_rng(0)), _NO_STATE))
    return functions


def run_probes(
    functions: StepFunctions,
    model: LanguageModel,
    trained: Any,
    seed: int = 0,
    optimizer_state: Any = _NO_STATE,
) -> ProbeResult:
    """Probe a model with random parameters and, if it passes, with its trained ones.

    Args:
        functions: result of `compiled_step`, or a step with another optimizer.
        model: model to probe.
        trained: parameters after training.
        seed: random seed of tokens, parameters and futures.
        optimizer_state: any state with the optimizer's shapes.
    """
    rng, state = np.random.default_rng(seed), TrainState(trained, optimizer_state)
    tokens = rng.integers(model.config.vocabulary, size=(BATCH, model.config.length + 1)).astype(np.int32)
    stage = "probe"
    try:
        probe_causality(functions, model, state.optimizer, tokens, rng)
        stage = "recheck"
        probe_trained_model(functions, model.config, state, tokens, rng)
    except ProbeFault as fault:
        return ProbeResult(stage, fault.reason, str(fault))
    return ProbeResult()


class BlockProber:
    """Probes of many blocks in one model, compiled once; a parameter selects the block.

    Args:
        blocks: blocks to probe.
    """

    def __init__(self, blocks: Sequence[LeakyBlock]):
        self.blocks = tuple(blocks)
        self.functions = compiled_step(self._model(self.blocks[0]))

    def probe(self, block: LeakyBlock, seed: int = 0) -> ProbeResult:
        """Return the probes' result for one of the blocks."""
        model = self._model(block)
        return run_probes(self.functions, model, block.train(model.init(np.random.default_rng(seed))), seed)

    def _model(self, block: LeakyBlock) -> LanguageModel:
        return LanguageModel(SMALL, _SelectedBlock(self.blocks, self.blocks.index(block)))


@dataclass(frozen=True, slots=True)
class _SelectedBlock:
    """One of several blocks, selected by a parameter, so that all compile to the same program."""

    blocks: tuple[LeakyBlock, ...]
    index: int

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {**self.blocks[self.index].init(rng), "which": np.array([self.index], np.float32)}

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {**self.blocks[self.index].draw(rng), "which": np.array([self.index], np.float32)}

    def apply(self, parameters: Any, x: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
        which = parameters["which"][0].astype(int)
        return jax.lax.switch(which, [block.function for block in self.blocks], parameters["gate"].astype(x.dtype), x)
