"""The training step and the evaluation, each compiled as one function: fast steps, but a long compilation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from .batch_model import BatchModel
from .compiled_function import CompiledFunction, compile_function, shapes_of
from .data_parallel import replicated, split
from .flat_model import TrainableModel
from .train_state import StepResult, TrainState, update_state

__all__ = ["LossFunction", "WholeStep", "mean_token_loss"]

LossFunction = Callable[[Any, Any, Any], tuple[jax.Array, tuple[jax.Array, jax.Array]]]
"""Function of model, parameters and batch that returns the loss to minimize, the token losses and the probe logits."""


def mean_token_loss(model: TrainableModel, parameters: Any, tokens: Any) -> tuple[jax.Array, Any]:
    """Return the mean loss of token windows, their token losses and the probe logits."""
    losses, probe_logits = model.losses_and_probe_logits(parameters, tokens)
    return jnp.mean(losses), (losses, probe_logits)


@dataclass(frozen=True)
class WholeStep:
    """The step and the evaluation for one batch shape.

    Attributes:
        model: language model.
        optimizer: gradient transformation that updates the parameters.
        batch: shapes and dtypes of a batch.
        averaging: exponent of the average of parameters; 0: no average.
        compiler_options: options of XLA; None: the defaults.
        mesh: mesh of the devices that a batch is split over; None for one device.
        loss: function of the loss that a step minimizes and of the results that it reports.
    """

    model: TrainableModel | BatchModel
    optimizer: optax.GradientTransformation
    batch: Any
    averaging: float
    compiler_options: Mapping[str, Any] | None
    mesh: Mesh | None
    loss: LossFunction

    def compile_step(self, state: TrainState) -> CompiledFunction:
        """Compile the training step for states of this shape. The step consumes its state."""
        return self._compile(self.step, state, donate_argnums=0, **self._result_shardings())

    def compile_evaluation(self, state: TrainState) -> CompiledFunction:
        """Compile the evaluation of a batch: its mean loss, and the mean loss at each position."""
        return self._compile(self._losses, state.evaluated)

    def step(self, state: TrainState, batch: Any) -> tuple[TrainState, StepResult]:
        """Return the state after a step, and the step's results. This is the function that is compiled."""

        def loss(parameters: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            return self.loss(self.model, parameters, batch)

        (_, (losses, probe_logits)), gradients = jax.value_and_grad(loss, has_aux=True)(state.parameters)
        state, norm = update_state(state, gradients, self.optimizer, self.averaging)
        return state, StepResult(losses, norm, probe_logits)

    def _compile(self, function: Callable[..., Any], arrays: Any, **options: Any) -> CompiledFunction:
        if self.mesh is not None:
            options |= {"in_shardings": (replicated(self.mesh), split(self.mesh))}
        given = shapes_of(arrays), self.batch
        return compile_function(function, *given, compiler_options=self.compiler_options, **options)

    def _result_shardings(self) -> dict[str, Any]:
        """Return the shardings of the results of a step; none for one device."""
        if self.mesh is None:
            return {}
        whole, parts = replicated(self.mesh), split(self.mesh)
        result: Any = StepResult(token_losses=parts, gradient_norm=whole, probe_logits=parts)  # type: ignore[arg-type]
        return {"out_shardings": (whole, result)}

    def _losses(self, parameters: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
        losses = self.model.token_losses(parameters, batch)
        return jnp.mean(losses), jnp.mean(losses, axis=0)
