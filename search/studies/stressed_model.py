"""Model of the stress test: a program is trained, recorded, and scaled until a value is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from ...models.analysis.activation_recorder import (
    RecordedPass,
    find_breaking_scale,
    make_recorder,
    node_name,
    scale_dense_kernels,
    with_rematerialization,
)
from ...models.language_model import language_model
from ...primitives import Graph
from ...primitives.graphs.softmax_patterns import softmax_exponentials
from ...workers.data.batches import TrainBatches
from ...workers.training.steps.optimizer import initial_state, make_optimizer
from ...workers.training.steps.train_state import TrainState
from ...workers.training.steps.train_step import StepFunctions
from ..config import RunConfig
from ..results.statistics import finite_or_none
from .stress_result import LARGEST_SCALE, ActivationPeak, ActivationStats, Failure, StressResult, StressSetting

__all__ = ["StressedModel"]

LARGEST_VALUE = float(np.finfo(np.float32).max)
"""Replaces an unshifted score that is not finite, because None means that the program has none."""


class StressedModel:
    """A compiled program in one model.

    Args:
        graph: canonical graph of the program.
        config: configuration with the vocabulary, unit and optimizer.
        setting: size and precision of the model.
        tokens: training text.
        seed: random seed of parameters and text.
    """

    def __init__(self, graph: Graph, config: RunConfig, setting: StressSetting, tokens: Any, seed: int):
        precision: Any = setting.precision
        shape = replace(config.model, layers=setting.layers, length=setting.length, precision=precision, stack="scan")
        self.graph, self.setting = graph, setting
        self.model = language_model(graph, shape)
        self.batches = TrainBatches(tokens, setting.batch, setting.length, seed)
        optimizer = make_optimizer(config.optimizer)
        parameters = self.model.init(np.random.default_rng(seed))
        self.state = TrainState(parameters, initial_state(optimizer, parameters))
        self.functions = StepFunctions(with_rematerialization(self.model), optimizer, setting.batch)
        self.functions.compile_step(self.state)
        self.record = make_recorder(self.model)
        shifted = softmax_exponentials(graph)
        exponentials = [index for index, node in enumerate(graph.nodes) if node.op == "EXP"]
        self.scores = [graph.nodes[index].inputs[0] for index in exponentials]
        self.unshifted_scores = [graph.nodes[index].inputs[0] for index in exponentials if index not in shifted]

    def measure(self, steps: int) -> StressResult:
        """Train for some steps, record before and after, and scale the input and the dense kernels."""
        batch = self.batches.batch_at(steps)
        initial = self._stats(self.record(self.state.parameters, batch, 1.0))
        losses, failure, parameters = self._train(steps)
        tail = losses[-max(1, len(losses) // 10) :]
        ends = (finite_or_none(losses[0]), finite_or_none(float(np.mean(tail)))) if losses else (None, None)
        if failure is not None:
            return StressResult(self.setting, steps, initial, None, ends, failure, None, None)
        trained = self._stats(self.record(parameters, batch, 1.0))
        inputs = self._probe(lambda factor: self.record(parameters, batch, factor))
        weights = self._probe(
            lambda factor: self.record(scale_dense_kernels(self.model, parameters, factor), batch, 1.0)
        )
        return StressResult(self.setting, steps, initial, trained, ends, None, inputs, weights)

    def _train(self, steps: int) -> tuple[list[float], Failure | None, Any]:
        """Return the losses, the failure if there was one, and the last parameters (before the failure)."""
        losses: list[float] = []
        parameters = self.state.parameters
        for step in range(steps):
            parameters = jax.tree.map(np.array, self.state.parameters)  # copies, because a step donates its state
            tokens = self.batches.batch_at(step)
            self.state, result = self.functions.step(self.state, tokens)
            losses.append(float(np.mean(np.asarray(result.token_losses, np.float64))))
            if not (math.isfinite(losses[-1]) and math.isfinite(float(result.gradient_norm))):
                return losses, Failure(step + 1, self._location(self.record(parameters, tokens, 1.0))), parameters
        return losses, None, self.state.parameters

    def _probe(self, record: Callable[[float], RecordedPass]) -> Failure | None:
        found = find_breaking_scale(lambda factor: record(factor).finite, LARGEST_SCALE)
        return None if found is None else Failure(found, self._location(record(found)))

    def _location(self, recorded: RecordedPass) -> str:
        """Return the name of the first value that is not finite."""
        first = recorded.first_non_finite
        if first is not None:
            return f"layer {first[0] + 1}, {node_name(self.graph, first[1])}"
        return "gradient" if math.isfinite(float(recorded.loss)) else "the output of the model"

    def _stats(self, recorded: RecordedPass) -> ActivationStats:
        magnitudes = np.where(np.isnan(recorded.magnitudes), np.inf, recorded.magnitudes)
        by_node = sorted(range(len(self.graph.nodes)), key=lambda node: -magnitudes[:, node].max())
        score = max(
            (self._peak(recorded.highest, node) for node in self.scores),
            key=lambda peak: math.inf if peak.value is None else peak.value,
            default=None,
        )
        unshifted = [
            float(np.nan_to_num(recorded.highest[:, node], nan=LARGEST_VALUE).max()) for node in self.unshifted_scores
        ]
        return ActivationStats(
            finite_or_none(float(recorded.loss)),
            tuple(self._peak(magnitudes, node) for node in by_node[:5]),
            score,
            finite_or_none(max(unshifted)) if unshifted else None,
            finite_or_none(float(recorded.gradient_norm)),
            tuple(finite_or_none(float(norm)) for norm in recorded.gradient_norms),
        )

    def _peak(self, values: np.ndarray, node: int) -> ActivationPeak:
        layer = int(np.argmax(values[:, node]))
        return ActivationPeak(node_name(self.graph, node), layer + 1, finite_or_none(float(values[layer, node])))
