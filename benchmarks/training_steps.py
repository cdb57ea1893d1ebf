"""Training steps for timing: those of a search, for compiled blocks and for modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from primer_search.benchmarks.paired_times import Run, clock, timed_run
from primer_search.models import ModelConfig
from primer_search.workers.config import OptimizerConfig
from primer_search.workers.training.steps.flat_model import TrainableModel
from primer_search.workers.training.steps.optimizer import make_optimizer
from primer_search.workers.training.steps.train_step import StepFunctions

__all__ = ["OPTIMIZER", "Size", "TimedStep", "random_tokens", "start_training"]

OPTIMIZER = OptimizerConfig()


@dataclass(frozen=True, slots=True)
class Size:
    """Model and batch size."""

    model: ModelConfig
    batch: int


@dataclass(frozen=True, slots=True)
class TimedStep:
    """A compiled training step.

    Attributes:
        run: function that takes some steps and returns the seconds of one.
        compile_seconds: seconds of its compilation, by `clock`.
        first_losses: token losses [batch, length] of the first step, in nats.
    """

    run: Run
    compile_seconds: float
    first_losses: np.ndarray


def random_tokens(model: ModelConfig, batch: int) -> np.ndarray:
    """Return a batch of random tokens, the same in every call."""
    return np.random.default_rng(1).integers(model.vocabulary, size=(batch, model.length + 1)).astype(np.int32)


def start_training(
    model: TrainableModel,
    parameters: Any,
    batch: int,
    least_seconds: float,
    by_layer: bool = False,
) -> TimedStep:
    """Compile the training step of a model, take a step, and return runs that last at least `least_seconds`."""
    functions = StepFunctions(model, make_optimizer(OPTIMIZER), batch, by_layer=by_layer)
    state = functions.initial_state(parameters)
    now = clock()
    start = now()
    functions.compile_step(state)
    compile_seconds = now() - start
    tokens = random_tokens(model.config, batch)
    state, first = functions.step(jax.tree.map(jnp.array, state), tokens)

    def step() -> Any:
        nonlocal state
        state, _ = functions.step(state, tokens)
        return state

    return TimedStep(timed_run(step, least_seconds), compile_seconds, np.asarray(first.token_losses))
