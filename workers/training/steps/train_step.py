"""The two compiled functions of a training: the step and the evaluation, each one program.

Compilation is the largest overhead of a short trial. Therefore nothing else is compiled: parameters are drawn on the
host, no operation runs eagerly, and the probes reuse the training step. Brief trainings have another form of these
functions, which compiles less (`layerwise_step`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from .batch_model import BatchModel
from .data_parallel import replicated, split
from .flat_model import TrainableModel
from .optimizer import initial_state

__all__ = [
    "Average",
    "LossFunction",
    "StepFunctions",
    "StepResult",
    "TrainState",
    "shapes_of",
    "static_cost_of",
    "update_state",
]


@dataclass(frozen=True, slots=True)
class Average:
    """Parameters averaged over `count` steps."""

    parameters: Any
    count: Any

    @staticmethod
    def start(parameters: Any) -> Average:
        """Return the average before the first step, on the host."""
        return Average(jax.tree.map(np.array, parameters), np.zeros((), np.float32))

    def updated(self, parameters: Any, exponent: float) -> Average:
        """Return the average in which step t has a weight of about t ** exponent (Shamir & Zhang 2013, section 4)."""
        count = self.count + 1
        share = (exponent + 1) / (count + exponent)
        mixed = jax.tree.map(lambda old, new: old + share * (new - old), self.parameters, parameters)
        return Average(mixed, count)


@dataclass(frozen=True, slots=True)
class TrainState:
    """Everything that a step changes.

    Attributes:
        parameters: parameters of the model.
        optimizer: state of the optimizer.
        average: average of the parameters, which is then evaluated instead; None: there is none.
        rate: factor of the learning rate in the next step, set by the caller; None: always 1.
    """

    parameters: Any
    optimizer: Any
    average: Average | None = None
    rate: Any = None

    @property
    def evaluated(self) -> Any:
        """The parameters that are evaluated."""
        return self.parameters if self.average is None else self.average.parameters


@dataclass(frozen=True, slots=True)
class StepResult:
    """Figures of a training step, all from before its update.

    Attributes:
        token_losses: losses [batch, length] in nats; their mean is the loss of the batch.
        gradient_norm: norm of all gradients together.
        probe_logits: logits [batch, length, few] of a few fixed tokens at each position, for probes.
    """

    token_losses: jax.Array
    gradient_norm: jax.Array
    probe_logits: jax.Array


for _type in (Average, TrainState, StepResult):
    jax.tree_util.register_dataclass(_type)


LossFunction = Callable[[Any, Any, Any], tuple[jax.Array, tuple[jax.Array, jax.Array]]]
"""Function of model, parameters and batch: the loss to minimize, the token losses and the probe logits."""


def _mean_token_loss(model: TrainableModel, parameters: Any, tokens: Any) -> tuple[jax.Array, Any]:
    """Return the mean loss of token windows, their losses and the probe logits."""
    losses, probe_logits = model.losses_and_probe_logits(parameters, tokens)
    return jnp.mean(losses), (losses, probe_logits)


class StepFunctions:
    """The training step and the evaluation for one batch shape, compiled on request.

    Args:
        model: language model.
        optimizer: gradient transformation that updates its parameters.
        batch: number of sequences in a batch of token windows, or a batch whose shapes all batches have.
        averaging: exponent of the average of parameters (see `OptimizerConfig`); 0: no average.
        compiler_options: options of XLA. Its older CPU emitters compile in little more than half the time, but steps
            take a third longer, which is slower overall after a few seconds of training (benchmarks/compile_time.py).
        mesh: mesh of the devices that a batch is split over; None for one device.
        loss: loss of a batch to minimize, and what the step reports.

    Attributes:
        overlaps: whether the host can do other work while a step runs; false on a CPU.
        static_cost: XLA's operation counts of the lowered step, before optimization: `step_flops`, `step_bytes` and
            `step_transcendentals`; empty before `compile_step`.
    """

    def __init__(
        self,
        model: TrainableModel | BatchModel,
        optimizer: optax.GradientTransformation,
        batch: Any,
        averaging: float = 0.0,
        compiler_options: dict[str, Any] | None = None,
        mesh: Mesh | None = None,
        loss: LossFunction = _mean_token_loss,
    ):
        windows = isinstance(batch, int)
        self._batch = jax.ShapeDtypeStruct((batch, model.config.length + 1), jnp.int32) if windows else shapes_of(batch)
        self._rated = False
        self._averaging = averaging
        self._options = compiler_options
        self._mesh = mesh
        self._loss_function = loss
        self.overlaps = jax.default_backend() != "cpu"
        self._model = model
        self._optimizer = optimizer
        self.static_cost: dict[str, float] = {}
        self._step: Callable[..., Any] | None = None
        self._evaluate: Callable[..., Any] | None = None

    def initial_state(self, parameters: Any) -> TrainState:
        """Return the state before the first step, on the host."""
        average = Average.start(parameters) if self._averaging else None
        return TrainState(parameters, initial_state(self._optimizer, parameters), average)

    def compile_step(self, state: TrainState) -> None:
        """Compile the training step for states of this shape."""
        step = jax.jit(self._train, donate_argnums=0, **self._shardings(step=True))
        lowered = step.lower(shapes_of(state), self._batch)
        self.static_cost = static_cost_of(lowered)
        self._step = lowered.compile(self._options)
        self._rated = state.rate is not None

    def compile_evaluation(self, state: TrainState) -> None:
        """Compile the evaluation, unless it is compiled."""
        if self._evaluate is None:
            losses = jax.jit(self._losses, **self._shardings())
            self._evaluate = losses.lower(shapes_of(state.evaluated), self._batch).compile(self._options)

    def place(self, state: TrainState) -> TrainState:
        """Return the state on the device, or a copy on every device of the mesh."""
        return jax.device_put(state, None if self._mesh is None else replicated(self._mesh))

    def put(self, batch: Any) -> Any:
        """Begin to send a batch to the device, or each part of it to its device, and return at once.

        A single CPU needs no transfer.
        """
        if self._mesh is None and not self.overlaps:
            return batch
        return jax.device_put(batch, None if self._mesh is None else split(self._mesh))

    def step(self, state: TrainState, batch: Any) -> tuple[TrainState, StepResult]:
        """Take one optimizer step. It consumes `state`, whose buffers are reused.

        The state of a probe may lack the average that the compiled step updates, and the rate. The probe reads neither.
        """
        assert self._step is not None, "compile_step comes first"
        if self._averaging and state.average is None:
            state = replace(state, average=Average.start(state.parameters))
        if self._rated and state.rate is None:
            state = replace(state, rate=np.float32(1.0))
        return self._step(state, batch)

    def evaluate(self, state: TrainState, batches: Iterable[Any]) -> float:
        """Return the mean loss in nats per token over batches."""
        return self.evaluate_by_position(state, batches)[0]

    def evaluate_by_position(self, state: TrainState, batches: Iterable[Any]) -> tuple[float, np.ndarray]:
        """Return the mean loss in nats per token over batches, and that at each position of a sequence [length]."""
        assert self._evaluate is not None, "compile_evaluation comes first"
        results = [self._evaluate(state.evaluated, batch) for batch in batches]
        assert results, "an evaluation needs a batch"
        losses, by_position = zip(*results, strict=True)
        return float(np.mean(np.asarray(losses, np.float64))), np.mean(np.asarray(by_position, np.float64), axis=0)

    def _shardings(self, step: bool = False) -> dict[str, Any]:
        """Return the shardings that `jit` needs for its inputs and the outputs of a step; none for one device."""
        if self._mesh is None:
            return {}
        whole, parts = replicated(self._mesh), split(self._mesh)
        result: Any = StepResult(token_losses=parts, gradient_norm=whole, probe_logits=parts)  # type: ignore[arg-type]
        return {"in_shardings": (whole, parts), **({"out_shardings": (whole, result)} if step else {})}

    def _train(self, state: TrainState, batch: Any) -> tuple[TrainState, StepResult]:
        def loss(parameters: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            return self._loss_function(self._model, parameters, batch)

        (_, (losses, probe_logits)), gradients = jax.value_and_grad(loss, has_aux=True)(state.parameters)
        state, norm = update_state(state, gradients, self._optimizer, self._averaging)
        return state, StepResult(losses, norm, probe_logits)

    def _losses(self, parameters: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
        losses = self._model.token_losses(parameters, batch)
        return jnp.mean(losses), jnp.mean(losses, axis=0)


def update_state(
    state: TrainState, gradients: Any, optimizer: optax.GradientTransformation, averaging: float
) -> tuple[TrainState, jax.Array]:
    """Return the state after an update by gradients of its parameters, and the norm of them all together."""
    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.parameters)
    if state.rate is not None:  # the updates of both optimizers are proportional to the learning rate
        updates = jax.tree.map(lambda update: state.rate * update, updates)
    parameters = optax.apply_updates(state.parameters, updates)
    average = None if state.average is None else state.average.updated(parameters, averaging)
    return TrainState(parameters, optimizer_state, average, state.rate), optax.tree.norm(gradients)


def static_cost_of(lowered: Any) -> dict[str, float]:
    """Return XLA's operation counts of a lowered program, as `StepFunctions.static_cost` has them."""
    analysis: Mapping[str, Any] = lowered.cost_analysis() or {}
    names = {"step_flops": "flops", "step_bytes": "bytes accessed", "step_transcendentals": "transcendentals"}
    return {name: float(analysis[key]) for name, key in names.items() if key in analysis}


def shapes_of(tree: Any) -> Any:
    """Return the shapes and dtypes of arrays, for `lower`."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
