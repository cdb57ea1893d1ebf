"""The two compiled functions of a training: the step and the evaluation.

Compilation is the largest overhead of a short trial. Therefore nothing else is compiled: parameters are drawn on the
host, no operation runs eagerly, and the probes reuse the training step. Brief trainings are compiled layer by layer,
which takes less time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from .batch_model import BatchModel
from .compiled_function import CompiledFunction, shapes_of
from .data_parallel import replicated, split
from .flat_model import FlatModel, TrainableModel
from .layerwise_step import LayerwiseStep
from .optimizer import initial_state
from .train_state import Average, StepResult, TrainState
from .whole_step import LossFunction, WholeStep, mean_token_loss

__all__ = ["StepFunctions"]


class StepFunctions:
    """The training step and the evaluation for one batch shape, compiled on request.

    Args:
        model: language model.
        optimizer: gradient transformation that updates the parameters.
        batch: number of sequences in a batch of token windows, or an example of a batch; all batches have its shapes.
        averaging: exponent of the average of parameters (see `OptimizerConfig`); 0: no average.
        compiler_options: options of XLA. XLA's older CPU emitters compile in little more than half the time, but steps
            take a third longer, which is slower overall after a few seconds of training (benchmarks/compile_time.py).
        mesh: mesh of the devices that a batch is split over; None for one device.
        loss: function of the loss that a step minimizes and of the results that it reports.
        by_layer: whether to compile layer by layer (`layerwise_step`), for token windows of a flat model on one device.

    Attributes:
        overlaps: whether the host can do other work while a step runs; false on a CPU.
    """

    def __init__(
        self,
        model: TrainableModel | BatchModel,
        optimizer: optax.GradientTransformation,
        batch: Any,
        averaging: float = 0.0,
        compiler_options: dict[str, Any] | None = None,
        mesh: Mesh | None = None,
        loss: LossFunction = mean_token_loss,
        *,
        by_layer: bool = False,
    ):
        self.overlaps = jax.default_backend() != "cpu"
        self._optimizer = optimizer
        self._averaging = averaging
        self._mesh = mesh
        self._rated = False
        self._step: CompiledFunction | None = None
        self._evaluation: CompiledFunction | None = None
        self._form: WholeStep | LayerwiseStep
        if by_layer:
            assert isinstance(model, FlatModel) and isinstance(batch, int) and mesh is None
            self._form = LayerwiseStep(model, optimizer, batch, averaging)
        else:
            if isinstance(batch, int):
                batch = jax.ShapeDtypeStruct((batch, model.config.length + 1), jnp.int32)
            self._form = WholeStep(model, optimizer, shapes_of(batch), averaging, compiler_options, mesh, loss)

    @property
    def static_cost(self) -> Mapping[str, float]:
        """XLA's operation counts of the step before optimization: `step_flops`, `step_bytes`, `step_transcendentals`.

        Empty before `compile_step`. For a step that is compiled layer by layer, they are sums over its functions.
        """
        return {} if self._step is None else self._step.cost

    def initial_state(self, parameters: Any) -> TrainState:
        """Return the state before the first step, on the host."""
        average = Average.start(parameters) if self._averaging else None
        return TrainState(parameters, initial_state(self._optimizer, parameters), average)

    def compile_step(self, state: TrainState) -> None:
        """Compile the training step for states of this shape."""
        self._step = self._form.compile_step(state)
        self._rated = state.rate is not None

    def compile_evaluation(self, state: TrainState) -> None:
        """Compile the evaluation, unless it is compiled already."""
        if self._evaluation is None:
            self._evaluation = self._form.compile_evaluation(state)

    def place(self, state: TrainState) -> TrainState:
        """Return the state on the device, or a copy on every device of the mesh."""
        return jax.device_put(state, None if self._mesh is None else replicated(self._mesh))

    def put(self, batch: Any) -> Any:
        """Begin to send a batch, or each part of a batch, to its device. Return without waiting.

        On a single CPU, nothing is sent.
        """
        if self._mesh is None and not self.overlaps:
            return batch
        return jax.device_put(batch, None if self._mesh is None else split(self._mesh))

    def step(self, state: TrainState, batch: Any) -> tuple[TrainState, StepResult]:
        """Take one optimizer step. It consumes `state`, whose buffers are reused.

        The state of a probe may lack the parameter average and the rate that the compiled step expects. They are added
        here; the probe does not read them.
        """
        assert self._step is not None, "compile_step comes first"
        if self._averaging and state.average is None:
            state = replace(state, average=Average.start(state.parameters))
        if self._rated and state.rate is None:
            state = replace(state, rate=np.float32(1.0))
        return self._step.run(state, batch)

    def evaluate(self, state: TrainState, batches: Iterable[Any]) -> float:
        """Return the mean loss in nats per token over batches."""
        return self.evaluate_by_position(state, batches)[0]

    def evaluate_by_position(self, state: TrainState, batches: Iterable[Any]) -> tuple[float, np.ndarray]:
        """Return the mean loss in nats per token over batches, and the mean loss at each position [length]."""
        assert self._evaluation is not None, "compile_evaluation comes first"
        results = [self._evaluation.run(state.evaluated, batch) for batch in batches]
        assert results, "an evaluation needs a batch"
        losses, by_position = zip(*results, strict=True)
        return float(np.mean(np.asarray(losses, np.float64))), np.mean(np.asarray(by_position, np.float64), axis=0)
