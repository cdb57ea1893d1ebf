"""The training loop: steps until a point of the budget, in chunks between two looks at the clock."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import jax
import numpy as np

from .batches import TrainBatches
from .clock import PhaseClock
from .config import TrialConfig
from .executor import Progress
from .meter import Meter
from .steps import StepFunctions, TrainState

__all__ = ["NonFiniteLoss", "TrainingLoop"]

CHUNK_SECONDS = 0.2
"""Time between two looks at the clock: short against any budget, long against a dispatch."""

CHUNKS_IN_STEPS = 100
"""Chunks of a budget in steps, which needs no clock."""


class NonFiniteLoss(Exception):
    """A training or validation loss became infinite or not a number."""


class TrainingLoop:
    """Trains a state step by step, and knows how much of the budget is spent.

    Attributes:
        state: parameters and optimizer state after the last step.
        steps: steps so far.
        spent: budget used, in the trial's unit.
        loss: training loss of the last chunk, in nats per token; None before the first.
        curve: points (spent, steps, loss).
    """

    def __init__(
        self,
        functions: StepFunctions,
        state: TrainState,
        batches: TrainBatches,
        config: TrialConfig,
        clock: PhaseClock,
        meter: Meter,
        report: Callable[[Progress], None],
    ):
        self.functions = functions
        self.state = state
        self.batches = batches
        self.config = config
        self.clock = clock
        self.meter = meter
        self.report = report
        self.steps = 0
        self.loss: float | None = None
        self.curve: list[tuple[float, int, float]] = []
        self._step_seconds: list[float] = []
        self._last_chunk = 0
        self._step_charge = 0.0

    @property
    def spent(self) -> float:
        """Budget used so far, in the trial's unit."""
        return self.meter.spent

    @property
    def step_ms(self) -> float | None:
        """Median milliseconds of a step, over chunks."""
        return 1000 * statistics.median(self._step_seconds) if self._step_seconds else None

    def train_until(self, point: float) -> None:
        """Train until `point` of the budget, in the trial's unit, is spent.

        Raises:
            NonFiniteLoss: the loss is infinite or not a number.
        """
        while self.spent < point:
            self._chunk(self._chunk_steps(point))
            self.report(Progress("train", self.spent, self.config.budget, self.loss))

    def _chunk_steps(self, point: float) -> int:
        left = point - self.spent
        if self.config.unit == "steps":  # by no clock, so that the curve repeats, too
            return min(math.ceil(left), max(1, self.config.budget_steps // CHUNKS_IN_STEPS))
        seconds = max(self._step_seconds[-1] if self._step_seconds else CHUNK_SECONDS, 1e-6)
        # A coarse clock can show a first step as taking no time at all: feel the way up.
        steps = min(max(1, round(CHUNK_SECONDS / seconds)), 1 + 4 * self._last_chunk)
        return min(steps, math.ceil(left / (self._step_charge if self._step_charge > 0 else seconds)))

    def _chunk(self, steps: int) -> None:
        before = self.clock.seconds.get("train", 0.0)
        with self.clock.phase("train"):
            losses: list[jax.Array] = []
            for _ in range(steps):
                self.state, result = self.functions.step(self.state, self.batches.batch_at(self.steps))
                self.steps += 1
                losses.append(result.token_losses)
            mean = float(np.mean([np.asarray(loss, np.float64).mean() for loss in losses]))
        self._last_chunk = steps
        seconds = self.clock.seconds["train"] - before
        self._step_seconds.append(seconds / steps)
        self.meter.charge(steps, seconds)
        self._step_charge = self.spent / self.steps
        if not math.isfinite(mean):
            raise NonFiniteLoss(f"its training loss became infinite or not a number within {self.steps} steps")
        self.loss = mean
        self.curve.append((self.spent, self.steps, mean))
